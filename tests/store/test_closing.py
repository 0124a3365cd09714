"""Ends that come at a bad time: a rollback, and a close under other threads."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy.orm import sessionmaker

from taskstore import Store, StoreClosedError, record
from taskstore.models import StoredRecord
from tests.store.plans import Clock, Plan

pytestmark = pytest.mark.public

WRITERS = 4


@record("notes")
class Note:
    """A record that carries no version."""

    id: str
    text: str = ""


@record("frozen-notes", frozen=True)
class FrozenNote:
    """One that cannot be changed either."""

    id: str
    text: str = ""


@pytest.mark.parametrize("note", [Note("a"), FrozenNote("a")])
def test_a_record_without_a_version_is_rolled_back(tmp_path: Path, note: Note) -> None:
    """A rollback raises what the block raised, and leaves nothing, for a class without version."""
    with Store.open(tmp_path / "store") as store:
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.create(note)
            _ = 1 / 0
        with store.session() as session:
            store.save(note)
            session.rollback()
        assert 0 == store.count(type(note))
        assert not (tmp_path / "store" / "notes.jsonl").exists()


def test_every_record_gets_its_version_back(tmp_path: Path) -> None:
    """Records of several classes lose their stamps with the transaction, each its own."""
    plan, note = Plan("a"), Note("b")
    store = Store.open(tmp_path / "store", clock=Clock())
    with store, pytest.raises(ZeroDivisionError), store.transaction():
        store.create(plan)
        store.create(note)
        _ = 1 / 0
    assert (Plan("a"), Note("b")) == (plan, note)


def test_a_close_stops_other_threads_cleanly(tmp_path: Path) -> None:
    """Threads that write while the store is closed are told so, and no lock stays behind."""
    store = Store.open(tmp_path / "store", types=[Note])
    acknowledged: list[str] = []
    ends: list[BaseException] = []
    under_way = Event()

    def write(writer: int) -> None:
        number = 0
        try:
            while True:
                acknowledged.append(store.create(Note(f"{writer}-{number}")).id)
                number += 1
                if number > 5:
                    under_way.set()
        except Exception as error:  # noqa: BLE001 - what it is, is the claim
            ends.append(error)

    threads = [Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    assert under_way.wait(30)
    store.close()
    for thread in threads:
        thread.join(30)
    assert [StoreClosedError] * WRITERS == [type(error) for error in ends]
    with Store.open(tmp_path / "store", types=[Note], lock_timeout=5) as again:
        again.create(Note("after"))
        assert {"after", *acknowledged} == {note.id for note in again.list(Note)}


@pytest.mark.parametrize("attached", [False, True], ids=["own", "attached"])
def test_a_closed_store_is_forgotten(tmp_path: Path, attached: bool) -> None:
    """Nothing in the process keeps a store that was closed, so that one can be opened all day."""
    # Nothing is flushed here: SQLAlchemy keeps the engines of the last hundred statements or so.
    factory = sessionmaker()
    store = Store.open(tmp_path / ".taskstore", types=[Plan])
    if attached:
        factory.configure(bind=store.engine)
        store.attach(factory)
        with factory() as session:
            assert session.get(StoredRecord, ("plans", "a")) is None
        factory.configure(bind=None)
    store.create(Plan("a"))
    with store.session() as session:
        assert session.get(StoredRecord, ("plans", "a")) is not None
    assert store.exists(Plan)
    store.close()
    seen: list[weakref.ref[Any]] = [weakref.ref(store), weakref.ref(store.engine)]
    del store, session
    gc.collect()
    assert [None, None] == [reference() for reference in seen]
