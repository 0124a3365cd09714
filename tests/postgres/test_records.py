"""The store's own records on PostgreSQL: transactions, other machines, and pulls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Column, MetaData, Table, Text, create_engine, insert, select, text
from sqlalchemy.orm import sessionmaker

from taskstore import Store, indexed, record, where
from taskstore._postgres.cache import CacheTables
from taskstore._postgres.drain import Drain
from taskstore.errors import (
    InvalidDeclarationError,
    InvalidRecordError,
    LogPendingError,
    RecordExistsError,
    StaleRecordError,
    StoreReadOnlyError,
    UnsupportedError,
    UntrackedWriteError,
)
from taskstore.models import StoredRecord
from tests.postgres.clones import Clone, cloned
from tests.postgres.models import Project, Task


@record("notes")
class Note:
    """A record of the store's own, beside mirrored models."""

    id: str
    body: str = ""
    rank: int = indexed(default=0)
    updated_at: int = 0


def test_records_and_rows_of_models_commit_together(one: Clone) -> None:
    """A transaction of the store writes both, and a rollback undoes both, and the stamps."""
    with one.store.transaction() as session:
        session.add(Project(id="p", name="one"))
        one.store.create(Note("a"))
    note = Note("b")
    with pytest.raises(KeyError), one.store.transaction() as session:
        session.add(Project(id="q", name="two"))
        one.store.create(note)
        assert note == one.store.get(Note, "b")
        raise KeyError
    assert 0 == note.updated_at
    assert ["a"] == list(one.told("notes"))
    assert ["p"] == list(one.told("projects"))
    one.check()


def test_a_savepoint_takes_its_records_back(one: Clone) -> None:
    """A rollback of a nested transaction undoes its writes only."""
    with one.store.transaction():
        one.store.create(Note("a"))
        lost = Note("b")
        with pytest.raises(KeyError), one.store.transaction():
            one.store.create(lost)
            raise KeyError
        assert 0 == lost.updated_at
        with pytest.raises(RecordExistsError):
            one.store.create(Note("a"))
        kept = one.store.create(Note("c"))
    assert 0 < kept.updated_at
    assert ["a", "c"] == sorted(one.told("notes"))


def test_a_session_in_a_transaction_takes_its_records_back(one: Clone) -> None:
    """A rollback of the transaction undoes what the session committed, and the stamps."""
    lost = Note("a")
    with pytest.raises(KeyError), one.store.transaction():
        with one.store.session() as inner:
            one.store.create(lost)
            inner.commit()
        raise KeyError
    assert 0 == lost.updated_at
    assert {} == one.told("notes")


