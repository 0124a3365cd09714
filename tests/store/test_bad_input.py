"""What is wrong around a store: each a typed error that names it and says what to do."""

from __future__ import annotations

import os
import pickle
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskstore import (
    InvalidDeclarationError,
    InvalidNameError,
    LockTimeoutError,
    LogWriteError,
    Store,
    StoreAccessError,
    StoreVersionError,
    TaskstoreError,
    indexed,
    record,
)
from tests.store.plans import Plan, append, ids, listing, log_path, read_log

pytestmark = pytest.mark.public

HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT if sys.argv[2] == "file" else os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: Path, kind: str) -> Iterator[None]:
    """A process of its own that holds a lock on a file or directory."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert "held\n" == process.stdout.readline()
        yield
        process.communicate("")


@contextmanager
def write_locked(path: Path) -> Iterator[None]:
    """Another connection that holds a database's write lock."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("found", ["2", "99", "1.5", "garbage", "", "-1", "1\n1", "\x00"], ids=repr)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_version_that_is_not_ours_is_refused(
    directory: Path, found: str, read_only: bool
) -> None:
    """A `.version` that is greater or garbled is named with the remedy, and nothing is touched."""
    Store.open(directory).close()
    (directory / ".version").write_text(found)
    before = listing(directory)
    remedy = "pip install --upgrade" if found.isdecimal() else "damaged: restore it"
    with pytest.raises(StoreVersionError, match=rf"not supported.*{remedy}") as caught:
        Store.open(directory, read_only=read_only)
    assert (str(directory), found.strip(), 1) == (
        caught.value.path,
        caught.value.found,
        caught.value.supported,
    )
    assert before == listing(directory)


def test_a_directory_without_a_version_is_of_the_first(directory: Path) -> None:
    """A missing `.version` is written, with a newline or without it is read."""
    directory.mkdir()
    append(directory, {"id": "a", "updated_at": 1})
    with Store.open(directory) as store:
        assert 1 == store.count("plans")
    assert "1" == (directory / ".version").read_text().strip()
    (directory / ".version").write_text(" 1 \n")
    Store.open(directory).close()


@pytest.mark.parametrize("place", ["the directory", "its parent"])
def test_a_file_in_the_directorys_place_is_named(tmp_path: Path, place: str) -> None:
    """A file where the directory, or one above it, should be is an error with the path."""
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file" / ".taskstore" if place == "its parent" else tmp_path / "file"
    with pytest.raises(StoreAccessError, match="cannot .*the path"):
        Store.open(path)
    assert "mine" == (tmp_path / "file").read_text()
    assert ["file"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
def test_a_directory_that_cannot_be_made_is_named() -> None:
    """Where the system makes no directory the error names path and reason, and is an OSError."""
    path = Path("/proc/self/.taskstore")
    with pytest.raises(StoreAccessError, match=r"cannot create '/proc/self/\.taskstore'") as caught:
        Store.open(path)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno is not None


@pytest.mark.skipif(os.geteuid() == 0, reason="modes do not bind the superuser")
def test_a_directory_that_cannot_be_written_is_named(directory: Path) -> None:
    """A directory without write permission is an error that names read_only as the remedy."""
    directory.mkdir(mode=0o555)
    with pytest.raises(StoreAccessError, match="read_only=True reads without writing"):
        Store.open(directory)
    directory.chmod(0o755)


def test_a_log_that_is_no_file_cannot_be_written(store: Store) -> None:
    """A directory in a log's place: the write raises with path and step, and leaves no row."""
    log_path(store.path).mkdir()
    said = r"plans\.jsonl.*rolled back; check that it is a regular file"
    with pytest.raises(LogWriteError, match=said) as caught:
        store.create(Plan("a"))
    assert isinstance(caught.value, OSError)
    assert [] == ids(store)
    log_path(store.path).rmdir()
    store.create(Plan("a"))
    assert ["a"] == ids(store)


def test_a_log_that_is_a_link_is_not_written(store: Store, tmp_path: Path) -> None:
    """A symbolic link in a log's place is not followed: what it names stays as it was."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"theirs\n")
    log_path(store.path).symlink_to(outside)
    with pytest.raises((LogWriteError, StoreAccessError)):
        store.create(Plan("a"))
    assert b"theirs\n" == outside.read_bytes()
    assert log_path(store.path).is_symlink()


@pytest.mark.parametrize("lock", ["gate", "log lock", "data file", "cache's write lock"])
def test_a_held_lock_is_named_and_nothing_is_lost(directory: Path, lock: str) -> None:
    """A write that gets no lock in time raises with lock and timeout; later it goes through."""
    with Store.open(directory, types=[Plan], lock_timeout=0.05) as store:
        plan = store.create(Plan("a"))
        log = read_log(directory)
        places: dict[str, Any] = {
            "gate": lambda: held(directory / "taskstore.gate", "file"),
            "log lock": lambda: held(directory, "directory"),
            "data file": lambda: held(log_path(directory), "file"),
            "cache's write lock": lambda: write_locked(directory / "taskstore.db"),
        }
        with places[lock]():
            started = time.monotonic()
            with pytest.raises(LockTimeoutError, match=rf"{lock}.*0\.05 s.*lock_timeout") as caught:
                store.create(Plan("b"))
            assert isinstance(caught.value, TimeoutError)
            plan.title = "new"
            with pytest.raises(LockTimeoutError):
                store.update(plan)
            assert time.monotonic() - started < 10
            assert (["a"], log) == (ids(store), read_log(directory))
        assert "" == store.get_one(Plan, "a").title
        store.create(Plan("b"))
        store.update(plan)
        assert ["a", "b"] == ids(store)


def test_who_waits_for_the_gate_holds_no_database_lock(directory: Path) -> None:
    """The gate comes first: when both are held it is the gate that a writer complains of."""
    with Store.open(directory, types=[Plan], lock_timeout=0.05) as store, ExitStack() as others:
        others.enter_context(held(directory / "taskstore.gate", "file"))
        others.enter_context(write_locked(directory / "taskstore.db"))
        with pytest.raises(LockTimeoutError, match="the gate was held"):
            store.create(Plan("a"))


@pytest.mark.parametrize("lock", ["gate", "log lock", "cache's write lock"])
def test_readers_wait_for_no_lock(directory: Path, lock: str) -> None:
    """While any lock is held and the log only grew, readers are served at once from the cache."""
    with Store.open(directory, types=[Plan]) as store:
        store.create(Plan("a"))
        places: dict[str, Any] = {
            "gate": lambda: held(directory / "taskstore.gate", "file"),
            "log lock": lambda: held(directory, "directory"),
            "cache's write lock": lambda: write_locked(directory / "taskstore.db"),
        }
        with places[lock]():
            append(directory, {"id": "b", "updated_at": 1})
            started = time.monotonic()
            assert ["a"] == ids(store)
            assert time.monotonic() - started < 10
        assert ["a", "b"] == ids(store)


def test_every_error_travels_between_processes(directory: Path) -> None:
    """An error from the store survives pickling, with message and facts."""
    (directory.parent / "file").write_text("")
    calls: tuple[Any, ...] = (
        lambda: Store.open(directory.parent / "file"),
        lambda: Store.open(directory, create=False),
        lambda: Store.open(directory).get_one("bad name", "a"),
    )
    for call in calls:
        with pytest.raises(TaskstoreError) as caught:
            call()
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(caught.value), vars(caught.value)) == (str(again), vars(again))


def test_a_wrong_type_is_refused_at_open(directory: Path) -> None:
    """What is not a record class is refused by `open` with its name, and no store stays open."""
    wrong: Any
    for wrong in (dict, int, 7):
        with pytest.raises(InvalidDeclarationError):
            Store.open(directory, types=[wrong])


def test_wrong_declarations_raise_at_once() -> None:
    """A bad collection name, a missing id or a reserved field raises at class definition."""
    with pytest.raises(InvalidNameError, match="bad name"):
        record("bad name")
    with pytest.raises(InvalidDeclarationError, match="NoId"):

        @record("plans")
        class NoId:
            title: str

    with pytest.raises(InvalidDeclarationError, match="deleted"):

        @record("plans")
        class Reserved:
            id: str
            deleted: bool = False

    with pytest.raises(InvalidDeclarationError, match="tags"):

        @record("plans")
        class BadIndex:
            id: str
            tags: list[str] = indexed(factory=list)
