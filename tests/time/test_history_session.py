"""History, blame and changes as tables."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import exc, func, select, text

from taskstore import (
    AsyncStore,
    GitError,
    LockTimeoutError,
    Store,
    StoreAccessError,
    TaskstoreError,
    indexed,
    record,
)
from taskstore._api import history_tables
from taskstore._cache.history import database
from taskstore._diff.changes import compare_records
from taskstore._evolution.shape import NO_SHAPE
from taskstore._git import growth
from taskstore._git.history import added_lines, appended_lines, versions
from taskstore._git.repository import Repository
from taskstore.models import RecordBlame, RecordChange, RecordVersion, StoredRecord
from tests.cli.programs import on_pipe
from tests.merge.repositories import line
from tests.time.histories import Change, build, random_changes, run

HISTORIES = int(os.environ.get("TASKSTORE_HISTORIES", "6"))


@record("plans")
class Plan:
    """A plan."""

    id: str
    title: str = ""
    status: str = indexed(default="draft")
    updated_at: int = 0


def rows_of(store: Store, model: Any) -> list[dict[str, Any]]:
    """All rows of a table of the history, by the names of its columns."""
    with store.history_session("plans") as session:
        return [dict(row) for row in session.execute(select(model.__table__)).mappings()]


def facts_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """The commit of a row."""
    return tuple(row[f"commit_{name}"] for name in ("id", "author", "time", "subject"))


def slow_rows(store: Store) -> tuple[list[Any], list[Any]]:
    """The versions and changes of each record, from the readers of one record."""
    log = store.path / "plans.jsonl"
    repository = Repository.find(store.path)
    history: list[Any] = []
    changes: list[Any] = []
    for id in "abcdef":
        for number, one in enumerate(versions(log, id, repository)):
            commit = one.commit
            assert commit is not None
            facts = (commit.id, commit.author, commit.time, commit.subject)
            history.append((id, number, one.line, one.raw.decode(), facts))
            change = compare_records(id, one.before, one.raw, NO_SHAPE)
            fields = () if change is None else change.fields
            changes += [(id, number, field.field, facts) for field in fields]
    return sorted(history), sorted(changes)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_the_tables_are_what_the_readers_of_one_record_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """For any history: history, changes and blame; also when only a part is new since."""
    monkeypatch.setattr(growth, "_SMALL", 0 if seed % 2 else 2**24)
    ids = build(tmp_path, random_changes(random.Random(seed), 15))
    for commit in (ids[-4], ids[-1]):
        run(tmp_path, "reset", "-q", "--hard", commit)
        with Store.open(tmp_path / ".taskstore") as store:
            expected, expected_changes = slow_rows(store)
            assert expected == sorted(
                (row["id"], row["number"], row["line"], row["data_json"], facts_of(row))
                for row in rows_of(store, RecordVersion)
            )
            assert expected_changes == sorted(
                (row["id"], row["number"], row["field"], facts_of(row))
                for row in rows_of(store, RecordChange)
                if row["field"]
            )
            assert {
                (row["id"], found.field, found.commit)
                for row in store.list("plans")
                for found in store.blame("plans", row["id"])
            } == {
                (row["id"], row["field"], row["commit_id"]) for row in rows_of(store, RecordBlame)
            }


def test_lines_of_a_log_that_only_grew_are_those_of_its_diffs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a commit rewrote a line in place, ended without a newline, or merged a side."""
    monkeypatch.setattr(growth, "_SMALL", 0)
    first = line("a", 1000, x=1) + line("b", 1001, x=1)
    rewritten = first.replace('"x":1', '"x":2', 1)
    texts = [first, rewritten, rewritten + line("c", 1002).rstrip("\n")]
    texts.append(texts[-1] + "\n" + line("d", 1003) + line("d", 1003))
    side, other = texts[-1] + line("e", 1004), texts[-1] + line("f", 1005)
    merged = side + line("f", 1005) + line("g", 1006)
    changes = [Change((number - 1,) if number else (), text) for number, text in enumerate(texts)]
    changes += [Change((3,), side), Change((3,), other), Change((4, 5), merged)]
    build(tmp_path, changes)
    log = tmp_path / ".taskstore" / "plans.jsonl"
    repository = Repository.find(log.parent)
    assert repository is not None
    name = repository.name_of(log)
    quick = appended_lines(repository, name, log)
    assert quick is not None
    assert list(added_lines(repository, name)) == list(quick)
    for content in ("", first, merged + line("h", 1007), "x" * len(merged)):
        log.write_text(content)
        quick = appended_lines(repository, name, log)
        assert quick is not None
        assert list(added_lines(repository, name)) == list(quick)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Three commits: a is made, changed and deleted; then made again, and b in the work tree."""
    first = line("a", 1000, title="A", status="open")
    second = first + line("a", 2000, title="A", status="done")
    third = second + line("a", 3000, deleted=True)
    build(tmp_path, [Change((), first), Change((0,), second, "Bo"), Change((1,), third)])
    with Store.open(tmp_path / ".taskstore") as opened:
        opened.create(Plan("a", "Again"))
        opened.create(Plan("b", "B"))
        yield opened


def test_versions_join_with_live_rows(store: Store) -> None:
    """One query over the history and the cache; versions are objects of the record class."""
    with store.history_session(Plan) as session:
        query = (
            select(StoredRecord.id, func.count())
            .join(
                RecordVersion,
                (RecordVersion.collection == StoredRecord.collection)
                & (RecordVersion.id == StoredRecord.id),
            )
            .group_by(StoredRecord.id)
        )
        assert [("a", 4), ("b", 1)] == [tuple(row) for row in session.execute(query)]
        done = session.scalars(
            select(RecordVersion).where(RecordVersion.value("status") == "done")
        ).one()
        assert ("Bo", "change 1", "done") == (
            done.commit_author,
            done.commit_subject,
            done.as_record(Plan).status,
        )


def test_deletions_and_recreated_records_are_changes(store: Store) -> None:
    """Created, changed, deleted and created: each with its commit; the last is not committed."""
    with store.history_session("plans") as session:
        rows = session.scalars(
            select(RecordChange)
            .where(RecordChange.id == "a")
            .order_by(RecordChange.number, RecordChange.position)
        ).all()
    said = [(row.kind, row.field, row.new_json, row.commit_subject) for row in rows]
    assert [
        ("created", "title", '"A"', "change 0"),
        ("created", "status", '"open"', "change 0"),
        ("changed", "status", '"done"', "change 1"),
        ("deleted", "", None, "change 2"),
        ("created", "title", '"Again"', None),
        ("created", "status", '"draft"', None),
    ] == said


def test_the_session_is_for_reading(store: Store) -> None:
    """It refuses every write, and leaves the connection as it was."""
    with store.history_session("plans") as session:
        for sql in ("DELETE FROM record_versions", "DELETE FROM records"):
            with pytest.raises((exc.DatabaseError, TaskstoreError)):
                session.execute(text(sql))
            session.rollback()
    store.create(Plan("c"))
    with store.session() as session, pytest.raises(exc.OperationalError, match="no such table"):
        session.execute(select(RecordVersion)).all()
    with store.history_session("plans") as session:
        assert 3 == session.scalar(select(func.count(RecordBlame.id.distinct())))


def test_the_history_is_read_again_only_where_it_grew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second session reads nothing from git; after a commit it reads that commit."""
    read: list[str] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        for commit, parents, raw in added_lines(*arguments, **options):
            if raw is None:
                read.append(commit.subject)
            yield commit, parents, raw

    monkeypatch.setattr(history_tables, "added_lines", counted)
    for _ in range(2):
        assert 5 == len(rows_of(store, RecordVersion))
    assert ["change 0", "change 1", "change 2"] == read
    run(store.path.parent, "commit", "-q", "-a", "-m", "more")
    assert {"more"} == {
        row["commit_subject"] for row in rows_of(store, RecordVersion) if row["updated_at"] > 3000
    }
    assert "more" == read[3]
    assert 4 == len(read)