def test_a_committed_record_keeps_its_stamp(
    new_database: Callable[[], URL], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LogPendingError comes after COMMIT: nothing is undone, and the next rollback works."""
    notes = [Note(id) for id in "abcd"]

    def refuse(*arguments: Any) -> None:
        raise OSError("disk full")

    with cloned(new_database(), tmp_path / "one", ack="log") as one:
        with monkeypatch.context() as patched:
            patched.setattr(Drain, "_append", refuse)
            with pytest.raises(LogPendingError):
                one.store.create(notes[0])
            with pytest.raises(LogPendingError), one.store.session() as session, session.begin():
                one.store.create(notes[1])
            with one.store.session() as session:
                one.store.create(notes[2])
                with pytest.raises(LogPendingError):
                    session.commit()
                session.rollback()
                one.store.create(notes[3])
                session.rollback()
        assert [True, True, True, False] == [0 < note.updated_at for note in notes]
        assert ["a", "b", "c"] == sorted(one.told("notes"))


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_a_record_that_came_and_went_meanwhile_is_older(
    one: Clone, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    """A record that is created just after one with its id was deleted is newer than that one."""
    locked = CacheTables.locked
    late = 2**42

    def meanwhile(tables: CacheTables, collection: str, ids: Sequence[str]) -> Any:
        found = locked(tables, collection, ids)
        monkeypatch.undo()
        other = Store.open(None, engine=one.engine, clock=lambda: late)
        with other, other.transaction():
            other.create(Note("a", "theirs"))
            other.delete(Note, "a")
        return found

    engine = one.engine.execution_options(isolation_level=isolation)
    with Store.open(None, engine=engine) as server:
        monkeypatch.setattr(CacheTables, "locked", meanwhile)
        assert late < server.create(Note("a", "mine")).updated_at
    assert "mine" == one.told("notes")["a"]["body"]
    one.check()


def test_a_transaction_writes_one_line_for_each_record(one: Clone) -> None:
    """The line has the final state; a deleted record has a tombstone."""
    with one.store.transaction():
        note = one.store.create(Note("a", "one"))
        note.body = "two"
        one.store.update(note)
        one.store.create(Note("b"))
        one.store.delete(Note, "b")
    assert [("a", "two"), ("b", None)] == [
        (line["id"], line.get("body")) for line in one.lines("notes")
    ]


def test_one_of_many_creates_an_id(one: Clone) -> None:
    """Of threads that create the same record, one succeeds; the others get the usual error."""
    failed: list[Exception] = []

    def create() -> None:
        try:
            one.store.create(Note("a"))
        except RecordExistsError as error:
            failed.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 3 == len(failed)
    assert 1 == len(one.lines("notes"))


def test_writers_of_one_record_take_turns(one: Clone) -> None:
    """Patches under the lock of the row lose nothing, and versions rise from line to line."""
    one.store.create(Note("a"))

    def count() -> None:
        for _ in range(5):
            with one.store.transaction():
                found = one.store.patch(Note, "a")
                one.store.patch(Note, "a", rank=found.rank + 1)

    def save() -> None:
        for _ in range(5):
            one.store.save_many([Note("x"), Note("y")])

    threads = [threading.Thread(target=work) for work in (count, count, save, save, save)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 10 == one.store.get_one(Note, "a").rank
    versions = [line["updated_at"] for line in one.lines("notes") if line["id"] == "a"]
    assert sorted(set(versions)) == versions
    one.check()


def test_a_stale_record_is_refused(one: Clone) -> None:
    """A server without a directory checks versions as well."""
    note = one.store.create(Note("a"))
    with Store.open(None, engine=one.engine, types=[Note]) as server:
        old = server.get_one(Note, "a")
        note.body = "new"
        one.store.update(note)
        old.body = "late"
        with pytest.raises(StaleRecordError):
            server.update(old)
        server.save(Note("b"))
        assert [1, 1] == [server.delete_where(Note, where("id") == "b"), server.count(Note)]
    assert ["a"] == list(one.told("notes"))
    one.check()


def test_a_pull_changes_the_records(one: Clone) -> None:
    """A sync brings new, changed and deleted records; writes go on from their versions."""
    one.store.create_many([Note("a", "mine"), Note("b", "mine")])
    one.work.drain()
    late = 2**42
    one.append("notes", {"id": "a", "body": "theirs", "updated_at": late})
    one.append("notes", {"id": "b", "deleted": True, "updated_at": late})
    one.append("notes", {"id": "c", "updated_at": late})
    assert one.store.is_stale()
    assert 2 == one.store.sync().collections["notes"].records
    assert [("a", "theirs"), ("c", "")] == [(n.id, n.body) for n in one.store.list(Note)]
    assert late + 1 == one.store.create(Note("b")).updated_at
    one.check()


def test_a_line_that_the_database_cannot_hold_is_reported(one: Clone) -> None:
    """It stays in the log, is not served, and a new version of the record is newer."""
    one.append(
        "notes",
        {"id": "nul", "body": "a\0b", "updated_at": 2**42},
        {"id": "half", "body": "\ud800", "updated_at": 1},
        {"id": "fine", "body": "\\u0000 \U0001f600", "updated_at": 1},
    )
    report = one.store.sync()
    # No store accepts half a surrogate pair.
    assert ["None", "nul"] == sorted(str(problem.id) for problem in report.problems)
    assert ["fine"] == [note.id for note in one.store.list(Note, where("body") != "x")]
    with pytest.raises(InvalidRecordError, match="PostgreSQL"):
        one.store.save(Note("nul", "a\0b"))
    assert 2**42 < one.store.save(Note("nul")).updated_at
    assert "" == one.told("notes")["nul"]["body"]


def test_rows_of_records_are_for_queries(one: Clone) -> None:
    """Sessions select StoredRecord, and refuse to write it, because that would miss the log."""
    one.store.create(Note("a", rank=3))
    with one.sessions() as session:
        [row] = session.scalars(one.store.select(Note, where("rank") > 2))
        assert 3 == row.as_record(Note).rank
        row.data = {**row.data, "rank": 4}
        with pytest.raises(UntrackedWriteError, match=r"Store\.save"):
            session.commit()
    with one.store.session() as session, pytest.raises(UntrackedWriteError):
        session.execute(insert(StoredRecord).values(collection="notes", id="b", data_json="{}"))
    theirs = Table("records", MetaData(), Column("id", Text), schema="pg_temp")
    with one.sessions() as session:
        session.execute(text("CREATE TEMP TABLE records (id text)"))
        session.execute(insert(theirs).values(id="b"))
        assert ["b"] == session.scalars(select(theirs.c.id)).all()
        session.rollback()
    with one.store.session(read_only=True) as session:
        assert ["a"] == session.scalars(select(StoredRecord.id)).all()
        with pytest.raises(StoreReadOnlyError):
            one.store.create(Note("b"))
    one.check()


def test_what_another_client_writes_is_found(one: Clone) -> None:
    """Only the calls of the store write the log; `verify` finds what others change, and repairs."""
    one.store.create(Note("a", "mine"))
    one.sql('UPDATE records SET data_json = \'{"id":"a","body":"theirs"}\'')
    report = one.store.verify(repair=True)
    assert [("a", "different")] == [(each.id, each.kind) for each in report.differences]
    assert "mine" == one.store.get_one(Note, "a").body
    one.check()


def test_autocommit_is_refused(one: Clone) -> None:
    """A call would not be one transaction."""
    engine = one.engine.execution_options(isolation_level="AUTOCOMMIT")
    with Store.open(None, engine=engine) as server:
        with pytest.raises(UntrackedWriteError, match="AUTOCOMMIT"):
            server.create(Note("a"))
        with server.transaction(), pytest.raises(UntrackedWriteError, match="AUTOCOMMIT"):
            server.create(Note("a"))
        with (
            server.transaction(),
            pytest.raises(UntrackedWriteError, match="AUTOCOMMIT"),
            server.transaction(),
        ):
            pass
        one.store.create(Note("b"))
        assert ["b"] == [note.id for note in server.iterate(Note)]


def test_collections_of_models_are_refused(one: Clone) -> None:
    """Their rows are in tables of their own, and a class cannot have evolutions yet."""
    for call in (one.store.list, one.store.count):
        with pytest.raises(UnsupportedError, match="Task"):
            call("tasks")
        with pytest.raises(UnsupportedError, match="Task"):
            call(Task)
    for types in ([str], Note, "notes"):
        with pytest.raises(InvalidDeclarationError):
            Store.open(one.path, engine=one.engine, types=types)  # type: ignore[arg-type]


def test_another_clone_takes_the_records_over(
    one: Clone, new_database: Callable[[], URL], tmp_path: Path
) -> None:
    """What the other clone has not pushed is appended to the logs here."""
    one.store.create(Note("a"))
    one.append("notes", {"id": "nul", "body": "\0", "updated_at": 1})
    one.store.sync()
    one.store.close()
    (tmp_path / "other").mkdir()
    engine = create_engine(one.engine.url)
    with Store.open(
        tmp_path / "other" / ".taskstore", engine=engine, migrate=True, refresh=False
    ) as other:
        work: Any = getattr(other, "_work")  # noqa: B009 - of the calls on PostgreSQL
        assert {"notes": 1} == {k: v for k, v in work.take_over().items() if k == "notes"}
        assert ["a"] == [note.id for note in other.list(Note)]
        other.create(Note("b"))
    assert 2 == len((tmp_path / "other" / ".taskstore" / "notes.jsonl").read_text().splitlines())
    engine.dispose()


@pytest.fixture
def two_databases(new_database: Callable[[], URL], tmp_path: Path) -> Iterator[Any]:
    """Two clones with databases of their own."""
    with (
        cloned(new_database(), tmp_path / "a", []) as first,
        cloned(new_database(), tmp_path / "b", []) as second,
    ):
        yield first, second


def test_two_databases_end_equal(two_databases: Any) -> None:
    """Lines from another clone make equal records, ordered by the bytes of their ids."""
    first, second = two_databases
    first.store.create_many([Note(id) for id in ("a", "B", "é", "_", "b")])
    first.work.drain()
    (second.path / "notes.jsonl").write_bytes((first.path / "notes.jsonl").read_bytes())
    second.store.sync()
    expected = sorted(("a", "B", "é", "_", "b"))
    for clone in two_databases:
        assert expected == [note.id for note in clone.store.list(Note, order_by="id")]
        clone.check()


def test_sessions_of_the_application_stay_theirs(one: Clone) -> None:
    """A store's call in the block of an attached session is a transaction of its own."""
    sessions = sessionmaker(one.engine)
    with sessions() as session:
        session.execute(text("SELECT 1"))
        one.store.create(Note("a"))
        session.rollback()
    assert ["a"] == list(one.told("notes"))
