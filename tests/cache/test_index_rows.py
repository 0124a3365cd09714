from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from taskstore._cache.engine.sqlite import create_memory_engine
from taskstore._cache.rows.indexes import IndexRows
from taskstore._cache.rows.rows import Rows
from taskstore._cache.schema.models import DEFAULT
from taskstore._cache.schema.schema import ensure_schema
from taskstore._records.indexing import INDEX_TYPES, IndexField, index_rows
from tests.examples import share

NAMES = ("status", "n", "a_b")
INTEGERS = st.one_of(
    st.integers(-5, 5),
    st.sampled_from(
        [2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**19, 10**40, -(10**18)]
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    INTEGERS,
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(
        [
            "2024-05-06T07:08:09.1234567Z",
            "2024-05-06",
            "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
            "\x00",
            "a\x00b",
            '"status"',
            "\\u0000",
            "😀",
        ]
    ),
)
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.sampled_from(NAMES), SCALARS)
)
NUMBERS = st.sampled_from(
    ["1e2", "-0", "-0.0", "1E-7", "0.1", "1e22", "1e23", "123456789012345678", "5e-324"]
)


def _key(name: str, escaped: bool) -> str:
    return '"' + (f"\\u{ord(name[0]):04x}{name[1:]}" if escaped else name) + '"'


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A line's text without its id: any order, duplicates, escapes and white space."""
    members = []
    for _ in range(draw(st.integers(0, 5))):
        name = draw(st.sampled_from([*NAMES, "other"]))
        value = draw(NUMBERS) if draw(st.integers(0, 4)) == 0 else json.dumps(
            draw(VALUES), ensure_ascii=draw(st.booleans())
        )  # fmt: skip
        space = draw(st.sampled_from(["", " "]))
        members.append(f"{_key(name, draw(st.integers(0, 9)) == 0)}{space}:{space}{value}")
    return ",".join(members)


FIELDS = st.lists(
    st.builds(
        IndexField,
        name=st.sampled_from(NAMES),
        type=st.sampled_from(INDEX_TYPES),
        default=st.one_of(st.none(), SCALARS.map(json.dumps), st.just("[]")),
    ),
    max_size=3,
    unique_by=lambda field: field.name,
)

ALL = "SELECT id, field_name, field_value_str, field_value_int, field_value_bool, field_value_real "
ALL += "FROM record_indexes WHERE collection = ? ORDER BY id, field_name"


def found(rows: IndexRows, collection: str = "plans") -> list[tuple[Any, ...]]:
    """All index rows, typed as the database has them."""
    return [(*row[:4], None if row[4] is None else bool(row[4]), row[5])
            for row in rows._read(ALL, (collection,))]  # fmt: skip


def expected(fields: list[IndexField], texts: dict[str, str]) -> list[tuple[Any, ...]]:
    """The same by their definition."""
    in_order = sorted(fields, key=lambda field: field.name)
    return [
        (id, name, *value)
        for id, line in sorted(texts.items())
        for name, value in index_rows(in_order, line)
    ]


@pytest.fixture(scope="module")
def memory() -> Any:
    """A cache in memory, for the many small cases of a property test."""
    engine = create_memory_engine()
    ensure_schema(engine)
    yield engine
    engine.dispose()


@share(3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=FIELDS, members=st.lists(lines(), max_size=6))
@example(
    fields=[IndexField("status", "string", None), IndexField("n", "float", "0.1")],
    members=[
        '"status":"a","status":"b"',
        '"status":"a\\u0000b"',
        '"st\\u0061tus":"x"',
        '"n":9223372036854775808',
        '"n":9007199254740993',
        '"n":0.30000000000000004',
        '"n":8.41e21',
        '"n":true,"status":null',
        '"x":{"status":"deep"}',
    ],
)
def test_sql_and_python_agree(memory: Any, fields: list[IndexField], members: list[str]) -> None:
    """Index rows filled in SQL are those that their definition gives, for any line and fields."""
    texts = {
        f"id-{number}": f'{{"id":"id-{number}"{"," + text if text else ""}}}'
        for number, text in enumerate(members)
    }
    with memory.connect().execution_options(taskstore_write=True) as connection:
        connection.begin()
        rows = Rows(connection.connection.cursor(), DEFAULT)
        rows.set_index_fields("plans", fields)
        rows.load("plans", [(id, 0, False, line) for id, line in sorted(texts.items())])
        assert expected(fields, texts) == found(rows)
        rows.write_index("plans", list(texts.items()))
        assert expected(fields, texts) == found(rows)
        assert len(texts) == rows.rebuild_index("plans")
        assert expected(fields, texts) == found(rows)


