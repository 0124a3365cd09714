"""Stores on one directory, the directory itself, and what is expected of both."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import attrs
from sqlalchemy.orm import Session

from taskstore import Store
from tests.store.declared import INDEXED, TYPES, fits, index_rows, meant
from tests.store.outside import Cache, read_log
from tests.store.reader import replay

Key = tuple[str, str]


class AbandonedError(Exception):
    """Raised inside of a transaction, to leave it."""


@attrs.frozen
class Entry:
    """What is expected of an id: its fields, None for a dead record, and its version.

    Attributes:
        fields: The JSON of the line.
        order_us: The version in microseconds; None where it is not predicted.
        born: Whether it exists only in the open transaction.
    """

    fields: dict[str, Any] | None
    order_us: int | None
    born: bool = False


@attrs.define
class Frame:
    """A transaction or savepoint that is open, and the ways to leave it."""

    session: Session
    keep: Callable[[], object]
    drops: Sequence[Callable[[], object]]
    view: dict[Key, Entry]
    stamps: list[tuple[Any, Any]] = attrs.field(factory=list)


@cache
def _template() -> Path:
    """A directory with an empty cache, so that not every example has to migrate one."""
    path = Path(tempfile.mkdtemp()) / ".taskstore"
    Store.open(path).close()
    return path


class World:
    """One directory, the stores that are open on it, and the transaction that one of them is in."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / ".taskstore"
        shutil.copytree(_template(), self.path)
        self.now = 1_000_000
        self.stores: dict[str, Store] = {}
        self.refresh: dict[str, bool] = {}
        self.typed: dict[str, bool] = {}
        self.frames: list[Frame] = []
        self.held: list[Any] = []
        self.holder = "one"
        self.disturbed = False
        self.disk = dict.fromkeys(TYPES, b"")
        self.open("one", typed=True, refresh=True)

    def close(self) -> None:
        """Leave what is open."""
        while self.frames:
            self.frames.pop().drops[0]()
        for store in self.stores.values():
            store.close()
        self.folder.cleanup()

    def open(self, name: str, *, typed: bool, refresh: bool) -> None:
        """Open a store, after closing the one that had its name."""
        if name in self.stores:
            self.stores.pop(name).close()
        self.stores[name] = Store.open(
            self.path,
            types=TYPES.values() if typed else (),
            refresh=refresh,
            lock_timeout=5.0,
            clock=lambda: self.now,
        )
        self.refresh[name] = refresh

    def log(self, collection: str) -> Path:
        """The path of a log."""
        return self.path / f"{collection}.jsonl"

    def on_disk(self) -> dict[str, bytes]:
        """The bytes of all logs."""
        return {collection: read_log(self.log(collection)) for collection in TYPES}

    def replayed(self) -> dict[Key, Entry]:
        """What the logs say, as the independent reader has it."""
        return {
            (collection, id): Entry(None if line.deleted else line.record, line.order_us)
            for collection, data in self.on_disk().items()
            for id, line in replay(data).items()
        }

    @property
    def view(self) -> dict[Key, Entry]:
        """What the open transaction is expected to see; else what the logs say."""
        return self.frames[-1].view if self.frames else self.replayed()

    def alive(self, collection: str | None = None) -> list[Key]:
        """The keys of live records."""
        return sorted(
            key
            for key, entry in self.view.items()
            if entry.fields is not None and collection in (None, key[0])
        )

    # -- transactions

    def begin(self, name: str, kind: str) -> None:
        """Open a transaction in a store."""
        store = self.stores[name]
        if not self.refresh[name]:
            store.sync()
        manager = store.transaction() if kind == "transaction" else store.session()
        session = manager.__enter__()
        session.connection()
        self.holder, self.disturbed = name, False

        def commit() -> None:
            session.commit()
            manager.__exit__(None, None, None)

        def leave() -> None:
            manager.__exit__(None, None, None)

        def roll_back() -> None:
            session.rollback()
            manager.__exit__(None, None, None)

        keep = leave if kind == "transaction" else commit
        drops: list[Callable[[], object]] = [lambda: abandon(manager), roll_back]
        if kind == "session":
            drops.append(leave)
        self.frames.append(Frame(session, keep, drops, self.replayed()))

    def nest(self, kind: str) -> None:
        """Open a savepoint, in one of the three ways there are."""
        outer = self.frames[-1]
        store = self.stores[self.holder]
        view = dict(outer.view)
        if kind == "savepoint":
            nested = outer.session.begin_nested()
            frame = Frame(outer.session, nested.commit, [nested.rollback], view)
        elif kind == "transaction":
            manager = store.transaction()
            session = manager.__enter__()
            frame = Frame(
                session,
                lambda: manager.__exit__(None, None, None),
                [lambda: abandon(manager)],
                view,
            )
        else:
            inner_manager = store.session()
            inner = inner_manager.__enter__()

            def commit() -> None:
                inner.commit()
                inner_manager.__exit__(None, None, None)

            frame = Frame(
                inner,
                commit,
                [
                    lambda: abandon(inner_manager),
                    lambda: inner_manager.__exit__(None, None, None),
                ],
                view,
            )
        self.frames.append(frame)

    def keep(self) -> None:
        """Commit the transaction, or release the innermost savepoint."""
        frame = self.frames[-1]
        frame.keep()
        self.frames.pop()
        if self.frames:
            self.frames[-1].view = frame.view
            self.frames[-1].stamps += frame.stamps
        else:
            self.verify_written(frame.view)

    def drop(self, way: int) -> None:
        """Roll back the transaction, or to the innermost savepoint."""
        frame = self.frames.pop()
        frame.drops[way % len(frame.drops)]()
        for record, version in frame.stamps:
            now = record.get("updated_at") if isinstance(record, dict) else record.updated_at
            assert version == now, "a record keeps a stamp that was rolled back"
        if not self.frames:
            self.held.clear()
            assert self.disk == self.on_disk(), "a transaction that was rolled back is in the log"

    # -- writing

    @contextmanager
    def writing(self, name: str) -> Iterator[tuple[Store, dict[Key, Entry]]]:
        """A store call: in the open transaction, or in one of its own."""
        if self.frames:
            yield self.stores[self.holder], self.frames[-1].view
            return
        store = self.stores[name]
        if not self.refresh[name]:
            store.sync()
        self.disturbed = False
        expected = self.replayed()
        yield store, expected
        self.verify_written(expected)

    @contextmanager
    def session(self, name: str) -> Iterator[tuple[Session, dict[Key, Entry]]]:
        """A session: that of the open transaction, or one of its own that is committed."""
        if self.frames:
            yield self.frames[-1].session, self.frames[-1].view
            return
        with self.writing(name) as (store, expected), store.session() as session:
            yield session, expected
            session.commit()

    def stamp(self, entry: Entry | None) -> int | None:
        """The version that a write without a claim gets."""
        if entry is None:
            return self.now * 1000
        if entry.order_us is None:
            return None
        return max(self.now, entry.order_us // 1000 + 1) * 1000

    def put(self, view: dict[Key, Entry], key: Key, fields: dict[str, Any]) -> None:
        """Expect a record to be written."""
        before = view.get(key)
        born = bool(self.frames) and (before is None or before.born)
        view[key] = Entry(fields, self.stamp(before), born)

    def bury(self, view: dict[Key, Entry], key: Key) -> None:
        """Expect a record to be deleted."""
        if view[key].born:
            # The log never hears of it.
            del view[key]
        else:
            view[key] = Entry(None, self.stamp(view[key]))

    # -- what must hold

    def verify_written(self, expected: dict[Key, Entry]) -> None:
        """A transaction left in the logs what was expected of it, and nothing else."""
        if self.disturbed:
            return
        found = self.replayed()
        assert sorted(expected) == sorted(found)
        for key, entry in expected.items():
            seen = found[key]
            if entry.fields is None or seen.fields is None:
                assert entry.fields == seen.fields, f"{key} is dead, or should be"
            else:
                assert meant(key[0], entry.fields) == meant(key[0], seen.fields), key
            assert entry.order_us in (None, seen.order_us), key
        for collection, data in self.on_disk().items():
            added = data.removeprefix(self.disk[collection]).split(b"\n")
            assert len(replay(b"\n".join(added))) == len([line for line in added if line]), (
                "a transaction wrote two lines for one record"
            )

    def verify_logs(self) -> None:
        """Every log still begins with all the bytes that it had."""
        found = self.on_disk()
        for collection, data in found.items():
            assert data.startswith(self.disk[collection]), f"{collection} lost bytes"
        self.disk = found

    def verify_cache(self, name: str) -> None:
        """The cache holds what the logs say, once a store has looked."""
        store = self.stores[name]
        if self.refresh[name]:
            counts = {collection: store.count(collection) for collection in TYPES}
        else:
            store.sync()
            counts = {collection: store.count(collection) for collection in TYPES}
        assert not store.is_stale()
        cache_ = Cache(self.path / "taskstore.db")
        records, tombstones, indexes = {}, {}, {}
        for collection, data in self.on_disk().items():
            declared = {
                field: kind for (of, field), (kind,) in cache_.fields.items() if of == collection
            }
            assert declared in ({}, INDEXED[collection])
            for id, line in replay(data).items():
                times = (line.order_us // 1000, line.order_us)
                if line.deleted:
                    tombstones[collection, id] = times
                    continue
                records[collection, id] = (line.text, *times)
                if declared and (rows := index_rows(collection, line.record)):
                    indexes[collection, id] = rows
        assert records == cache_.records
        assert tombstones == cache_.tombstones
        assert indexes == cache_.indexes
        assert counts == {of: sum(key[0] == of for key in records) for of in TYPES}

    def readable(self, key: Key) -> bool:
        """Whether a live record fits its record type."""
        fields = self.view[key].fields
        return fields is not None and fits(key[0], fields)


def abandon(manager: Any) -> None:
    """Leave a block by an exception."""
    with suppress(AbandonedError):
        error = AbandonedError()
        if not manager.__exit__(AbandonedError, error, None):
            raise error
