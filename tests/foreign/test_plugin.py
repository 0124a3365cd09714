"""The plugin that `nox -s foreign` loads, on an application of the same make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.compare import faults, ratio

pytest_plugins = ["pytester"]

APPLICATION = """
from sqlalchemy import Column, ForeignKey, Integer, String, create_engine
from sqlalchemy.orm import declarative_base, relationship, sessionmaker

Base = declarative_base()

class Study(Base):
    __tablename__ = "studies"
    id = Column(Integer, primary_key=True)
    name = Column(String(512), unique=True, nullable=False)
    trials = relationship("Trial", cascade="all, delete-orphan")

class Trial(Base):
    __tablename__ = "trials"
    id = Column(Integer, primary_key=True)
    study_id = Column(Integer, ForeignKey("studies.id"))

def started(url):
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    return sessionmaker(engine)
"""

TESTS = """
import sqlite3
import pytest
from application import Study, Trial, started

@pytest.mark.parametrize("place", ["", "/app.db"])
def test_cascade(tmp_path, place):
    sessions = started(f"sqlite:///{tmp_path}{place}" if place else "sqlite://")
    with sessions.begin() as session:
        session.add(Study(name="a", trials=[Trial(), Trial()]))
        session.add(Study(name="b", trials=[Trial()]))
    with sessions.begin() as session:
        session.delete(session.query(Study).filter_by(name="a").one())
        assert 1 == session.query(Trial).count()
    sessions.kw["bind"].dispose()

def test_that_fails():
    assert 1 == 2

def test_behind(tmp_path):
    sessions = started(f"sqlite:///{tmp_path}/app.db")
    with sessions.begin() as session:
        session.add(Study(name="a"))
    driver = sqlite3.connect(tmp_path / "app.db")
    driver.execute("UPDATE studies SET name = 'b'")
    driver.commit()
    driver.close()
"""


def run(pytester: pytest.Pytester, *options: str) -> tuple[pytest.RunResult, Any]:
    """Run the tests of the application with the plugin; return what was noted as well."""
    pytester.makepyfile(application=APPLICATION, test_application=TESTS)
    run = pytester.runpytest_subprocess(
        "-p", "mirroring_plugin", "-p", "no:cacheprovider", "--costs", "costs.json", *options
    )
    return run, json.loads((pytester.path / "costs.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def test_an_application_with_its_models_mirrored(pytester: pytest.Pytester) -> None:
    """Its tests end the same, rows have lines, and a row written behind the store is an error."""
    _, alone = run(pytester)
    result, mirrored = run(pytester, "--mirror", "application:Base")
    result.assert_outcomes(passed=3, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*studies/*: row: *"])
    assert (0, 3) == (alone["stores"], mirrored["stores"])
    # Five rows and the tombstones of three, in each of two stores; one row in the third.
    assert (0, 17) == (alone["lines"], mirrored["lines"])
    [fault] = [one for one in faults(alone, mirrored) if one.startswith("test_")]
    assert "test_behind: passed without us, failed in teardown with us" == fault.partition("::")[2]
    assert 0 < ratio(alone, mirrored)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"outcomes": {}}, "a: passed without us, not run with us"),
        ({"lines": 0}, "no line was written"),
        ({"tests": {"a": 1.5}}, "processor time"),
    ],
)
def test_what_a_comparison_finds(change: dict[str, Any], fault: str | None) -> None:
    """A test that ends otherwise, a run that mirrored nothing and one that took long are faults."""
    alone = {"outcomes": {"a": "passed"}, "tests": {"a": 1.0}, "lines": 0}
    found = list(faults(alone, {**alone, "lines": 5, **change}))
    assert [fault] == [one[: len(fault)] for one in found] if fault else [] == found