def test_reals_are_the_nearest_double(rows: Rows) -> None:
    """Decimal numbers are indexed as Python reads them, where SQLite's own reading is one bit off.

    Whether it is depends on the platform and on SQLite's version: here it is made to be.
    """

    def one_bit_off(line: str, path: str) -> Any:
        value = json.loads(line).get(path[2:])
        return math.nextafter(value, math.inf) if isinstance(value, float) else value

    rows._driver.create_function("json_extract", 2, one_bit_off, deterministic=True)
    texts = {f"{n:05}": f'{{"id":"{n:05}","n":{n * 7919 % 100003 / 1009!r}}}' for n in range(3000)}
    field = IndexField("n", "float")
    rows.set_index_fields("plans", [field])
    rows.load("plans", [(id, 0, False, line) for id, line in texts.items()])
    assert expected([field], texts) == found(rows)


def test_a_big_collection_gets_its_indexes_back(rows: Rows) -> None:
    """The secondary indexes that a big load drops are there again, word for word."""
    schema = "SELECT sql FROM sqlite_master WHERE type = 'index' ORDER BY sql"
    before = rows._read(schema)
    fields = [IndexField("status", "string"), IndexField("n", "int", "7")]
    texts = {f"{n:05}": f'{{"id":"{n:05}","status":"s{n % 3}"}}' for n in range(6000)}
    rows.set_index_fields("plans", fields)
    rows.load("plans", [(id, 0, False, line) for id, line in texts.items()])
    assert before == rows._read(schema)
    assert expected(fields, texts) == found(rows)
    plan = rows._read(
        "EXPLAIN QUERY PLAN SELECT id FROM record_indexes WHERE collection = 'plans' "
        "AND field_name = 'status' AND field_value_str = 's1'"
    )
    assert "ix_record_indexes_str" in plan[0][3]


def test_a_reader_on_the_same_connection_is_no_obstacle(rows: Rows) -> None:
    """A big load beside an open SELECT of its own connection keeps the indexes instead."""
    rows.replace("others", [("a", '{"id":"a"}', 0, 0), ("b", '{"id":"b"}', 0, 0)])
    reading = rows._driver.cursor()
    assert ("a",) == reading.execute("SELECT id FROM records").fetchone()
    field = IndexField("n", "int", "1")
    rows.set_index_fields("plans", [field])
    texts = {f"{n:05}": f'{{"id":"{n:05}"}}' for n in range(12_000)}
    rows.load("plans", [(id, 0, False, line) for id, line in texts.items()])
    assert expected([field], texts) == found(rows)
    reading.close()


def test_collections_do_not_touch_each_other(rows: Rows) -> None:
    """Clearing and rebuilding one collection's index rows leaves those of others."""
    field = IndexField("n", "int")
    for collection in ("a", "b", "c"):
        rows.set_index_fields(collection, [field])
        rows.load(collection, [("x", 0, False, '{"id":"x","n":1}')])
    rows.clear_index("b")
    assert [] == found(rows, "b")
    assert [("x", "n", None, 1, None, None)] == found(rows, "a") == found(rows, "c")
    assert 1 == rows.rebuild_index("b")
    assert found(rows, "a") == found(rows, "b")


def test_fields_are_remembered(rows: Rows, tmp_path: Path) -> None:
    """Only a real change of the indexed fields counts as one."""
    one, two = IndexField("n", "int", "7"), IndexField("status", "string")
    assert rows.set_index_fields("plans", [one, two])
    assert not rows.set_index_fields("plans", [two, one])
    assert {"n": one, "status": two} == rows.index_fields("plans")
    assert rows.set_index_fields("plans", [IndexField("n", "int", "8"), two])
    assert rows.set_index_fields("plans", [])
    assert {} == rows.all_index_fields()
