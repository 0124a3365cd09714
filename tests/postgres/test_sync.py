"""From the logs into the tables, after git has changed them, with writers active."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, text
from sqlalchemy.orm.exc import StaleDataError

from taskstore._postgres.projection import lock_tables
from taskstore.errors import MissingLogError
from tests.postgres.clones import Clone, cloned
from tests.postgres.models import Project, Task

LATER = 2**42
"""A version in the future, in milliseconds."""


def _rows(clone: Clone, table: str = "tasks") -> dict[str, Any]:
    column = {"tasks": "title", "projects": "name"}[table]
    with clone.engine.connect() as connection:
        rows = connection.execute(text(f"SELECT id, {column} FROM {table} ORDER BY id"))
        return {row[0]: row[1] for row in rows}


def _task(id: str, version: int, **values: Any) -> dict[str, Any]:
    return {"id": id, "title": "theirs", "updated_at": version, **values}


def test_lines_come_into_the_tables(one: Clone) -> None:
    """New, changed and deleted records follow in the table; older lines do not."""
    one.sql("INSERT INTO tasks (id, title) VALUES ('a', ''), ('b', ''), ('c', '')")
    one.work.drain()
    one.append("tasks", _task("a", LATER), _task("b", 1), _task("new", LATER, extra="kept"))
    one.append("tasks", {"id": "c", "updated_at": LATER, "deleted": True})
    assert one.store.is_stale()
    report = one.store.sync()
    assert [] == report.problems
    assert {"a": "theirs", "b": "", "new": "theirs"} == _rows(one)
    one.sql("UPDATE tasks SET title = 'ours' WHERE id = 'new'")
    assert "kept" == one.told("tasks")["new"]["extra"]
    one.check()


def test_what_waits_in_the_outbox_is_not_overwritten_unseen(one: Clone) -> None:
    """A change that was committed and not drained meets a line of git by its version."""
    one.sql("INSERT INTO tasks (id, title) VALUES ('a', ''), ('b', '')")
    one.work.drain()
    with one.engine.connect() as held:
        held.execute(text(f"SELECT 1 FROM {one.work.context.outbox.scribe} FOR UPDATE"))
        one.sql("UPDATE tasks SET title = 'ours'")
        one.append("tasks", _task("a", 5), _task("b", LATER))
        held.rollback()
    one.store.sync()
    assert {"a": "ours", "b": "theirs"} == _rows(one)
    one.check()


def test_parents_and_children_come_in_any_order(one: Clone) -> None:
    """Rows that refer to each other are written parents first, and deleted children first."""
    one.append("tasks", *(_task(f"t{i}", LATER, project_id=f"p{i}") for i in range(3)))
    one.append("projects", *({"id": f"p{i}", "name": "", "updated_at": 1} for i in range(3)))
    assert [] == one.store.sync().problems
    one.append("projects", {"id": "p0", "updated_at": LATER, "deleted": True})
    one.append("tasks", {"id": "t0", "updated_at": LATER + 1, "deleted": True})
    assert [] == one.store.sync().problems
    assert ["t1", "t2"] == list(_rows(one))
    one.check()


def test_what_a_cascade_deletes_is_logged(one: Clone) -> None:
    """Where a line deletes a parent, the children that go with it get tombstones."""
    with one.sessions.begin() as session:
        session.add(Project(id="p", name="P", tasks=[Task(id="t")]))
    one.work.drain()
    one.append("projects", {"id": "p", "updated_at": LATER, "deleted": True})
    one.store.sync()
    assert {} == _rows(one)
    assert {} == one.told("tasks")
    one.check()


def test_a_row_that_a_constraint_refuses_is_a_problem(one: Clone) -> None:
    """The others come in; the problem goes when a later line fits."""
    one.append("tasks", _task("a", 1, rank=1), _task("b", 2, rank=1), _task("c", 3, rank=2))
    one.append("tasks", _task("d", 3, project_id="none"), _task("e", 3, rank="no number"))
    [*problems] = one.store.sync().problems
    assert ["b", "d", "e"] == [problem.id for problem in problems]
    assert ["a", "c"] == list(_rows(one))
    one.append("tasks", _task("b", 4, rank=3), _task("e", 4), _task("d", 4))
    assert [] == one.store.sync().problems
    assert ["a", "b", "c", "d", "e"] == list(_rows(one))


def test_a_unique_value_may_move_on(one: Clone) -> None:
    """A value that a deleted row had can be another's in the same sync."""
    one.append("tasks", _task("a", 1, rank=1), _task("b", 1, rank=2))
    one.store.sync()
    one.append("tasks", {"id": "a", "updated_at": 5, "deleted": True}, _task("b", 5, rank=1))
    assert [] == one.store.sync().problems
    assert ["b"] == list(_rows(one))
    one.check()


