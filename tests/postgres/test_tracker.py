"""The example application on PostgreSQL: another URL, and the lines that SQLite writes."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, select
from sqlalchemy.orm import sessionmaker

from taskstore import Store, mirror_all
from tests.applications.tracker import imported, laid_out
from tests.docs.pages import ROOT


@contextmanager
def _opened(url: URL | str, path: Path, models: Any) -> Iterator[tuple[Store, Any]]:
    """The application's store and sessions on a database."""
    engine = create_engine(url)
    models.Base.metadata.create_all(engine)
    mirrors = mirror_all(models.Base, exclude=["comments"])
    with Store.open(path, engine=engine, mirrors=mirrors, migrate=True) as store:
        sessions = sessionmaker(engine)
        store.attach(sessions)
        yield store, sessions
    engine.dispose()


def _lines(path: Path) -> dict[str, list[str]]:
    return {log.stem: log.read_text().splitlines() for log in sorted(path.glob("*.jsonl"))}


def _rows(sessions: Any, models: Any) -> list[Any]:
    with sessions() as session:
        return [
            (task.id, task.title, task.watchers, task.owner.name, [one.name for one in task.labels])
            for task in session.scalars(select(models.Task).order_by(models.Task.title))
        ]


def _pulled(source: Path, target: Path) -> None:
    for path in source.glob("*.jsonl"):
        shutil.copy(path, target / path.name)


def test_the_example_needs_another_url_alone(
    new_database: Callable[[], URL], tmp_path: Path
) -> None:
    """Clones on PostgreSQL and SQLite write the same lines, and read each other's."""
    folder = laid_out(tmp_path / "application", tracked=False)
    pg, lite = tmp_path / "pg", tmp_path / "lite"
    # The application writes naive times in UTC.
    url = new_database().update_query_dict({"options": "-ctimezone=UTC"})
    with imported(folder):
        from tracker import models

        with (
            _opened(url, pg, models) as (store, sessions),
            _opened(f"sqlite:///{tmp_path}/lite.db", lite, models) as (other, others),
        ):
            with sessions.begin() as session:
                owner = models.Person(name="Ada")
                labels = [models.Label(name="urgent")]
                for title in ("one", "two"):
                    task = models.Task(title=title, owner=owner, labels=labels, watchers=["x", "y"])
                    session.add(task)
            store.sync()
            _pulled(pg, lite)
            assert [] == other.sync().problems
            assert _rows(sessions, models) == _rows(others, models)
            before = _lines(lite)
            assert 0 == other.export()
            with others.begin() as session:
                session.scalars(select(models.Task)).first().title = "changed"
            after = _lines(lite)
            assert 1 == len(after["tasks"]) - len(before["tasks"])
            old, new = (json.loads(lines["tasks"][-1]) for lines in (before, after))
            assert list(old) == list(new)
            _pulled(lite, pg)
            assert [] == store.sync().problems
            assert _rows(sessions, models) == _rows(others, models)
            assert 0 == store.export()
            assert _lines(pg) == _lines(lite)
            assert store.verify().ok
            assert other.verify().ok


def test_the_issue_tracker_tells_the_same_story(
    new_database: Callable[[], URL], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example for records of the store lists and changes the same issues on PostgreSQL."""
    example = runpy.run_path(str(ROOT / "docs" / "examples" / "issue_tracker.py"))
    engine = create_engine(new_database())
    stories = []
    kinds: dict[str, Any] = {"lite": {}, "pg": {"engine": engine, "ack": "log", "migrate": True}}
    for name, options in kinds.items():
        folder = tmp_path / name
        folder.mkdir()
        log = Path(shutil.copy(example["LOG"], folder))
        with Store.open(folder, types=[example["Issue"]], **options) as store:
            example["list_open"](store)
            example["change_one"](store, log)
        listed, _, line = capsys.readouterr().out.partition("{")
        changed = json.loads("{" + line)
        stories.append((listed, changed["id"], changed["comments"][-1]["text"], list(changed)))
    engine.dispose()
    assert stories[0] == stories[1]
