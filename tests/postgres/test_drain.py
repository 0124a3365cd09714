"""From the outbox into the log: whole transactions, once each, whatever comes in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, text

from taskstore import Store
from taskstore._log.locks import directory_lock
from taskstore._postgres import drain, outbox
from taskstore.errors import (
    LockTimeoutError,
    LogPendingError,
    LogWriteError,
    MissingLogError,
    OutboxOwnerError,
)
from tests.postgres.clones import Clone, cloned
from tests.postgres.models import MIRRORS, Base


class CrashError(Exception):
    """Raised by a test to simulate a crash."""


def _crash(*arguments: Any) -> None:
    raise CrashError


@pytest.fixture
def quiet(new_database: Callable[[], URL], tmp_path: Path) -> Any:
    """A clone with nobody who drains it, and so nothing to wait for."""
    with cloned(new_database(), tmp_path / "quiet") as clone:
        scribe: Any = getattr(clone.store, "_scribe")  # noqa: B009
        scribe.stop()
        yield clone


@pytest.mark.parametrize("again", [1, 3])
def test_a_crash_before_the_delete_appends_nothing_twice(
    quiet: Clone, monkeypatch: pytest.MonkeyPatch, again: int
) -> None:
    """What is in the log, and was not deleted from the outbox, is not appended once more."""
    quiet.sql("INSERT INTO tasks (id, title) VALUES ('a', 'one'), ('b', 'one')")
    quiet.sql("UPDATE tasks SET title = 'two' WHERE id = 'a'")
    quiet.sql("INSERT INTO projects (id, name, updated_at) VALUES ('p', 'P', 0)")
    log = quiet.path / "tasks.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr(drain, "delete_batch", _crash)
        for _ in range(again):
            with pytest.raises(CrashError):
                quiet.work.drain()
        assert 3 == len(log.read_bytes().splitlines())
    quiet.sql("UPDATE tasks SET title = 'three' WHERE id = 'a'")
    lines = quiet.lines("tasks")
    found = [(line["id"], line["title"]) for line in lines]
    assert [("a", "one"), ("b", "one"), ("a", "two"), ("a", "three")] == found
    assert 1 == len(quiet.lines("projects"))
    quiet.check()


def test_a_crash_after_which_git_writes_the_log_anew(
    quiet: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a log that was replaced meanwhile is searched for the lines that it has."""
    quiet.sql("INSERT INTO tasks (id, title) VALUES ('a', 'one')")
    quiet.work.drain()
    quiet.sql("UPDATE tasks SET title = 'two'")
    with monkeypatch.context() as patched:
        patched.setattr(drain, "delete_batch", _crash)
        with pytest.raises(CrashError):
            quiet.work.drain()
    log = quiet.path / "tasks.jsonl"
    other = b'{"id":"x","title":"theirs","updated_at":5}\n'
    lines = log.read_bytes()
    log.unlink()
    log.write_bytes(other + lines)
    quiet.work.drain()
    assert other + lines == log.read_bytes()
    quiet.store.sync()
    assert {"a": "two", "x": "theirs"} == _titles(quiet)


def _titles(clone: Clone) -> dict[str, str]:
    with clone.engine.connect() as connection:
        rows = connection.execute(text("SELECT id, title FROM tasks ORDER BY id"))
        return {row[0]: row[1] for row in rows}


def test_a_batch_has_whole_transactions(quiet: Clone) -> None:
    """A batch that begins in a transaction has all of it, and what that one has seen."""
    with quiet.engine.connect() as first, quiet.engine.connect() as second:
        first.execute(text("INSERT INTO tasks (id, title) VALUES ('a', '')"))
        second.execute(text("INSERT INTO tasks (id, title) VALUES ('b', '')"))
        second.execute(text("INSERT INTO tasks (id, title) VALUES ('c', '')"))
        first.execute(text("INSERT INTO tasks (id, title) VALUES ('d', '')"))
        second.commit()
        first.commit()
    quiet.sql("INSERT INTO tasks (id, title) VALUES ('e', '')")
    context = quiet.work.context
    with context.transaction() as connection:
        numbers = connection.exec_driver_sql(
            f"SELECT seq FROM {context.outbox.table} ORDER BY seq"
        ).scalars()
        seqs = list(numbers)
        for limit, end, is_last in ((1, seqs[3], False), (5, seqs[4], False), (6, seqs[4], True)):
            found = outbox.next_batch(connection, context.outbox, limit)
            assert found is not None
            assert (end, is_last, ("tasks",)) == (found.end, found.is_last, found.collections)


def test_a_transaction_that_is_open_holds_up_nobody(quiet: Clone) -> None:
    """Lines of others go into the log while a long transaction runs, and its own afterwards."""
    with quiet.engine.connect() as long:
        long.execute(text("INSERT INTO tasks (id, title) VALUES ('long', '')"))
        quiet.sql("INSERT INTO tasks (id, title) VALUES ('short', '')")
        assert ["short"] == [line["id"] for line in quiet.lines("tasks")]
        long.commit()
    assert ["short", "long"] == [line["id"] for line in quiet.lines("tasks")]