def test_older_versions_have_the_shape_of_today(store: Store) -> None:
    """After an evolution all versions, changes and blame have the new name."""
    assert 5 == len(rows_of(store, RecordVersion))
    (store.path / "evolutions.jsonl").write_text(
        '{"id":"plans@r1","collection":"plans","revision":"r1","parents":[],'
        '"steps":[{"rename":{"title":"name"}}],"updated_at":5000}\n'
    )
    assert {"name", "status", ""} == {row["field"] for row in rows_of(store, RecordChange)}
    assert "name" in {row["field"] for row in rows_of(store, RecordBlame)}


def test_a_damaged_database_is_made_again(store: Store) -> None:
    """It is a cache, which comes back from git."""
    before = rows_of(store, RecordVersion)
    for found in (store.path.parent / ".git").rglob("history-*.db"):
        found.write_bytes(b"not a database, " * 100)
    assert before == rows_of(store, RecordVersion)


@pytest.mark.parametrize("ends", ["without tables", "with some tables", "in its pages"])
def test_a_database_that_a_kill_left_is_completed(store: Store, ends: str) -> None:
    """Whatever it has of its tables, the history is whole afterwards."""
    before = rows_of(store, RecordVersion)
    [found] = (store.path.parent / ".git").rglob("history-*.db")
    if ends == "in its pages":
        data = found.read_bytes()
        found.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    else:
        found.unlink()
        with contextlib.closing(sqlite3.connect(found)) as connection:
            if ends == "with some tables":
                connection.execute("CREATE TABLE read_logs (collection PRIMARY KEY, head, state)")
    assert before == rows_of(store, RecordVersion)


