"""Directories of the library's older relatives open as they are."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from taskstore import Store, indexed, record, where

pytestmark = pytest.mark.public


@record("tasks")
class Task:
    """What the old directories hold."""

    id: str
    title: str
    status: str = indexed()
    priority: int = indexed()
    body: str = ""
    updated_at: int = 0


@pytest.fixture(params=["first", "second", "current"])
def old(request: pytest.FixtureRequest, repository_root: Path, directory: Path) -> Path:
    """A copy of an old directory."""
    shared = repository_root.parent / "shared" / "corpus" / "directories"
    source = shared / request.param / ".taskstore"
    if not source.exists():
        pytest.skip(f"{source} is not on this machine")
    shutil.copytree(source, directory, copy_function=shutil.copyfile)
    directory.chmod(0o755)
    return directory


def newest(log: bytes) -> dict[str, Any]:
    """The latest line of each id, the later one among equals."""
    found: dict[str, Any] = {}
    for row in map(json.loads, log.splitlines()):
        if row["id"] not in found or row["updated_at"] >= found[row["id"]]["updated_at"]:
            found[row["id"]] = row
    return found


def check(directory: Path, expected: dict[str, Any]) -> None:
    """Open a store and compare it with the replay of its log."""
    with Store.open(directory, types=[Task]) as store:
        assert 25 == store.count(Task)
        assert expected == {row["id"]: row for row in store.list("tasks")}
        for status in {row["status"] for row in expected.values()}:
            wanted = {id for id, row in expected.items() if row["status"] == status}
            assert wanted == {task.id for task in store.list(Task, where(Task.status) == status)}
            assert wanted == {row["id"] for row in store.list("tasks", where("status") == status)}
        urgent = {id for id, row in expected.items() if row["priority"] > 2}
        assert urgent == {task.id for task in store.list(Task, where("priority") > 2)}
        assert not store.is_stale()


def test_an_old_directory_opens_with_all_records(old: Path) -> None:
    """All 25 records are there and can be filtered, and not a byte of the log changed."""
    log = (old / "tasks.jsonl").read_bytes()
    check(old, newest(log))
    assert log == (old / "tasks.jsonl").read_bytes()
    assert b"1" == (old / ".version").read_bytes().strip()


def test_an_old_directory_opens_twice(old: Path) -> None:
    """What the first open adopted and upgraded serves the second as well, and can be written."""
    log = (old / "tasks.jsonl").read_bytes()
    for _ in range(2):
        check(old, newest(log))
    assert log == (old / "tasks.jsonl").read_bytes()
    with Store.open(old, types=[Task]) as store:
        task = store.get_one(Task, "task-00000000")
        task.status = "done"
        store.update(task)
    check(old, newest((old / "tasks.jsonl").read_bytes()))


def test_an_old_directory_opens_in_two_threads_at_once(old: Path) -> None:
    """Two threads that open it at once upgrade its cache once, and both see all records."""
    log = (old / "tasks.jsonl").read_bytes()
    barrier = Barrier(2)

    def work(_: int) -> None:
        barrier.wait()
        check(old, newest(log))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert log == (old / "tasks.jsonl").read_bytes()


def test_the_ignore_file_of_an_old_directory_only_gains_lines(old: Path) -> None:
    """What the old `.gitignore` says stays; what is new beside the cache is added."""
    before = (old / ".gitignore").read_text().splitlines()
    Store.open(old).close()
    after = (old / ".gitignore").read_text().splitlines()
    assert before == after[: len(before)]
    assert {"taskstore.db", "taskstore.gate"} <= set(after)
