"""What the crash tests share: two collections, checks of a directory, and how long to go on."""

from __future__ import annotations

import os
import shutil
import sqlite3
import zlib
from pathlib import Path
from typing import Any

from taskstore import Store, indexed, record
from taskstore._log.gate import Gate
from taskstore._log.layout import Layout
from taskstore._log.locks import directory_lock, hold_descriptor
from tests.store.reader import replay

LONG = os.environ.get("TASKSTORE_CRASH") == "long"
"""Whether the long run was asked for."""


@record("plans")
class Plan:
    """A record of the first collection."""

    id: str
    title: str = ""
    group: int = indexed(default=0)
    plans: int = 0
    tasks: int = 0
    updated_at: int = 0


@record("tasks")
class Task:
    """A record of the second collection."""

    id: str
    title: str = ""
    group: int = indexed(default=0)
    plans: int = 0
    tasks: int = 0
    updated_at: int = 0


TYPES: dict[str, Any] = {"plans": Plan, "tasks": Task}


def logs(directory: Path) -> dict[str, bytes]:
    """The bytes of every log that is not empty."""
    found = {path.stem: path.read_bytes() for path in sorted(directory.glob("*.jsonl"))}
    return {name: data for name, data in found.items() if data}


def told(directory: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The live records by the logs alone, as the independent reader has them."""
    return {
        (collection, id): line.record
        for collection, data in logs(directory).items()
        for id, line in replay(data).items()
        if not line.deleted
    }


def served(store: Store) -> dict[tuple[str, str], dict[str, Any]]:
    """The live records by the store."""
    return {(collection, row["id"]): row for collection in TYPES for row in store.list(collection)}


def check_cache(store: Store) -> None:
    """The cache is the replay of the logs, by a reader of the test's own and by `verify`."""
    assert told(store.path) == served(store)
    assert () == store.verify().differences


def check_released(store: Store) -> None:
    """No lock is held, no log is open, and no transaction is open in the pool."""
    layout = Layout(store.path)
    for lock in (directory_lock(layout), Gate(layout)):
        assert lock.try_acquire()
        lock.close()
    for path in store.path.glob("*.jsonl"):
        fd = os.open(path, os.O_RDONLY)
        try:
            assert hold_descriptor(fd, 0)
        finally:
            os.close(fd)
    assert [] == open_logs(store.path)
    pool: Any = store.engine.pool
    assert 0 == pool.checkedout()
    connection = store.engine.raw_connection()
    try:
        assert isinstance(connection.driver_connection, sqlite3.Connection)
        assert not connection.driver_connection.in_transaction
    finally:
        connection.close()


def open_logs(directory: Path) -> list[str]:
    """The logs and journals that this process has open, where the system tells."""
    found = []
    for entry in Path("/proc/self/fd").glob("*"):
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith(f"{directory}/"):
            found.append(target)
    return [name for name in found if ".jsonl" in name or name.endswith("taskstore.journal")]


def steps(most: int, *case: object) -> range:
    """The calls at which to act: all in the long run, otherwise a share that is the case's own."""
    stride = 1 if LONG else 5
    return range(
        1 + zlib.crc32(repr([getattr(part, "__name__", part) for part in case]).encode()) % stride,
        most,
        stride,
    )


def copy(template: Path, target: Path) -> Path:
    """A copy of a closed store, in place of what was there."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(template, target)
    return target
