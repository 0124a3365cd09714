"""Index values are a function of the line and of the indexed fields alone."""

from __future__ import annotations

import datetime
import enum
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore._format.lines import join_fields
from taskstore._records.declare import indexed, record
from taskstore._records.indexing import (
    INDEX_TYPES,
    IndexField,
    IndexValue,
    filter_value,
    index_rows,
    index_value,
)
from taskstore._records.types import RecordType

US = 1767225600_123456
KEY = "12345678-1234-5678-1234-56781234abcd"

CASES: list[tuple[str, Any, IndexValue | None]] = [
    ("string", "a", IndexValue(str="a")),
    ("string", "", IndexValue(str="")),
    ("string", "a\x00b", IndexValue(str="a\x00b")),
    ("string", 5, IndexValue(int=5)),
    ("int", 5, IndexValue(int=5)),
    ("int", "5", IndexValue(str="5")),
    ("int", 2**63 - 1, IndexValue(int=2**63 - 1)),
    ("int", 2**63, IndexValue(float=2.0**63)),
    ("int", -(2**63) - 1, IndexValue(float=-(2.0**63))),
    ("float", 1.5, IndexValue(float=1.5)),
    ("float", 1, IndexValue(int=1)),
    ("bool", True, IndexValue(bool=True)),
    ("int", False, IndexValue(bool=False)),
    ("string", None, None),
    ("string", [], None),
    ("string", {}, None),
    ("datetime", "2026-01-01T00:00:00.123456Z", IndexValue(int=US)),
    ("datetime", "2026-01-01T02:00:00.123456+02:00", IndexValue(int=US)),
    ("datetime", "2026-01-01T00:00:00.123456", IndexValue(int=US)),
    ("datetime", 1767225600123, IndexValue(int=1767225600123000)),
    ("datetime", "soon", IndexValue(str="soon")),
    ("datetime", True, IndexValue(bool=True)),
    ("datetime", 10**17, IndexValue(float=1e20)),
    ("datetime", 10**306, IndexValue(float=1e306)),
    ("datetime", None, None),
    ("date", "2026-01-01", IndexValue(str="2026-01-01")),
    ("uuid", KEY.upper(), IndexValue(str=KEY)),
    ("uuid", KEY.replace("-", ""), IndexValue(str=KEY)),
    ("uuid", "none", IndexValue(str="none")),
]


@pytest.mark.parametrize(("type", "value", "expected"), CASES)
def test_the_json_value_decides(type: str, value: Any, expected: IndexValue | None) -> None:
    """Its own type chooses the column, whatever the field was declared as."""
    field = IndexField("value", type)
    assert expected == index_value(field, True, value)
    rows = [] if expected is None else [("value", expected)]
    assert rows == index_rows([field], json.dumps({"id": "x", "value": value}))


@given(
    st.sampled_from(INDEX_TYPES),
    st.none() | st.booleans() | st.integers() | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
def test_a_row_has_exactly_one_value(type: str, value: Any) -> None:
    """Every JSON scalar but null has a row, and integers fit into 64 bits."""
    found = index_value(IndexField("value", type), True, value)
    if value is None:
        assert None is found
    else:
        assert found is not None
        assert 1 == sum(column is not None for column in found)
        assert found.int is None or -(2**63) <= found.int < 2**63


def test_an_absent_key_counts_as_its_default() -> None:
    """But a null does not."""
    field = IndexField("value", "datetime", '"2026-01-01T00:00:00.123456Z"')
    assert [("value", IndexValue(int=US))] == index_rows([field], '{"id":"x"}')
    assert [] == index_rows([field], '{"id":"x","value":null}')
    assert [] == index_rows([IndexField("value", "int")], '{"id":"x"}')


def test_of_duplicate_keys_the_last_counts() -> None:
    """As everywhere."""
    assert [("a", IndexValue(int=2))] == index_rows([IndexField("a", "int")], '{"a":1,"a":2}')


class Status(enum.Enum):
    DRAFT = "draft"


@record("things")
class Thing:
    id: str
    text: str = indexed(default="d")
    number: int | None = indexed(default=None)
    real: float = indexed(default=0.5)
    flag: bool = indexed(default=False)
    moment: datetime.datetime | None = indexed(default=None)
    day: datetime.date | None = indexed(default=None)
    key: uuid.UUID | None = indexed(default=None)
    status: Status = indexed(default=Status.DRAFT)


small = st.none() | st.integers(-(2**63), 2**63 - 1)
moments = st.none() | st.datetimes(timezones=st.none() | st.just(datetime.UTC))


@given(
    st.builds(
        Thing, st.just("x"), text=st.text(), number=small, flag=st.booleans(), moment=moments,
        real=st.floats(allow_nan=False, allow_infinity=False), day=st.none() | st.dates(),
        key=st.none() | st.uuids(),
    )
)  # fmt: skip
def test_a_filter_value_finds_the_record_that_has_it(thing: Thing) -> None:
    """A field's Python value is compared as what its line is indexed as."""
    kind = RecordType.of(Thing)
    line = join_fields(kind.encode(thing)).decode()
    rows = dict(index_rows(kind.index_fields, line))
    for field in kind.index_fields:
        wanted = filter_value(field.type, kind.value_of(thing, field.name))
        row = rows.get(field.name)
        assert wanted == (None if row is None else next(x for x in row if x is not None))


def test_filters_take_values_of_other_types_too() -> None:
    """Text for a time or an id, a path, a member of an Enum."""
    assert US == filter_value("datetime", "2026-01-01T00:00:00.123456Z")
    assert KEY == filter_value("uuid", KEY.upper())
    assert "draft" == filter_value("", Status.DRAFT)
    assert "2026-01-01" == filter_value("date", datetime.date(2026, 1, 1))
    assert [1] == filter_value("string", [1])
