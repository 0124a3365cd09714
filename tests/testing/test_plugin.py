"""The fixtures for pytest, in test runs of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from taskstore import testing

pytestmark = pytest.mark.public
pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]

PLANS = """
import sqlite3
import pytest
from taskstore import AsyncStore, Store, indexed, record

@record("plans")
class Plan:
    id: str
    title: str = ""
    status: str = indexed(default="draft")
    updated_at: int = 0

@pytest.fixture
def taskstore_types():
    return [Plan]

def spoil(store):
    driver = sqlite3.connect(store.path / "taskstore.db")
    driver.execute("UPDATE records SET data_json = '{\\"id\\":\\"a\\"}'")
    driver.commit()
    driver.close()
"""


def outcomes(pytester: pytest.Pytester, code: str, *options: str) -> pytest.RunResult:
    """Run some tests with the plugin, in a process of their own."""
    pytester.makepyfile(PLANS + code)
    return pytester.runpytest_subprocess(
        "-p", "taskstore.testing", "-p", "no:cacheprovider", "-W", "error", *options
    )


def test_each_test_has_a_store_of_its_own(pytester: pytest.Pytester) -> None:
    """A store is empty, knows the types, and is closed and gone with its test."""
    run = outcomes(
        pytester,
        """
opened = []

@pytest.mark.parametrize("number", [1, 2])
def test_one(taskstore_store, taskstore_make, number):
    assert all(store._context.closed for store in opened)
    assert 0 == taskstore_store.count(Plan)
    taskstore_store.create(Plan("a"))
    opened.append(taskstore_store)
    assert taskstore_make().path != taskstore_store.path
""",
    )
    run.assert_outcomes(passed=2)


def test_a_difference_is_an_error(pytester: pytest.Pytester) -> None:
    """A cache that says something else than its log is named, in the teardown of the test."""
    run = outcomes(
        pytester,
        """
def test_store(taskstore_store):
    taskstore_store.create(Plan("a", "one"))
    spoil(taskstore_store)

@pytest.mark.parametrize("leave_open", [True, False])
def test_own(tmp_path, taskstore_check, leave_open):
    store = Store.open(tmp_path / ".taskstore", types=[Plan])
    taskstore_check(store)
    store.create(Plan("a", "one"))
    spoil(store)
    if not leave_open:
        store.close()

def test_asyncio(tmp_path, taskstore_check):
    import asyncio
    async def main():
        async with AsyncStore.open(tmp_path / ".taskstore", types=[Plan]) as store:
            taskstore_check(store)
            await store.create(Plan("a", "one"))
            spoil(store)
    asyncio.run(main())
""",
    )
    run.assert_outcomes(passed=4, errors=4)
    run.stdout.fnmatch_lines(["*log and cache differ in plans/a (different): *one*"])


def test_what_is_no_difference(pytester: pytest.Pytester) -> None:
    """A log that others wrote to, a line that is no record, a removed directory: all are well."""
    run = outcomes(
        pytester,
        """
import shutil

def test_appended(taskstore_store):
    taskstore_store.create(Plan("a", "one"))
    with (taskstore_store.path / "plans.jsonl").open("a") as log:
        log.write('{"id":"b","updated_at":1}\\nno record\\n')

def test_removed(tmp_path, taskstore_check):
    with Store.open(tmp_path / ".taskstore", types=[Plan]) as store:
        taskstore_check(store)
        store.create(Plan("a", "one"))
    shutil.rmtree(store.path)

def test_read_only(taskstore_store, taskstore_make):
    taskstore_store.create(Plan("a", "one"))
    assert 1 == taskstore_make(Plan, path=taskstore_store.path, read_only=True).count(Plan)
""",
    )
    run.assert_outcomes(passed=3)


def test_a_store_on_an_engine_must_still_be_open(pytester: pytest.Pytester) -> None:
    """One that cannot be checked any more is not passed over in silence."""
    run = outcomes(
        pytester,
        """
from sqlalchemy import create_engine

def test_closed(tmp_path, taskstore_check):
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    with Store.open(tmp_path / ".taskstore", engine=engine, migrate=True) as store:
        taskstore_check(store)
    engine.dispose()
""",
    )
    run.assert_outcomes(passed=1, errors=1)
    run.stdout.fnmatch_lines(["*closed before it could be checked*verify()*"])


def test_a_row_that_was_never_logged_is_an_error(pytester: pytest.Pytester) -> None:
    """A mirrored row without its line fails the test that left it so."""
    run = outcomes(
        pytester,
        """
import sqlite3
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from taskstore import mirrored

class Base(DeclarativeBase):
    pass

@mirrored("tasks")
class Task(Base):
    __tablename__ = "tasks"
    id: Mapped[str] = mapped_column(primary_key=True)
    updated_at: Mapped[int]

@pytest.mark.parametrize("behind", [False, True])
def test_task(tmp_path, taskstore_check, behind):
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    Base.metadata.create_all(engine)
    store = Store.open(tmp_path / ".taskstore", engine=engine, mirrors=[Task], migrate=True)
    taskstore_check(store)
    sessions = sessionmaker(engine)
    store.attach(sessions)
    with sessions.begin() as session:
        session.add(Task(id="1"))
    if behind:
        # Another program, which opens no store.
        driver = sqlite3.connect(tmp_path / "app.db")
        driver.execute("INSERT INTO tasks VALUES ('2', 1)")
        driver.commit()
        driver.close()
""",
    )
    run.assert_outcomes(passed=2, errors=1)
    run.stdout.fnmatch_lines(["tasks/2: a row of 'tasks' that was never logged*"])


def test_it_costs_nothing_where_it_is_not_used(pytester: pytest.Pytester) -> None:
    """A run that uses no fixture loads nothing of Taskstore but the plugin."""
    pytester.makepyfile(
        """
import sys

def test_loaded():
    ours = {name for name in sys.modules if name.startswith("taskstore")}
    assert {"taskstore", "taskstore.testing"} == ours
    assert not {"sqlalchemy", "msgspec", "attrs"} & set(sys.modules)
"""
    )
    run = pytester.runpytest_subprocess("-p", "taskstore.testing", "-p", "no:hypothesispytest")
    run.assert_outcomes(passed=1)


def test_its_names_are_prefixed() -> None:
    """Every fixture has the library's name in front, and the entry point that of the module."""
    assert [] == [name for name in testing.__all__ if not name.startswith("taskstore_")]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '\n"taskstore.testing" = "taskstore.testing"\n' in project


def test_the_package_does_not_import_pytest() -> None:
    """Programs that are not tests do not load pytest."""
    code = "import sys; from taskstore import *; sys.exit('pytest' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode
