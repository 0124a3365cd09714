"""A store for reading: it serves everything, and writes nothing anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from taskstore import Store, StoreNotFoundError, StoreReadOnlyError, where
from taskstore.models import StoredRecord
from tests.store.plans import Plan, append, ids, listing, read_log

pytestmark = pytest.mark.public

WRITES: dict[str, Callable[[Store], Any]] = {
    "create": lambda store: store.create(Plan("x")),
    "create_many": lambda store: store.create_many([Plan("x"), Plan("y")]),
    "update": lambda store: store.update(Plan("a", "x")),
    "save": lambda store: store.save(Plan("a", "x")),
    "patch": lambda store: store.patch(Plan, "a", title="x"),
    "delete": lambda store: store.delete(Plan, "a"),
    "delete_where": lambda store: store.delete_where(Plan, where("id") == "a"),
    "transaction": lambda store: store.transaction().__enter__(),
}


def look_at_everything(store: Store) -> None:
    """Ask a store whatever can be asked, and have every write refused."""
    assert ["a", "b"] == ids(store)
    assert ["b"] == ids(store, where(Plan.status) == "active")
    assert 2 == len(list(store.iterate("plans", order_by="-title")))
    assert 2 == len(store.page(Plan, limit=5).items)
    assert not store.is_stale()
    assert 1 == len(store.sync(force=True).problems)
    with store.session() as session:
        assert 2 == len(session.scalars(store.select(Plan)).all())
    for write in WRITES.values():
        with pytest.raises(StoreReadOnlyError):
            write(store)
    with pytest.raises(StoreReadOnlyError), store.session() as session:
        session.add(StoredRecord.from_record(Plan("x")))
        session.commit()


@pytest.fixture
def filled(directory: Path) -> Path:
    """A directory with a problem, an unended last line, and no cache."""
    with Store.open(directory, types=[Plan]) as store:
        store.create_many([Plan("a"), Plan("c")])
        store.delete(Plan, "c")
    append(directory, b"{broken", b'{"id":"b","status":"active","updated_at":1}')
    log = directory / "plans.jsonl"
    log.write_bytes(log.read_bytes().rstrip(b"\n"))
    return directory


@pytest.mark.parametrize("state", ["as it is", "without a cache", "bare", "read-only", "old"])
def test_a_read_only_store_writes_nothing(filled: Path, state: str) -> None:
    """Whatever is asked of it, no file is made, changed, touched or removed."""
    if state != "as it is":
        for path in filled.glob("taskstore*"):
            path.unlink()
    if state == "bare":
        (filled / ".gitignore").unlink()
        (filled / ".version").unlink()
    if state == "old":
        (filled / ".gitignore").write_text("taskstore.db\n")
    if state == "read-only":
        for path in filled.iterdir():
            path.chmod(0o444)
        filled.chmod(0o555)
    before = listing(filled.parent)
    with Store.open(filled, types=[Plan], read_only=True) as store:
        assert store.read_only
        look_at_everything(store)
        assert before == listing(filled.parent)
    assert before == listing(filled.parent)
    filled.chmod(0o755)


def test_a_read_only_store_sees_the_log_change(filled: Path) -> None:
    """Lines that others append or rewrite are seen by a store that is open for reading."""
    with Store.open(filled, types=[Plan], read_only=True) as store, Store.open(filled) as writer:
        assert ["a", "b"] == ids(store)
        writer.create(Plan("c"))
        assert ["a", "b", "c"] == ids(store)
        writer.delete("plans", "a")
        append(filled, {"id": "d", "updated_at": 1})
        assert ["b", "c", "d"] == ids(store)
        (filled / "plans.jsonl").unlink()
        assert [] == ids(store)


def test_a_read_only_store_is_for_several_threads(filled: Path) -> None:
    """Threads that share a store for reading, while the log grows, all see whole states."""
    with Store.open(filled, types=[Plan], read_only=True) as store, Store.open(filled) as writer:

        def read(_: int) -> int:
            return store.count(Plan)

        # A reader that finds another at work is served what was there before.
        with ThreadPoolExecutor(4) as pool:
            for number in range(20):
                counts = pool.map(read, range(8))
                writer.create(Plan(f"n{number}"))
                assert all(2 <= count <= 3 + number for count in counts)
        assert 22 == store.count(Plan)


def test_a_read_only_store_needs_a_directory(tmp_path: Path) -> None:
    """Where there is no store one for reading is not made; `find` makes none either."""
    for path in (tmp_path / ".taskstore", tmp_path / "deep" / ".taskstore"):
        with pytest.raises(StoreNotFoundError, match=r"no store at") as caught:
            Store.open(path, read_only=True)
        assert str(path) == caught.value.path
        with pytest.raises(StoreNotFoundError):
            Store.open(path, create=False)
    with pytest.raises(StoreNotFoundError, match="at or above"):
        Store.find(tmp_path)
    assert [] == list(tmp_path.iterdir())


def test_find_walks_up_to_the_nearest_store(filled: Path, tmp_path: Path) -> None:
    """`find` opens the nearest `.taskstore` in a folder or above it, with the options given."""
    below = tmp_path / "one" / "two"
    below.mkdir(parents=True)
    with Store.find(below, types=[Plan], read_only=True) as store:
        assert filled == store.path
        assert ["a", "b"] == ids(store)
    shutil.copytree(filled, below.parent / ".taskstore")
    with Store.find(below) as store:
        assert below.parent / ".taskstore" == store.path


def test_a_store_without_refresh_for_reading_is_filled_by_a_sync(filled: Path) -> None:
    """Read-only and refresh=False together: empty and stale at first, whole after `sync`."""
    with Store.open(filled, types=[Plan], read_only=True, refresh=False) as store:
        assert store.is_stale()
        assert [] == ids(store)
        store.sync()
        assert ["a", "b"] == ids(store)
        log = read_log(filled)
    assert log == read_log(filled)
