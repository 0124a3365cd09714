"""Sessions and transactions of the store: what is in the log, and what is not."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from taskstore import (
    InvalidRecordError,
    RecordExistsError,
    StaleRecordError,
    Store,
    StoreClosedError,
    StoreReadOnlyError,
    TransactionOpenError,
    where,
)
from taskstore.models import StoredRecord
from tests.store.plans import Clock, Plan, append, ids, log_lines, read_log

pytestmark = pytest.mark.public


def row(id: str, title: str = "") -> StoredRecord:
    """A new ORM row of a plan."""
    return StoredRecord.from_record(Plan(id, title))


def check(store: Store) -> None:
    """The cache says what a replay from nothing says."""
    before = store.list(Plan)
    store.sync(force=True)
    assert before == store.list(Plan)


def test_a_committed_session_is_in_the_log(store: Store, clock: Clock) -> None:
    """What is added, changed and deleted through the ORM is in the log when commit returns."""
    with store.session() as session:
        session.add_all([row("a", "one"), row("b")])
        session.commit()
        assert 2 == len(log_lines(store.path))
        found = session.get_one(StoredRecord, ("plans", "a"))
        found.data = {**found.data, "title": "two"}
        session.delete(session.get_one(StoredRecord, ("plans", "b")))
        session.commit()
    assert [("a", False), ("b", False), ("a", False), ("b", True)] == [
        (line["id"], line.get("deleted", False)) for line in log_lines(store.path)
    ]
    assert "two" == store.get_one(Plan, "a").title
    check(store)


def test_what_is_not_committed_is_nowhere(store: Store) -> None:
    """A session that is closed, rolled back or left by an exception leaves no line and no row."""
    with store.session() as session:
        session.add(row("a"))
        session.flush()
        assert ["a"] == ids(store)
    with store.session() as session:
        session.add(row("b"))
        session.flush()
        session.rollback()
        session.commit()
    with pytest.raises(KeyError), store.session() as session:
        session.add(row("c"))
        session.flush()
        raise KeyError
    assert (b"", []) == (read_log(store.path), ids(store))
    check(store)


def test_several_flushes_make_one_line_each(store: Store) -> None:
    """However often a record is flushed in a transaction, its last state is its one line."""
    with store.session() as session:
        found = row("a", "0")
        session.add(found)
        for number in range(1, 4):
            session.flush()
            found.data = {**found.data, "title": str(number)}
        session.add(row("b"))
        session.flush()
        session.delete(session.get_one(StoredRecord, ("plans", "b")))
        session.commit()
    [line] = log_lines(store.path)
    assert ("a", "3") == (line["id"], line["title"])
    check(store)


def test_a_savepoint_takes_its_writes_along(store: Store) -> None:
    """A savepoint that is rolled back leaves nothing in the log; one that is released all."""
    with store.session() as session:
        session.add(row("a", "one"))
        kept = session.begin_nested()
        session.add(row("b"))
        kept.commit()
        dropped = session.begin_nested()
        session.add(row("c"))
        session.get_one(StoredRecord, ("plans", "a")).data = {"id": "a", "title": "two"}
        session.flush()
        inner = session.begin_nested()
        session.add(row("d"))
        inner.commit()
        dropped.rollback()
        session.commit()
    assert [("a", "one"), ("b", "")] == [(r["id"], r["title"]) for r in log_lines(store.path)]
    check(store)


def test_a_changed_key_is_a_delete_and_a_create(store: Store) -> None:
    """A row whose id changes leaves a tombstone behind and is a new record."""
    store.create(Plan("a", "t"))
    with store.session() as session:
        session.get_one(StoredRecord, ("plans", "a")).id = "b"
        session.commit()
    assert ["b"] == ids(store)
    assert {("a", True), ("b", False)} == {
        (line["id"], line.get("deleted", False)) for line in log_lines(store.path)[1:]
    }
    assert "t" == store.get_one(Plan, "b").title
    check(store)


def test_rows_and_records_convert(store: Store) -> None:
    """`from_record`, `as_record`, `assign` and `data` say the same record."""
    store.create(Plan("a", "one"))
    append(store.path, {"id": "a", "title": "two", "extra": 1, "updated_at": 1_800_000_000_000})
    with store.session() as session:
        found = session.get_one(StoredRecord, ("plans", "a"))
        plan = found.as_record(Plan)
        assert ("two", 1) == (plan.title, found.data["extra"])
        plan.status = "active"
        found.assign(plan)
        session.commit()
        with pytest.raises(TypeError, match="read-only"):
            found.data["title"] = "x"  # type: ignore[index]
        with pytest.raises(InvalidRecordError, match="another id|cannot take over"):
            found.assign(Plan("b"))
    assert {"status": "active", "extra": 1}.items() <= log_lines(store.path)[-1].items()


def test_what_is_written_differently_in_two_places_is_refused(store: Store) -> None:
    """An id that the columns and the data say differently is an error, and nothing is written."""
    with (
        pytest.raises(InvalidRecordError, match="write it in one place"),
        store.session() as session,
    ):
        session.add(StoredRecord(collection="plans", id="a", data={"id": "b"}))
        session.commit()
    assert b"" == read_log(store.path)
    with store.session() as session:
        session.add(StoredRecord(collection="plans", id="a"))
        session.add(StoredRecord(collection="plans", data={"id": "b", "title": "t"}))
        session.commit()
    assert ["a", "b"] == ids(store)


def test_a_row_that_was_overtaken_is_refused(store: Store) -> None:
    """A session that flushes a record's older version gets the same typed error."""
    plan = store.create(Plan("a", "one"))
    old = Plan("a", "three", updated_at=plan.updated_at)
    store.update(Plan("a", "two"))
    with pytest.raises(StaleRecordError), store.session() as session:
        session.get_one(StoredRecord, ("plans", "a")).assign(old)
        session.commit()
    with pytest.raises(RecordExistsError), store.session() as session:
        session.add(row("a"))
        session.commit()
    assert "two" == store.get_one(Plan, "a").title


