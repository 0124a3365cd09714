"""Calls of a store from code that runs inside another call of it, as in a validator."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import attrs
import pytest
from sqlalchemy import select

from taskstore import Store, record
from taskstore._log import files
from taskstore.errors import LogWriteError, RecordExistsError
from taskstore.models import StoredRecord

_waiting: list[Callable[[], Any]] = []


def _run_what_waits(*_: Any) -> None:
    while _waiting:
        _waiting.pop()()


@record("notes")
class Note:
    """A record whose validator calls whatever waits when the store stamps it."""

    id: str
    updated_at: int = attrs.field(default=0, validator=_run_what_waits)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / ".taskstore", types=[Note]) as opened:
        opened.create(Note("first"))
        yield opened
    _waiting.clear()


def _create(store: Store, id: str, inside: Callable[[], Any]) -> None:
    note = Note(id)
    _waiting.append(inside)
    store.create(note)


def _logged(store: Store) -> list[str]:
    """The ids in the log; the cache must have the same."""
    lines = (store.path / "notes.jsonl").read_text().splitlines()
    assert sorted(one.id for one in store.list(Note)) == sorted(
        {line.split('"')[3] for line in lines}
    )
    assert not store.verify().differences
    return [line.split('"')[3] for line in lines]


def test_a_write_in_a_write_is_part_of_it(store: Store) -> None:
    """Both are in the log when the outer one returns, and the next write finds the gate free."""
    _create(store, "outer", lambda: store.create(Note("inner")))
    assert ["first", "outer", "inner"] == _logged(store)
    store.create(Note("next"))
    assert ["first", "outer", "inner", "next"] == _logged(store)


def test_a_write_in_a_write_that_fails_is_undone(store: Store) -> None:
    """If the inner call is refused, the outer one is not in the log either."""
    with pytest.raises(RecordExistsError):
        _create(store, "outer", lambda: store.create(Note("first")))
    assert ["first"] == _logged(store)
    store.create(Note("outer"))
    assert ["first", "outer"] == _logged(store)


def test_a_write_in_a_write_that_the_disk_refuses_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is that of the log, though the rollback takes the notes of the database along."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    # The next connection is a new one, which notes nothing before it is handed over.
    store._cache.close()
    with monkeypatch.context() as full, pytest.raises(LogWriteError, match="no space left"):
        full.setattr(files, "write_all", refuse)
        _create(store, "outer", lambda: store.create(Note("inner")))
    assert ["first"] == _logged(store)


def test_a_session_in_a_write_is_part_of_it(store: Store) -> None:
    """A session that is opened in a call sees its record, and writes in the same transaction."""
    found = []

    def work() -> None:
        with store.session() as session:
            found.extend(session.scalars(select(StoredRecord.id)))
            session.add(StoredRecord.from_record(Note("inner")))
            session.commit()

    _create(store, "outer", work)
    assert ["first", "outer"] == sorted(found)
    assert ["first", "outer", "inner"] == _logged(store)


def test_an_exception_in_a_write_leaves_nothing(store: Store) -> None:
    """After an inner write and any exception, neither is in the log, and the store can write."""

    def work() -> None:
        store.create(Note("inner"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _create(store, "outer", work)
    assert ["first"] == _logged(store)
    store.create(Note("next"))
    assert ["first", "next"] == _logged(store)


def test_a_read_in_a_write_sees_it(store: Store) -> None:
    """A read inside a call is in its transaction."""
    found = []
    _create(store, "outer", lambda: found.append(store.get_one(Note, "outer").id))
    assert ["outer"] == found
    assert ["first", "outer"] == _logged(store)


def test_a_reader_that_replaces_the_cache_of_a_write_misses_nothing(store: Store) -> None:
    """The write was committed to a removed file, and the new one is read from the log."""
    found: list[list[str]] = []
    reader = Thread(target=lambda: found.append([one.id for one in store.list(Note)]))
    is_leaving, ready = Event(), store._cache._ready

    def remade(seal: Any) -> Any:
        is_leaving.set()
        return ready(seal)

    def remove() -> None:
        for path in store.path.glob("taskstore.db*"):
            path.unlink()
        reader.start()
        assert is_leaving.wait(30)

    store._cache._ready = remade  # type: ignore[method-assign]
    _create(store, "second", remove)
    reader.join()
    assert [{"first", "second"}] == [set(ids) for ids in found]
    assert ["first", "second"] == _logged(store)
