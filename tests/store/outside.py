"""What other programs do to a store directory, and what the cache in it holds."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.store.reader import replay

IDS = ["a", "b", "c\u0000", "é\"/\n'"]
STATUSES = ["draft", "active", "done", "dra", "a\u0000b", ""]
NUMBERS = [-1, 0, 3, 2**70, None]
DUES = ["2026-01-01T00:00:00Z", "2026-06-01T12:00:00.5+02:00", None]
GARBAGE = [
    b"",
    b"   ",
    b"garbage",
    b"[]",
    b"null",
    b'{"id":""}',
    b'{"id":7}',
    b'{"status":"active"}',
    b'{"id":"a","updated_at":"yesterday"}',
    b'{"id":"a","updated_at":9000000.0}',
    b'{"id":"a","updated_at":true}',
    b'{"id":"a","updated_at":9000000,"x":NaN}',
    b'{"id":"a","updated_at":9000000,"x":1e999}',
    b'{"id":"a","updated_at":9000000,"x":"\\ud800"}',
    b'{"id":"a","updated_at":9000000,"x":"\xff"}',
    b'{"id":"a","updated_at":9000000',
    b"<<<<<<< ours",
    b'\x00{"id":"a","updated_at":9000000}',
]

statuses = st.sampled_from(STATUSES)
numbers = st.sampled_from(NUMBERS)
plan_fields: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(["", "x", "ü\u2028", 'say "hi"\\']),
        "status": statuses,
        "priority": numbers,
        "due": st.sampled_from(DUES),
        "tags": st.sampled_from([[], ["x"], ["active", "ü"]]),
    },
)
note_fields: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "text": statuses,
        "done": st.booleans(),
        "score": st.sampled_from([0.5, 1.5, -0.1, None]),
    },
)
FIELDS: dict[str, st.SearchStrategy[dict[str, Any]]] = {"plans": plan_fields, "notes": note_fields}
_strange = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from([*STATUSES, 5, None, ["active"]]),
        "priority": st.sampled_from([*NUMBERS, "high", 3.5]),
        "due": st.sampled_from([*DUES, "someday"]),
        "done": st.sampled_from([True, "yes", None]),
        "score": st.sampled_from([1, 1.5, 2**70]),
        "x": st.sampled_from([1, {"deep": [1, {}]}, "active"]),
    },
)
versions = st.one_of(
    st.sampled_from([None, 0, 1, 999_999, 1_000_000, 1_000_001, 1_000_500, 5_000_000]),
    st.tuples(
        st.sampled_from([0, 999_999_000, 1_000_000_000, 1_000_000_123, 1_000_001_000]),
        st.sampled_from(["Z", "+02:00"]),
    ).map(lambda parts: rfc3339(*parts)),
    st.sampled_from(["older", "equal", "newer"]),
    st.sampled_from(["older", "equal", "newer"]),
)


def rfc3339(order_us: int, offset: str) -> str:
    """An instant as text, in UTC or two hours east of it."""
    moment = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=order_us)
    if offset != "Z":
        moment += timedelta(hours=2)
    return moment.replace(tzinfo=None).isoformat() + offset


def twinned(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields, with the twins of those that have one."""
    twins = {"status": "mood", "priority": "rank"}
    return fields | {twins[name]: value for name, value in fields.items() if name in twins}


@st.composite
def outside_lines(draw: st.DrawFn, data: bytes) -> bytes:
    """Some lines that another program might add to a log."""
    lines = [draw(_outside_line(data)) for _ in range(draw(st.integers(1, 3)))]
    ending = draw(st.sampled_from([b"\n", b"\r\n"]))
    last = draw(st.sampled_from([ending, ending, b""]))
    return ending.join(lines) + last


@st.composite
def _outside_line(draw: st.DrawFn, data: bytes) -> bytes:
    if draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(GARBAGE))
    seen = replay(data)
    id = draw(st.sampled_from([*IDS, *sorted(seen)]))
    version = draw(versions)
    if version in ("older", "equal", "newer"):
        known = seen.get(id)
        step = {"older": -1, "equal": 0, "newer": 1}[version]
        version = max(0, (known.order_us if known else 0) // 1000 + step)
    record = {"id": id, **twinned(draw(_strange))}
    if version is not None:
        record["updated_at"] = version
    if draw(st.integers(0, 3)) == 0:
        record["deleted"] = draw(st.sampled_from([True, True, False]))
    return json.dumps(record, ensure_ascii=draw(st.booleans())).encode()


def read_log(path: Path) -> bytes:
    """The bytes of a log; none where there is no file."""
    return path.read_bytes() if path.exists() else b""


def rewrite(path: Path, data: bytes, *, in_place: bool, mtime_ns: int | None) -> None:
    """Give a log other content, as an editor does in place or as git does by another file."""
    if in_place:
        with path.open("r+b" if path.exists() else "wb") as file:
            file.write(data)
            file.truncate()
    else:
        other = path.with_name("other.tmp")
        other.write_bytes(data)
        other.replace(path)
    if mtime_ns is not None:
        os.utime(path, ns=(mtime_ns, mtime_ns))


class Cache:
    """What the tables of a cache hold, read by SQL of the test's own."""

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            self.records = _table(
                connection,
                "SELECT collection, id, data_json, updated_at, updated_at_us FROM records",
            )
            self.tombstones = _table(
                connection, "SELECT collection, id, updated_at, updated_at_us FROM tombstones"
            )
            self.fields = _table(
                connection, "SELECT collection, field_name, field_type FROM record_index_fields"
            )
            self.indexes: dict[tuple[str, str], dict[str, tuple[Any, ...]]] = {}
            for collection, id, name, *values in connection.execute(
                "SELECT collection, id, field_name, field_value_str, field_value_int, "
                "field_value_bool, field_value_real FROM record_indexes"
            ):
                self.indexes.setdefault((collection, id), {})[name] = tuple(values)


def _table(connection: sqlite3.Connection, sql: str) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {(row[0], row[1]): row[2:] for row in connection.execute(sql)}
