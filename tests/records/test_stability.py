"""An update keeps every byte of a line that it need not change."""

from __future__ import annotations

import datetime
import itertools
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore._format.lines import encode_value, join_fields, raw_fields
from taskstore._records.declare import evolve, record
from taskstore._records.dicts import DictType
from taskstore._records.types import RecordType

counter = itertools.count()


@attrs.define
class Owner:
    name: str
    age: int = 0


@record("things")
class Thing:
    id: str
    title: str = ""
    size: float = 0.0
    tags: list[str] = attrs.field(factory=list)
    owner: Owner | None = None
    price: Decimal = Decimal("0.00")
    due: datetime.datetime | None = None
    made: list[str] = attrs.field(factory=lambda: ["a"])
    serial: int = attrs.field(factory=lambda: next(counter))
    updated_at: int = 0


KIND = RecordType.of(Thing)
LINE = (
    '{"x":1.50,"title":"caf\\u00e9","size":1e2,"updated_at":"2026-01-01T00:00:00Z",'
    '"price":1.50,"due":"2026-01-01 00:00:00z","id":"a","serial":1,'
    '"owner":{"age":3,"seen":[1, 2],"name":"n"},"y":null,"tags":[ "a" ]}'
)


def merged(record: Thing, line: str = LINE) -> str:
    """The next line of a record."""
    return join_fields(KIND.merge(line, record)).decode()


def test_writing_back_what_was_read_changes_nothing() -> None:
    """Order, spelling, unknown keys and absent defaults stay as they are."""
    assert raw_fields(LINE) == KIND.merge(LINE, KIND.decode(LINE))
    assert list(raw_fields(LINE)) == list(KIND.merge(LINE, KIND.decode(LINE)))


CHANGES: list[tuple[dict[str, Any], str, str]] = [
    ({"title": "new"}, '"caf\\u00e9"', '"new"'),
    ({"size": 5}, "1e2", "5"),
    ({"tags": ["a", "b"]}, '[ "a" ]', '["a","b"]'),
    ({"price": Decimal("1.51")}, '"price":1.50', '"price":"1.51"'),
    ({"due": None}, '"2026-01-01 00:00:00z"', "null"),
    ({"owner": None}, '{"age":3,"seen":[1, 2],"name":"n"}', "null"),
    ({"owner": Owner("m", 3)}, '"name":"n"', '"name":"m"'),
]


@pytest.mark.parametrize(("change", "before", "after"), CHANGES)
def test_only_the_changed_value_changes(change: dict[str, Any], before: str, after: str) -> None:
    """It is replaced in place; inside a nested class too, whose unknown keys survive."""
    assert LINE.replace(before, after) == merged(evolve(KIND.decode(LINE), **change))


def test_the_same_number_in_another_spelling_is_no_change() -> None:
    """100 is what 1e2 says."""
    assert LINE == merged(evolve(KIND.decode(LINE), size=100))


def test_new_keys_are_appended_in_the_order_of_the_class() -> None:
    """And only those whose value is not their default."""
    line = '{"z":1,"id":"a","serial":1}'
    changed = evolve(KIND.decode(line), owner=Owner("n"), title="t")
    expected = '{"z":1,"id":"a","serial":1,"title":"t","owner":{"name":"n","age":0}}'
    assert expected == merged(changed, line)


def test_what_a_factory_makes_is_compared_anew() -> None:
    """A default that is the same each time is not added; one that differs is kept from now on."""
    line = '{"id":"a"}'
    fields = KIND.merge(line, KIND.decode(line))
    assert ["id", "serial"] == list(fields)


def test_a_new_record_has_every_field() -> None:
    """In the order of the class, without a version that it does not carry."""
    fields = KIND.merge(None, Thing("a"))
    assert [name for name in KIND.fields if name != "updated_at"] == list(fields)
    assert b"5" == KIND.merge(None, Thing("a", updated_at=5))["updated_at"]


def test_the_version_is_left_to_the_caller() -> None:
    """The previous line's stands, in its form, whatever the record carries."""
    assert LINE == merged(evolve(KIND.decode(LINE), updated_at=1))


def test_a_value_that_did_not_fit_is_replaced() -> None:
    """A record rebuilt may mend a line that could not be read."""
    thing = Thing("a", "t")
    thing.serial = 1
    line = '{"id":"a","title":5,"serial":1}'
    assert '{"id":"a","title":"t","serial":1}' == merged(thing, line)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
rows = st.dictionaries(
    st.text().filter(lambda key: key not in {"deleted", "updated_at"}), json_values
)
ROWS = DictType("things")


@given(rows, st.integers(1, 10**12))
def test_any_line_written_back_is_the_same(row: dict[str, Any], version: int) -> None:
    """For a class that knows some of the keys, and for a dict that knows them all."""
    known = {"title", "size", "tags", "owner", "price", "due", "made", "serial"}
    plain = {key: value for key, value in row.items() if key not in known}
    fields = {key: encode_value(value) for key, value in (plain | {"id": "a"}).items()}
    line = join_fields({**fields, "serial": b"1", "updated_at": encode_value(version)})
    assert line == join_fields(KIND.merge(line, KIND.decode(line)))
    assert line == join_fields(ROWS.merge(line, ROWS.decode(line)))


def test_a_dict_is_the_whole_record() -> None:
    """Keys that it lacks go, new ones follow, the others keep place and bytes."""
    line = '{"a":1e2,"id":"x","updated_at":5,"b":[1, 2],"c":"\\u00e9"}'
    fields = ROWS.merge(line, {"d": 1, "c": "é", "a": 100.0, "id": "x"})
    assert b'{"a":1e2,"id":"x","updated_at":5,"c":"\\u00e9","d":1}' == join_fields(fields)