def test_ack_log_returns_when_the_log_has_it(
    new_database: Callable[[], URL], tmp_path: Path
) -> None:
    """After a commit the line is there, also of commits by many threads at once."""
    with cloned(new_database(), tmp_path / "one", ack="log") as clone:
        missing: list[str] = []

        def write(number: int) -> None:
            for place in range(5):
                id = f"{number}-{place}"
                clone.sql(f"INSERT INTO tasks (id, title) VALUES ('{id}', '')")
                if f'"id":"{id}"' not in (clone.path / "tasks.jsonl").read_text():
                    missing.append(id)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [] == missing
        assert 20 == len(clone.lines("tasks"))
        clone.check()


@pytest.mark.parametrize("is_whole", [True, False])
def test_ack_log_waits_in_autocommit_mode(
    new_database: Callable[[], URL], tmp_path: Path, is_whole: bool
) -> None:
    """A commit waits although its statements have committed what they wrote."""
    url, mode = new_database(), "AUTOCOMMIT"
    engine = create_engine(url, isolation_level=mode) if is_whole else create_engine(url)
    Base.metadata.create_all(engine)
    options: Any = {"ack": "log", "migrate": True}
    with Store.open(tmp_path / "one", engine=engine, mirrors=MIRRORS, **options):
        for id in "abcde":
            with engine.connect().execution_options(isolation_level=mode) as connection:
                connection.execute(text(f"INSERT INTO tasks (id, title) VALUES ('{id}', '')"))
                connection.commit()
            assert f'"id":"{id}"' in (tmp_path / "one" / "tasks.jsonl").read_text()
    engine.dispose()


def test_ack_log_says_so_when_the_log_cannot_be_written(
    new_database: Callable[[], URL], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says that the transaction is committed; the line follows."""
    with cloned(new_database(), tmp_path / "one", ack="log") as clone:
        full = LogWriteError("tasks.jsonl", step="append", reason="disk full")
        with monkeypatch.context() as patched:

            def refuse(*arguments: Any) -> None:
                raise full

            patched.setattr(drain.Drain, "_append", refuse)
            with pytest.raises(LogPendingError) as caught:
                clone.sql("INSERT INTO tasks (id, title) VALUES ('a', '')")
        assert "tasks.jsonl: append: disk full" == caught.value.reason
        assert ["a"] == [line["id"] for line in clone.lines("tasks")]


def test_who_waits_for_the_log_goes_when_others_have_drained(quiet: Clone) -> None:
    """A process whose rows another one has written is done, although the lock is not free yet."""
    quiet.sql("INSERT INTO tasks (id, title) VALUES ('a', '')")
    context = quiet.work.context
    with ThreadPoolExecutor() as threads, directory_lock(context.store.layout).hold(10):
        assert 0 == quiet.work.drain(in_turn=False)
        waiting = threads.submit(quiet.work.drain)
        with context.transaction() as connection:
            context.claim(connection)
            assert 1 == drain.Drain(context, connection).run().lines
        assert 0 == waiting.result(timeout=60)


def test_a_log_that_is_locked_for_long_is_said_to_be(quiet: Clone) -> None:
    """A drain waits for the store's `lock_timeout`."""
    quiet.sql("INSERT INTO tasks (id, title) VALUES ('a', '')")
    store = quiet.work.context.store
    patience, store.lock_timeout = store.lock_timeout, 0.1
    with (
        directory_lock(store.layout).hold(10),
        pytest.raises(LockTimeoutError, match="log lock"),
    ):
        quiet.work.drain()
    store.lock_timeout = patience
    assert ["a"] == [line["id"] for line in quiet.lines("tasks")]


def test_a_log_that_had_lines_is_not_begun_anew(quiet: Clone) -> None:
    """Where a log has gone, nothing is written until it is back or exported."""
    quiet.sql("INSERT INTO tasks (id, title) VALUES ('a', ''), ('b', '')")
    quiet.work.drain()
    (quiet.path / "tasks.jsonl").unlink()
    quiet.sql("UPDATE tasks SET title = 'two' WHERE id = 'a'")
    with pytest.raises(MissingLogError):
        quiet.work.drain()
    with pytest.raises(MissingLogError):
        quiet.store.sync()
    assert {"a": "two", "b": ""} == _titles(quiet)


def test_a_second_clone_does_not_write_the_log(
    new_database: Callable[[], URL], tmp_path: Path
) -> None:
    """Of two directories one has the lines of a database; the other takes over when told to."""
    url = new_database()
    with cloned(url, tmp_path / "one") as one:
        one.sql("INSERT INTO tasks (id, title) VALUES ('a', '')")
        one.work.drain()
        engine = create_engine(url)
        one.sql("INSERT INTO tasks (id, title) VALUES ('b', '')")
        with pytest.raises(OutboxOwnerError) as caught:
            Store.open(tmp_path / "two", engine=engine, mirrors=MIRRORS)
        assert str(tmp_path / "one") in caught.value.place
        engine.dispose()


def test_the_tables_of_another_schema(new_database: Callable[[], URL], tmp_path: Path) -> None:
    """Our tables, and those of models, may be in a schema that the search path names."""
    url = new_database().update_query_dict({"options": "-csearch_path=other"})
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA other"))
    Base.metadata.create_all(engine)
    with Store.open(tmp_path / "one", engine=engine, mirrors=MIRRORS, migrate=True, ack="log"):
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO other.tasks (id, title) VALUES ('a', '')"))
        assert '"id":"a"' in (tmp_path / "one" / "tasks.jsonl").read_text()
    engine.dispose()
