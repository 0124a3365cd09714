from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import Engine

from taskstore._cache.engine.sqlite import create_memory_engine
from taskstore._cache.rows.records import Stored
from taskstore._cache.rows.rows import LoadCounts, Rows
from taskstore._cache.schema.models import DEFAULT
from taskstore._cache.schema.schema import ensure_schema
from taskstore._format.fingerprint import Fingerprint
from taskstore._records.indexing import IndexField, index_rows
from tests.examples import share

FIELD = IndexField("n", "int", "0")
FINGERPRINT = Fingerprint(
    size=5,
    mtime_ns=1_700_000_000_123_456_789,
    ctime_ns=7,
    inode=2**64 - 3,
    digest="0a" * 64,
    lines=3,
    problems=1,
    ended=True,
    racy=False,
)


def live(id: str, us: int = 0, n: int = 1) -> tuple[str, int, bool, str]:
    """A winner that is alive."""
    return id, us, False, f'{{"id":"{id}","n":{n}}}'


def dead(id: str, us: int = 0) -> tuple[str, int, bool, str]:
    """A winner that is a tombstone, with a text for its time."""
    return id, us, True, f'{{"id":"{id}","updated_at":{us // 1000},"deleted":true}}'


def content(rows: Rows, collection: str = "plans") -> tuple[Any, ...]:
    """All that the cache has of a collection."""
    return (
        rows._read("SELECT id, data_json, updated_at, updated_at_us FROM records "
                   "WHERE collection = ? ORDER BY id", (collection,)),
        rows._read("SELECT id, updated_at, updated_at_us, updated_at_text FROM tombstones "
                   "WHERE collection = ? ORDER BY id", (collection,)),
        rows._read("SELECT id, field_name, field_value_int FROM record_indexes "
                   "WHERE collection = ? ORDER BY id", (collection,)),
    )  # fmt: skip