def test_store_calls_join_the_session_around_them(store: Store) -> None:
    """Within a block, reads see and writes belong to its transaction; the session sees them too."""
    with store.transaction() as session:
        session.add(row("a", "one"))
        assert "one" == store.get_one(Plan, "a").title
        store.patch(Plan, "a", title="two")
        assert "two" == session.get_one(StoredRecord, ("plans", "a")).data["title"]
        store.create(Plan("b"))
        assert 2 == store.count(Plan)
        assert b"" == read_log(store.path)
    assert 2 == len(log_lines(store.path))
    check(store)


def test_a_transaction_in_a_transaction_is_a_savepoint(store: Store) -> None:
    """An inner block that fails takes back its own writes only; the outer decides over all."""
    with store.transaction():
        store.create(Plan("a"))
        with pytest.raises(KeyError), store.transaction():
            store.create(Plan("b"))
            store.delete(Plan, "a")
            raise KeyError
        with store.transaction():
            store.create(Plan("c"))
        assert ["a", "c"] == ids(store)
    assert ["a", "c"] == [line["id"] for line in log_lines(store.path)]
    with pytest.raises(KeyError), store.transaction():
        with store.transaction():
            store.create(Plan("d"))
        raise KeyError
    assert ["a", "c"] == ids(store)
    check(store)


def test_a_session_in_a_transaction_commits_a_savepoint(store: Store) -> None:
    """An inner session's commit is part of the outer transaction, its rollback is its own."""
    with store.transaction():
        store.create(Plan("a"))
        with store.session() as inner:
            inner.add(row("b"))
            inner.commit()
            inner.add(row("c"))
            inner.rollback()
            store.create(Plan("d"))
            inner.commit()
        assert b"" == read_log(store.path)
        assert ["a", "b", "d"] == ids(store)
    assert ["a", "b", "d"] == sorted(line["id"] for line in log_lines(store.path))
    check(store)


def test_a_call_that_fails_leaves_the_transaction_usable(store: Store) -> None:
    """A refused write within a transaction takes nothing else of it along."""
    store.create(Plan("a"))
    with store.transaction():
        store.create(Plan("b"))
        with pytest.raises(RecordExistsError):
            store.create_many([Plan("c"), Plan("a")])
        store.create(Plan("d"))
    assert ["a", "b", "d"] == ids(store)
    check(store)


def test_another_thread_does_not_join(store: Store) -> None:
    """A thread beside a transaction neither sees its writes nor writes into it."""
    store.create(Plan("a"))
    with pytest.raises(KeyError), ThreadPoolExecutor(1) as pool, store.transaction():
        store.create(Plan("b"))
        assert ["a"] == pool.submit(ids, store).result(10)
        waiting = pool.submit(store.create, Plan("c"))
        raise KeyError
    waiting.result(10)
    assert ["a", "c"] == ids(store)


