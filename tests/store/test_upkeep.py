"""The calls that look after a store: compact, verify, history, list_tolerant."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taskstore import (
    InvalidNameError,
    RecordNotFoundError,
    Store,
    StoreReadOnlyError,
    TransactionOpenError,
    where,
)
from taskstore._log import files
from tests.store import workers
from tests.store.plans import Clock, Plan, append, ids, log_lines, log_path, read_log, rewrite

DAY_MS = 24 * 60 * 60 * 1000


def test_a_compaction_keeps_the_newest_line_of_each_record(store: Store) -> None:
    """Lines that lost against a newer one go; the others keep their order and their bytes."""
    kept = [
        b'{"id":"b",  "title":"\\u00fc","updated_at":5, "unknown":[1]}',
        b'{"id":"a","title":"new","updated_at":"2026-01-17T08:46:43.966Z"}',
        b'{"updated_at":1,"id":"c"}',
    ]
    lost = [b'{"id":"a","title":"old"}', b'{"id":"c"}']
    rewrite(store.path, b"\n".join([lost[0], kept[0], lost[1], kept[1], kept[2], b""]))
    report = store.compact(Plan)
    expected = b"\n".join([*kept, b""])
    assert expected == read_log(store.path)
    assert (5, 3, 0) == (report.lines_before, report.lines_after, report.tombstones_dropped)
    assert len(expected) == report.bytes_after
    assert report.bytes_before == len(expected) + sum(len(line) + 1 for line in lost)
    assert ["a", "b", "c"] == ids(store)
    assert store.verify().ok
    assert not store.is_stale()


def test_a_compaction_keeps_what_is_no_record(store: Store) -> None:
    """Problem lines stay where they are, byte for byte; blank lines go."""
    problems = [b"<<<<<<< ours", b'{"id":""}', b"\xff\xfe", b'{"id":"a","updated_at":"soon"}']
    data = [b'{"id":"a"}', problems[0], b'{"id":"b"}', problems[1], b"", *problems[2:], b"  "]
    rewrite(store.path, b"\n".join([*data, b'{"id":"a","updated_at":1}', b""]))
    before = store.sync().problems
    store.compact(Plan)
    expected = [*problems[:1], b'{"id":"b"}', *problems[1:], b'{"id":"a","updated_at":1}']
    assert expected == read_log(store.path).splitlines()
    after = store.sync(force=True).problems
    assert [problem.reason for problem in before] == [problem.reason for problem in after]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'\xef\xbb\xbf{"id":"a"}\n{"id":"b"}\n', b'{"id":"a"}\n{"id":"b"}\n'),
        (b'{"id":"a"}\r\n{"id":"a"}\r\n{"id":"b"}\r\n', b'{"id":"a"}\r\n{"id":"b"}\r\n'),
        (b'{"id":"a"}\n{"id":"b"}', b'{"id":"a"}\n{"id":"b"}\n'),
        (b'{"id":"b"}\n{"id":"b"}\n{"id":"a"', b'{"id":"b"}\n{"id":"a"\n'),
        (b"\xef\xbb\xbf", b""),
        (b"", b""),
    ],
    ids=["mark", "crlf", "unterminated", "torn", "only a mark", "empty"],
)
def test_a_compaction_of_odd_files(store: Store, data: bytes, expected: bytes) -> None:
    """A byte-order mark goes, carriage returns stay, and the last line is ended."""
    rewrite(store.path, data)
    store.compact(Plan)
    assert expected == read_log(store.path)
    assert store.verify().ok
    store.create(Plan("new"))
    assert "new" in ids(store)


def test_a_compaction_keeps_tombstones_for_the_stated_time(store: Store, clock: Clock) -> None:
    """A tombstone is dropped when it is older than stated, to the millisecond; 90 days else."""
    store.create_many([Plan("a"), Plan("b")])
    store.delete(Plan, "a")
    [grave] = [line["updated_at"] for line in log_lines(store.path) if line.get("deleted")]
    clock.now = grave + 90 * DAY_MS
    assert 0 == store.compact(Plan).tombstones_dropped
    clock.now = grave + 1000
    assert 0 == store.compact(Plan, keep_tombstones_ms=1000).tombstones_dropped
    append(store.path, {"id": "a", "updated_at": grave - 1})
    assert ["b"] == ids(store)
    assert 1 == store.compact(Plan, keep_tombstones_ms=999).tombstones_dropped
    assert ["b"] == [line["id"] for line in log_lines(store.path)]
    assert store.verify().ok
    append(store.path, {"id": "a", "updated_at": grave - 1})
    assert ["a", "b"] == ids(store)


def test_a_compaction_reports_its_progress(store: Store) -> None:
    """The callback gets the collection and bytes that grow up to the length of the old log."""
    store.create_many([Plan(f"p{number}", "x" * 10_000) for number in range(300)])
    size = len(read_log(store.path))
    calls: list[tuple[str, int, int]] = []
    store.compact(Plan, on_progress=lambda *call: calls.append(call))
    assert {("plans", size)} == {(name, whole) for name, _, whole in calls}
    done = [now for _, now, _ in calls]
    assert len(done) > 1
    assert sorted(set(done)) == done
    assert 0 < done[0] <= done[-1] <= size


def test_a_compaction_is_refused_where_it_cannot_be(store: Store) -> None:
    """No log, a bad name, an open transaction, a store for reading: typed errors."""
    with pytest.raises(RecordNotFoundError):
        store.compact(Plan)
    with pytest.raises(InvalidNameError):
        store.compact("../plans")
    store.create(Plan("a"))
    with store.transaction(), pytest.raises(TransactionOpenError):
        store.compact(Plan)
    with Store.open(store.path, read_only=True) as reader, pytest.raises(StoreReadOnlyError):
        reader.compact(Plan)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_killed_compaction_does_no_harm(store: Store, monkeypatch: Any) -> None:
    """Killed before any file operation: nothing is lost, and no draft outlives the next one."""
    store.create_many([Plan("a"), Plan("b"), Plan("c")])
    store.update(store.get_one(Plan, "a"))
    store.patch(Plan, "b", title="new")
    store.delete(Plan, "c")
    before = read_log(store.path)
    records = store.list(Plan)
    reals = {name: getattr(files, name) for name in ("write", "sync", "exchange", "unlink")}
    reals["sync_directory"] = files.sync_directory
    drafts = ended = 0
    for last in range(1, 40):
        rewrite(store.path, before)
        child = os.fork()
        if child == 0:
            left = [last]
            for name, real in reals.items():
                monkeypatch.setattr(files, name, _deadly(real, left))
            store.compact(Plan, keep_tombstones_ms=0)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        drafts += len(list(store.path.glob("*.tmp")))
        assert records == store.list(Plan)
        assert store.verify().ok
        store.compact(Plan, keep_tombstones_ms=10**15)
        assert [] == list(store.path.glob("*.tmp"))
        assert records == store.list(Plan)
        ended = os.waitstatus_to_exitcode(status)
        if ended == 0:
            break
    assert 0 == ended
    assert drafts > 0


def _deadly(real: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    """An operation that ends the process when its turn has come."""

    def call(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os._exit(1)
        return real(*arguments)

    return call


def test_readers_and_writers_go_on_beside_compactions(directory: Path) -> None:
    """Processes that create, count and compact at once: every record is there, without an error."""
    with Store.open(directory, types=[Plan]) as store:
        store.create(Plan("first"))
    done = workers.run_all(
        workers.in_turn,
        [
            (directory, "create", 30),
            (directory, "create", 30),
            (directory, "compact", 15),
            (directory, "count", 60),
        ],
    )
    assert {"create", "compact", "count"} == set(done)
    with Store.open(directory, types=[Plan]) as store:
        assert 61 == store.count(Plan)
        assert store.verify().ok


def run_sql(store: Store, script: str) -> None:
    """Run SQL on the cache in another program."""
    with closing(sqlite3.connect(store.path / "taskstore.db")) as connection:
        connection.executescript(script)


FOREIGN: dict[str, tuple[str, set[tuple[str, str | None, str]]]] = {
    "a record changed": (
        "UPDATE records SET data_json = '{\"id\":\"a\"}' WHERE id = 'a'",
        {("plans", "a", "different")},
    ),
    "its time": ("UPDATE records SET updated_at = 7 WHERE id = 'a'", {("plans", "a", "different")}),
    "a record removed": (
        "DELETE FROM record_indexes WHERE id = 'a'; DELETE FROM records WHERE id = 'a'",
        {("plans", "a", "missing")},
    ),
    "a record added": (
        (
            "INSERT INTO records (collection, id, data_json, updated_at, updated_at_us) "
            "VALUES ('plans', 'aa', '{\"id\":\"aa\"}', 1, 1000)"
        ),
        {("plans", "aa", "extra")},
    ),
    "a tombstone removed": ("DELETE FROM tombstones", {("plans", "c", "missing")}),
    "a tombstone of another time": (
        "UPDATE tombstones SET updated_at_us = updated_at_us + 1",
        {("plans", "c", "different")},
    ),
    "a tombstone beside a record": (
        (
            "INSERT INTO tombstones (collection, id, updated_at, updated_at_us) "
            "SELECT collection, id, updated_at, updated_at_us FROM records WHERE id = 'a'"
        ),
        {("plans", "a", "different")},
    ),
    "an index row changed": (
        "UPDATE record_indexes SET field_value_str = 'x' WHERE id = 'a' AND field_name = 'status'",
        {("plans", "a", "index")},
    ),
    "an index row removed": (
        "DELETE FROM record_indexes WHERE id = 'b' AND field_name = 'status'",
        {("plans", "b", "index")},
    ),
    "an index row of nobody": (
        (
            "INSERT INTO record_indexes (collection, id, field_name, field_value_str) "
            "VALUES ('plans', 'zz', 'status', 'x')"
        ),
        {("plans", "zz", "index")},
    ),
    "a fingerprint's digest": (
        "UPDATE sync_metadata SET digest = '1', racy = 0",
        {("plans", None, "fingerprint")},
    ),
    "a fingerprint's lines": (
        "UPDATE sync_metadata SET lines = 99",
        {("plans", None, "fingerprint")},
    ),
    "an unknown collection": (
        (
            "INSERT INTO records (collection, id, data_json, updated_at, updated_at_us) "
            "VALUES ('others', 'x', '{\"id\":\"x\"}', 1, 1000)"
        ),
        {("others", "x", "extra")},
    ),
    "a tombstone of an unknown collection": (
        (
            "INSERT INTO tombstones (collection, id, updated_at, updated_at_us) "
            "VALUES ('others', 'x', 1, 1000)"
        ),
        {("others", "x", "extra")},
    ),
}


@pytest.mark.parametrize(("script", "expected"), FOREIGN.values(), ids=FOREIGN)
def test_verify_finds_exactly_what_differs(
    store: Store, script: str, expected: set[tuple[str, str | None, str]]
) -> None:
    """What a foreign program did to the cache is named, repaired, and the log is not touched."""
    store.create_many([Plan("a", status="active"), Plan("b"), Plan("c")])
    store.delete(Plan, "c")
    assert store.verify().ok
    log = read_log(store.path)
    run_sql(store, script)
    report = store.verify()
    assert expected == {(d.collection, d.id, d.kind) for d in report.differences}
    assert not report.ok
    assert not report.repaired
    assert all(str(difference) for difference in report.differences)
    repaired = store.verify(repair=True)
    assert report.differences == repaired.differences
    assert repaired.repaired
    assert store.verify().ok
    assert log == read_log(store.path)
    assert ["a", "b"] == ids(store)
    assert ["a"] == ids(store, where(Plan.status) == "active")


def test_verify_without_a_difference_counts_and_names_problems(store: Store) -> None:
    """Problem lines and stray files are named, but are no difference; records are counted."""
    store.create_many([Plan("a"), Plan("b")])
    append(store.path, b"no record")
    (store.path / "no name.jsonl").write_bytes(b"")
    report = store.verify(repair=True)
    assert report.ok
    assert not report.repaired
    assert {"plans": 2} == report.records
    assert ["no name.jsonl:None", "plans.jsonl:3"] == sorted(
        f"{Path(problem.path).name}:{problem.line}" for problem in report.problems
    )


def test_verify_sees_a_stale_cache_where_it_does_not_refresh(store: Store) -> None:
    """With `refresh=False` what the log has got since the last sync is a difference."""
    store.create(Plan("a"))
    with Store.open(store.path, types=[Plan], refresh=False) as other:
        append(store.path, {"id": "b"})
        found = {(d.id, d.kind) for d in other.verify().differences}
        assert {("b", "missing"), (None, "fingerprint")} == found
        assert other.verify(repair=True).repaired
        assert ["a", "b"] == ids(other)


def test_verify_works_on_a_store_for_reading(store: Store) -> None:
    """A store that may not write anything can be verified."""
    store.create_many([Plan("a"), Plan("b")])
    with Store.open(store.path, types=[Plan], read_only=True) as reader:
        assert reader.verify().ok
        assert {"plans": 2} == reader.verify().records


def test_history_has_every_version(store: Store) -> None:
    """All lines of a record, oldest first, those that lost and do not fit among them."""
    store.create(Plan("a", "one"))
    store.patch(Plan, "a", title="two")
    append(store.path, {"id": "a", "title": "late", "updated_at": 5}, b'{"id":"\\u0061","title":7}')
    store.delete(Plan, "a")
    store.create(Plan("b"))
    versions = store.history(Plan, "a")
    assert [4, 3, 1, 2, 5] == [version.line for version in versions]
    titles = [version.record.title if version.record else None for version in versions]
    assert [None, "late", "one", "two", None] == titles
    assert [False, False, False, False, True] == [version.deleted for version in versions]
    assert "title" in (versions[0].reason or "")
    assert sorted(v.order_us for v in versions) == [v.order_us for v in versions]
    assert [] == store.history(Plan, "nobody")
    assert [7, "late", "one", "two", None] == [
        v.data.get("title") for v in store.history(Plan, "a")
    ]


def test_list_tolerant_gives_the_rest(store: Store) -> None:
    """Unusable lines and misfits are named by file and line; all that fits is returned."""
    store.create(Plan("a", priority=1))
    append(store.path, b"garbage", {"id": "b", "title": 7}, {"id": "c", "priority": 2})
    records, problems = store.list_tolerant(Plan)
    assert ["a", "c"] == sorted(plan.id for plan in records)
    assert [(2, None), (3, "b")] == [(problem.line, problem.id) for problem in problems]
    assert {str(log_path(store.path))} == {problem.path for problem in problems}
    records, problems = store.list_tolerant(Plan, where("priority") == 2)
    assert ["c"] == [plan.id for plan in records]
    rows, problems = store.list_tolerant("plans")
    assert {"a", "b", "c"} == {row["id"] for row in rows}
    assert [2] == [problem.line for problem in problems]
    assert ([], []) == store.list_tolerant("others")