def test_a_record_that_the_log_lost_goes(one: Clone) -> None:
    """Where git brings a log without some records, as of another branch, their rows go."""
    one.append("tasks", _task("a", 1), _task("b", 1))
    one.store.sync()
    lines = (one.path / "tasks.jsonl").read_text().splitlines(keepends=True)
    (one.path / "tasks.jsonl").write_text(lines[0])
    one.store.sync()
    assert ["a"] == list(_rows(one))
    assert ["a"] == [line["id"] for line in one.lines("tasks")]


def test_rows_from_before_are_kept_until_they_are_exported(one: Clone) -> None:
    """Rows that were never logged are neither deleted nor overwritten; export writes them."""
    one.sql(
        "ALTER TABLE tasks DISABLE TRIGGER USER",
        "INSERT INTO tasks (id, title) VALUES ('a', 'old'), ('b', 'old')",
        "ALTER TABLE tasks ENABLE TRIGGER USER",
    )
    with pytest.raises(MissingLogError):
        one.store.sync()
    one.append("tasks", _task("a", LATER), _task("c", LATER))
    [problem] = one.store.sync().problems
    assert ("a", True) == (problem.id, "never logged" in problem.reason)
    assert {"a": "old", "b": "old", "c": "theirs"} == _rows(one)
    assert 2 == one.store.export(Task)
    assert {"a": "old", "b": "old", "c": "theirs"} == {
        id: record["title"] for id, record in one.told("tasks").items()
    }
    one.check()


def test_an_export_begins_a_log_that_got_lost(one: Clone) -> None:
    """Where a log is gone, export writes all rows of its table."""
    one.sql("INSERT INTO tasks (id, title) VALUES ('a', 'x'), ('b', 'y')")
    one.work.drain()
    (one.path / "tasks.jsonl").unlink()
    assert 2 == one.store.export(Task)
    assert ["a", "b"] == sorted(one.told("tasks"))
    one.check()


def test_prune_takes_what_the_logs_say(one: Clone) -> None:
    """With prune=True rows that no log has go, also those that were never logged."""
    one.sql("INSERT INTO tasks (id, title) VALUES ('a', 'x')")
    one.work.drain()
    (one.path / "tasks.jsonl").unlink()
    one.store.sync(prune=True)
    assert {} == _rows(one)


def test_timeouts_of_the_role_do_not_end_the_work(
    new_database: Callable[[], URL], tmp_path: Path
) -> None:
    """A scribe takes the time that it needs, whatever applications are given."""
    limits = "-cstatement_timeout=200 -cidle_in_transaction_session_timeout=60000"
    url = new_database().update_query_dict({"options": limits})
    with cloned(url, tmp_path / "one") as one:
        context = one.work.context
        with context.transaction() as connection:
            lock_tables(connection, context.mirrors.values())
            connection.execute(text("SELECT pg_sleep(0.4)"))
        with context.transaction() as connection:
            context.claim(connection)
            connection.execute(text("SELECT pg_sleep(0.4)"))
            idle = connection.execute(text("SHOW idle_in_transaction_session_timeout"))
            assert "0" == idle.scalar_one()


def test_verify_sees_and_repairs_what_was_written_past_the_triggers(one: Clone) -> None:
    """A row that was changed with triggers disabled differs from its line."""
    one.sql("INSERT INTO tasks (id, title) VALUES ('a', 'x'), ('b', 'x')")
    one.work.drain()
    one.sql(
        "ALTER TABLE tasks DISABLE TRIGGER USER",
        "UPDATE tasks SET title = 'hidden' WHERE id = 'a'",
        "DELETE FROM tasks WHERE id = 'b'",
        "ALTER TABLE tasks ENABLE TRIGGER USER",
    )
    report = one.store.verify(repair=True)
    assert {"a", "b"} == {difference.id for difference in report.differences}
    assert {"a": "x", "b": "x"} == _rows(one)
    one.check()


def test_writers_go_on_during_syncs(one: Clone) -> None:
    """Writers and syncs that change the same rows: in the end tables and logs agree."""
    failed: list[Exception] = []
    stop = threading.Event()
    lock = one.work.context.store.log_lock

    def write(number: int) -> None:
        try:
            for step in range(30):
                one.sql(
                    f"INSERT INTO tasks (id, title) VALUES ('{step % 5}', '{number}') "
                    f"ON CONFLICT (id) DO UPDATE SET title = '{number}-{step}'"
                )
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    def pull() -> None:
        try:
            version = 1
            while not stop.is_set():
                version += 1
                line = _task(str(version % 5), version)
                lock.run(10.0, partial(one.append, "tasks", line))
                one.store.sync()
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    puller = threading.Thread(target=pull)
    for thread in (*writers, puller):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    puller.join()
    assert [] == failed
    one.check()


def test_a_stale_row_is_refused(one: Clone) -> None:
    """A session does not write over what another has changed since it loaded the row."""
    with one.sessions.begin() as session:
        session.add(Project(id="p", name="one"))
    with one.sessions() as session:
        project = session.get_one(Project, "p")
        assert "one" == project.name
        one.sql("UPDATE projects SET name = 'two'")
        project.name = "three"
        with pytest.raises(StaleDataError):
            session.commit()
    assert {"p": "two"} == _rows(one, "projects")