def test_many_may_read_the_history_first(store: Store) -> None:
    """A reader that comes while another one creates the database waits for all its tables."""
    expected = rows_of(store, RecordVersion)
    for _ in range(5):
        [found] = (store.path.parent / ".git").rglob("history-*.db")
        found.unlink()
        with ThreadPoolExecutor(4) as pool:
            assert [expected] * 4 == list(pool.map(lambda _: rows_of(store, RecordVersion), "1234"))


def test_a_history_that_cannot_be_written_is_a_typed_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another program writes it, and where a directory has its name."""
    rows_of(store, RecordVersion)
    monkeypatch.setattr(database, "TIMEOUT", 0.01)
    [found] = (store.path.parent / ".git").rglob("history-*.db")
    with contextlib.closing(sqlite3.connect(found, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(LockTimeoutError, match="history-"):
            rows_of(store, RecordVersion)
    found.unlink()
    found.mkdir()
    with pytest.raises(StoreAccessError, match="history-"):
        rows_of(store, RecordVersion)


def test_a_store_for_reading_writes_nothing(store: Store) -> None:
    """Its history is in a temporary file."""
    before = sorted((store.path.parent / ".git").rglob("*"))
    with Store.open(store.path, read_only=True) as reader:
        assert 5 == len(rows_of(reader, RecordVersion))
    assert before == sorted((store.path.parent / ".git").rglob("*"))


def test_the_past_has_no_history(store: Store) -> None:
    """A store of the past says to ask the store itself."""
    with (
        store.as_of("HEAD~1") as past,
        pytest.raises(GitError, match="ask the store"),
        past.history_session(),
    ):
        pass


def test_sql_has_views_of_the_history(store: Store, tmp_path: Path) -> None:
    """`NAME_history`, `NAME_diff` and `NAME_blame`, next to the collection, which may be joined."""
    sql = (
        "SELECT h.commit_subject, h.status FROM plans_history h JOIN plans USING (id) "
        "WHERE h.status <> 'draft' ORDER BY h.number"
    )
    done = on_pipe("sql", sql, "--json", cwd=tmp_path)
    assert [
        {"commit_subject": "change 0", "status": "open"},
        {"commit_subject": "change 1", "status": "done"},
    ] == json.loads(done.stdout)
    sql = "SELECT count(*) FROM plans_diff UNION ALL SELECT count(*) FROM plans_blame"
    assert "count(*)\n8\n4\n" == on_pipe("sql", sql, cwd=tmp_path).stdout


def test_the_history_of_an_asyncio_store(store: Store) -> None:
    """The session is used in a thread, as every session of an asyncio store."""

    async def use() -> int:
        async with (
            AsyncStore.open(store.path) as opened,
            opened.history_session("plans") as block,
        ):
            query = select(func.count()).select_from(RecordVersion)
            return await block.run_sync(lambda session, /: session.execute(query).scalar_one())

    assert 5 == asyncio.run(use())
