"""Plain dicts as records."""

from __future__ import annotations

import datetime
import enum
import types
import uuid
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore._format.lines import join_fields
from taskstore._records.dicts import DictType
from taskstore.errors import InvalidIdError, InvalidNameError, InvalidRecordError

ROWS = DictType("things")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(), values))
def test_a_dict_is_read_back_as_it_was_written(row: dict[str, Any]) -> None:
    """Any keys, any JSON values, in their order."""
    row = {key: value for key, value in row.items() if key not in {"deleted", "updated_at"}}
    row["id"] = "x"
    found = ROWS.decode(join_fields(ROWS.encode(row)))
    assert (row, list(row)) == (found, list(found))


class Color(enum.Enum):
    RED = "red"


@attrs.define
class Point:
    y: int
    x: int


def test_rich_values_become_their_json() -> None:
    """As the codec writes them for a class."""
    row = {
        "id": "x",
        "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "key": uuid.UUID(int=1),
        "color": Color.RED,
        "path": Path("a/b"),
        "set": {3, 1, 20},
        "point": Point(1, 2),
        "view": types.MappingProxyType({"a": (1, 2)}),
    }
    expected = {
        "id": "x",
        "when": "2026-01-01T00:00:00Z",
        "key": "00000000-0000-0000-0000-000000000001",
        "color": "red",
        "path": "a/b",
        "set": [1, 3, 20],
        "point": {"y": 1, "x": 2},
        "view": {"a": [1, 2]},
    }
    assert expected == ROWS.decode(join_fields(ROWS.encode(row)))


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"deleted": True}, "deleted", "marks a deleted record"),
        ({"a": float("nan")}, "a", "JSON has no nan"),
        ({"a": "\ud800"}, "a", "a lone surrogate"),
        ({"\ud800": 1}, "\ud800", "a lone surrogate"),
        ({"a": 10**400}, "a", "beyond the range of a double"),
        ({"a": object()}, "a", "object"),
        ({5: 1}, None, "the key 5 is not a string"),
        ({"updated_at": "soon"}, "updated_at", "RFC 3339"),
        ({"a": "x" * 2**24}, "a", "longer than 16 MiB"),
    ],
    ids=range(9),
)
def test_what_a_line_cannot_carry_is_refused(
    row: dict[Any, Any], field: str | None, reason: str
) -> None:
    """By key and reason."""
    with pytest.raises(InvalidRecordError, match=reason) as caught:
        ROWS.encode({"id": "x", **row})
    assert ("things", "x", field) == (caught.value.collection, caught.value.id, caught.value.field)


@pytest.mark.parametrize("deleted", [False, None, 1, "true"])
def test_only_true_is_a_tombstone(deleted: Any) -> None:
    """Any other value of `deleted` is the record's own."""
    row = {"id": "x", "deleted": deleted}
    assert row == ROWS.decode(join_fields(ROWS.encode(row)))


@pytest.mark.parametrize("row", [{}, {"id": None}, {"id": " "}, {"id": 5}])
def test_a_dict_needs_an_id(row: dict[str, Any]) -> None:
    """A usable one."""
    with pytest.raises(InvalidIdError):
        ROWS.encode(row)


def test_records_are_mappings() -> None:
    """Anything else is refused with what it is."""
    with pytest.raises(InvalidRecordError, match="expected a dict, got list"):
        ROWS.encode([])  # type: ignore[arg-type]


def test_any_field_may_be_asked_for() -> None:
    """A dict that lacks it has None there."""
    assert (None, 1) == (ROWS.value_of({"id": "x"}, "a"), ROWS.value_of({"a": 1}, "a"))
    assert (Any, False) == (ROWS.field("a").type, ROWS.field("a").required)


def test_the_collection_must_have_a_name() -> None:
    """The same names as for classes."""
    with pytest.raises(InvalidNameError):
        DictType("a b")