def wanted(winners: list[tuple[str, int, bool, str]]) -> tuple[Any, ...]:
    """The same, by what the winners say."""
    return (
        [(id, line, us // 1000, us) for id, us, deleted, line in winners if not deleted],
        [(id, us // 1000, us, None) for id, us, deleted, _ in winners if deleted],
        [
            (id, name, value.int)
            for id, _, deleted, line in winners
            if not deleted
            for name, value in index_rows([FIELD], line)
        ],
    )


@pytest.fixture(scope="module")
def memory() -> Iterator[Engine]:
    """A cache in memory, for the many small cases of a property test."""
    engine = create_memory_engine()
    ensure_schema(engine)
    yield engine
    engine.dispose()


WINNERS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(-3, 3), st.booleans(), st.integers(0, 2)),
    unique_by=lambda winner: winner[0],
).map(lambda found: [dead(i, us) if gone else live(i, us, n) for i, us, gone, n in sorted(found)])


@share(1.5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=WINNERS, tail=WINNERS, second=WINNERS, known=st.booleans())
def test_loads_and_tails(
    memory: Engine, first: list[Any], tail: list[Any], second: list[Any], known: bool
) -> None:
    """Filling, merging a tail and comparing give what the winners say, whatever was before."""
    with memory.connect().execution_options(taskstore_write=True) as connection:
        connection.begin()
        rows = Rows(connection.connection.cursor(), DEFAULT)
        rows.set_index_fields("plans", [FIELD])
        rows.load("others", [live("a")])
        rows.load("plans", first)
        if known:
            rows.put_fingerprint("plans", FINGERPRINT, 1)
        assert wanted(first) == content(rows)
        rows.merge_tail("plans", tail)
        merged = {winner[0]: winner for winner in first}
        for winner in tail:
            if winner[0] not in merged or merged[winner[0]][1] <= winner[1]:
                merged[winner[0]] = winner
        assert wanted(sorted(merged.values())) == content(rows)
        rows.load("plans", second)
        assert wanted(second) == content(rows)
        assert LoadCounts() == rows.load("plans", second)
        assert [("a", '{"id":"a","n":1}', 0, 0)] == content(rows, "others")[0]


def test_an_older_tail_does_not_revive_the_dead(rows: Rows) -> None:
    """A line from outside that is older than a deletion changes nothing."""
    rows.load("plans", [dead("a", 5000)])
    assert LoadCounts() == rows.merge_tail("plans", [live("a", 4999)])
    assert LoadCounts(written=1) == rows.merge_tail("plans", [live("a", 5000)])


def test_index_rows_without_a_fingerprint_are_rebuilt(rows: Rows) -> None:
    """A load over rows without a fingerprint, as adopted ones, rewrites their index."""
    rows.set_index_fields("plans", [FIELD])
    rows.load("plans", [live("a")])
    rows._write("UPDATE record_indexes SET field_value_int = 99")
    rows.load("plans", [live("a")])
    assert wanted([live("a")]) == content(rows)


def test_pages_are_read_in_the_order_of_the_keys(rows: Rows) -> None:
    """Comparing a collection with its log sorts nothing, or each page would cost all of it."""
    rows.load("plans", [live("a"), dead("b")])
    statements: list[str] = []
    rows._driver.set_trace_callback(statements.append)
    assert LoadCounts() == rows.load("plans", [live("a"), dead("b")])
    rows._driver.set_trace_callback(None)
    [compared] = {
        statement for statement in statements if "UNION ALL" in statement and "''" in statement
    }
    assert "B-TREE" not in repr(rows._read(f"EXPLAIN QUERY PLAN {compared}"))


def test_stored(rows: Rows) -> None:
    """What is stored of an id: its line and version, its tombstone's, or nothing."""
    text = "2024-05-06T07:08:09.123Z"
    rows.load(
        "plans",
        [
            ("a", 5_000_001, False, '{"id":"a","updated_at":"1970-01-01T00:00:05.000001Z"}'),
            dead("b", 7000),
            ("c", 9, True, f'{{"id":"c","updated_at":"{text}","deleted":true}}'),
        ],
    )
    found = rows.stored("plans", ["a", "b", "c", "d", *map(str, range(1000))])
    assert ["a", "b", "c"] == sorted(found)
    assert (5_000_001, "1970-01-01T00:00:05.000001Z", False) == (
        found["a"].order_us, found["a"].updated_at, found["a"].deleted
    )  # fmt: skip
    assert (7, True) == (found["b"].updated_at, found["b"].deleted)
    assert Stored(None, 9, text) == found["c"]
    assert text == found["c"].updated_at
    assert {} == rows.stored("other", ["a"])


def test_single_writes(rows: Rows) -> None:
    """Insert, replace, set tombstones and forget keep records, tombstones and index rows apart."""
    rows.set_index_fields("plans", [FIELD])
    rows.set_tombstones("plans", [("a", 1, 1000, None)])
    rows.insert("plans", [("a", live("a")[3], 2, 2000)])
    rows.replace("plans", [("b", live("b")[3], 2, 2000), ("a", live("a", n=4)[3], 3, 3000)])
    rows.write_index("plans", [("a", live("a", n=4)[3]), ("b", live("b")[3])])
    assert wanted([live("a", 3000, 4), live("b", 2000)]) == content(rows)
    rows.set_tombstones("plans", [("a", 4, 4000, None)])
    assert wanted([dead("a", 4000), live("b", 2000)]) == content(rows)
    assert (1, 1) == rows.counts("plans")
    rows.forget("plans", "a")
    rows.forget("plans", "b")
    assert ([], [], []) == content(rows)


def test_fingerprints(rows: Rows) -> None:
    """A fingerprint comes back as it was, also with an inode of 64 bits."""
    assert rows.fingerprint("plans") is None
    rows.put_fingerprint("plans", FINGERPRINT, 1_700_000_000_555)
    assert FINGERPRINT == rows.fingerprint("plans")
    assert {"plans": FINGERPRINT} == rows.fingerprints()
    assert [(1_700_000_000_555, 1_700_000_000)] == rows._read(
        "SELECT last_sync_time, file_mtime FROM sync_metadata"
    )
    rows._write("UPDATE sync_metadata SET digest = NULL")
    assert rows.fingerprint("plans") is None
    assert {} == rows.fingerprints()


@pytest.mark.parametrize("column", ["size", "mtime_ns", "inode", "lines", "ended", "digest"])
@pytest.mark.parametrize("value", ["x'00'", "-1.5"])
def test_a_damaged_fingerprint_is_none(rows: Rows, column: str, value: str) -> None:
    """What is recorded of a log counts only if every value is of its type."""
    rows.put_fingerprint("plans", FINGERPRINT, 1)
    rows._write(f"UPDATE sync_metadata SET {column} = {value}")
    assert (rows.fingerprint("plans") is None) == (column != "digest" or value == "x'00'")
    rows._write("UPDATE sync_metadata SET size = -1")
    assert rows.fingerprint("plans") is None


def test_dropping_a_collection_keeps_what_is_declared(rows: Rows) -> None:
    """A collection that is gone leaves its indexed fields and the other collections."""
    for name in ("a", "b", "c"):
        rows.set_index_fields(name, [FIELD])
        rows.load(name, [live("x"), dead("y")])
        rows.put_fingerprint(name, FINGERPRINT, 1)
    rows.drop_collection("b")
    assert ["a", "c"] == rows.collections()
    assert {"a", "c"} == set(rows.fingerprints())
    assert ([], [], []) == content(rows, "b")
    assert {"n": FIELD} == rows.index_fields("b")
    assert wanted([live("x"), dead("y")]) == content(rows, "c")


@pytest.mark.parametrize("filled", [False, True])
def test_memory_is_bounded(engine: Engine, filled: bool) -> None:
    """A load holds a few thousand lines at a time, however many there are."""
    body = "x" * 900

    def winners() -> Iterator[tuple[str, int, bool, str]]:
        for n in range(40_000):
            yield f"{n:06}", n * 1000, n % 3 == 0, f'{{"id":"{n:06}","n":{n},"b":"{body}"}}'

    with engine.connect().execution_options(taskstore_write=True) as connection:
        connection.begin()
        rows = Rows(connection.connection.cursor(), DEFAULT)
        rows.set_index_fields("plans", [FIELD])
        if filled:
            rows.load("plans", [live(f"{n:06}") for n in range(0, 40_000, 2)])
        tracemalloc.start()
        rows.load("plans", winners())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (26_666, 13_334) == rows.counts("plans")
    assert peak < 12_000_000, f"{peak:,} bytes at once, of 40,000,000 in all"