def test_another_task_does_not_join(store: Store) -> None:
    """A task of the same thread neither sees another's transaction nor writes into it."""
    store.create(Plan("a"))

    async def other() -> list[str]:
        with pytest.raises(TransactionOpenError):
            store.create(Plan("c"))
        return ids(store)

    async def main() -> list[str]:
        with store.transaction():
            store.create(Plan("b"))
            assert ["a", "b"] == ids(store)
            return await asyncio.create_task(other())

    assert ["a"] == asyncio.run(main())
    assert ["a", "b"] == ids(store)
    store.create(Plan("c"))
    check(store)


def test_a_read_only_session_refuses_writes(store: Store) -> None:
    """A session for reading sees the log as it is, and no write gets through it."""
    store.create(Plan("a"))
    append(store.path, {"id": "b", "updated_at": 1})
    with store.session(read_only=True) as session:
        assert 2 == session.query(StoredRecord).count()
        for write in (
            lambda: store.create(Plan("c")),
            lambda: store.delete(Plan, "a"),
            lambda: store.patch(Plan, "a", title="x"),
        ):
            with pytest.raises(StoreReadOnlyError):
                write()
        with pytest.raises(StoreReadOnlyError), store.transaction():
            pass
    with pytest.raises(StoreReadOnlyError), store.session(read_only=True) as session:
        session.add(row("c"))
        session.commit()
    assert ["a", "b"] == ids(store)
    assert 2 == len(log_lines(store.path))


def test_a_session_sees_the_log_as_it_is_when_it_begins(store: Store) -> None:
    """A session's transaction begins with a look at the logs, and so does the next one."""
    with store.session() as session:
        assert 0 == session.query(StoredRecord).count()
        session.commit()
        append(store.path, {"id": "a", "updated_at": 1})
        assert 1 == session.query(StoredRecord).count()


def test_the_callers_own_errors_stay_what_they_are(store: Store) -> None:
    """A slip in the caller's own SQL is not taken for a damaged cache."""
    store.create(Plan("a"))
    cache = (store.path / "taskstore.db").stat().st_ino
    for statement in (
        "SELECT * FROM no_such_table",
        "SELECT no_such_column FROM records",
        "SELECT json_extract('{broken', '$')",
    ):
        with pytest.raises(OperationalError), store.session() as session:
            session.execute(text(statement))
    with pytest.raises(IntegrityError), store.session() as session:
        session.execute(text("CREATE TABLE mine (x INTEGER PRIMARY KEY)"))
        session.execute(text("INSERT INTO mine VALUES (1), (1)"))
    assert cache == (store.path / "taskstore.db").stat().st_ino
    assert ["a"] == ids(store)


def test_a_closed_store_says_so(store: Store) -> None:
    """Every call on a store that was closed raises, and names it; closing again is fine."""
    store.close()
    store.close()
    for call in (
        lambda: store.create(Plan("a")),
        lambda: store.get(Plan, "a"),
        lambda: store.list(Plan, where("id") == "a"),
        lambda: store.sync(),
        lambda: store.is_stale(),
        lambda: store.transaction().__enter__(),
        lambda: store.session().__enter__(),
        lambda: store.rebuild_indexes(Plan),
        lambda: store.attach(store),
    ):
        with pytest.raises(StoreClosedError, match="open it again"):
            call()
    assert "closed" in repr(store)


def test_what_a_call_calls_in_turn_joins_it(directory: Path) -> None:
    """A store's call that is made from within another one sees its transaction, and is part of it.

    Here the clock makes it, which a write asks for the time.
    """
    calls: list[str] = []

    def clock() -> int:
        if "begun" in calls and "nested" not in calls:
            calls.append("nested")
            assert [] == store.list("notes")
            with store.transaction() as session:
                store.create({"id": "inner"}, collection="notes")
                assert 1 == session.scalar(select(func.count()).select_from(StoredRecord))
            with pytest.raises(ZeroDivisionError), store.transaction():
                store.create({"id": "undone"}, collection="notes")
                raise ZeroDivisionError
        return 1_700_000_000_000

    with Store.open(directory, clock=clock) as store:
        calls.append("begun")
        store.create({"id": "outer"}, collection="notes")
        assert ["inner", "outer"] == [row["id"] for row in store.list("notes")]
    assert 2 == (directory / "notes.jsonl").read_text().count("\n")
