"""Orders and pages as SQL over the lines of records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Double,
    Integer,
    Numeric,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    or_,
)
from sqlalchemy.dialects.postgresql import JSONB

from taskstore._format.lines import encode_value
from taskstore._postgres.records.filters import RecordColumns, Value, field, number_of, text_of
from taskstore._query.meaning import MAX_INT, MIN_INT, Scalar
from taskstore._query.ordering import Sort


class Key(NamedTuple):
    """An expression to sort by, which is never NULL.

    Attributes:
        value: The expression.
        descending: From the greatest to the least.
        type: The type of the values that it is compared with.
    """

    value: Value
    descending: bool
    type: Any


def sort_keys(sorts: Sequence[Sort], columns: RecordColumns) -> list[Key] | None:
    """Return the expressions of an order; None if there are none that mean the same.

    Args:
        sorts: From `resolve_order`.
        columns: Of the records.
    """
    if any(sort.kind not in ("id", "version", "plain") for sort in sorts):
        return None
    return [key for sort in sorts for key in _keys(sort, columns)]


def _keys(sort: Sort, columns: RecordColumns) -> Iterator[Key]:
    if sort.kind == "id":
        yield Key(columns.id.collate("C"), sort.descending, Text())
        return
    if sort.kind == "version":
        yield Key(columns.updated_at_us, sort.descending, BigInteger())
        return
    value = field(columns, sort.name)
    if sort.default is not None:
        default = literal(encode_value(sort.default).decode(), Text)
        value = func.coalesce(value, cast(default, JSONB))
    ranks = {"number": 1, "boolean": 1, "string": 2}
    rank = func.coalesce(case(ranks, value=func.jsonb_typeof(value)), 0)
    yield Key(rank, sort.descending, Integer())
    number = func.coalesce(_as_read(number_of(value)), literal(Decimal(0), Numeric()))
    yield Key(number, sort.descending, Numeric())
    yield Key(
        func.coalesce(text_of(value), literal("", Text)).collate("C"), sort.descending, Text()
    )


def _as_read(number: Value) -> Value:
    """Return a number as Python reads it: beyond 64 bits and with a fraction, a double."""
    is_integer = and_(
        number == func.trunc(number), number.between(Decimal(MIN_INT), Decimal(MAX_INT))
    )
    # PostgreSQL refuses to convert other numbers to a double.
    has_double = func.abs(number).between(Decimal("1e-290"), Decimal("1.79e308"))
    rounded = cast(cast(cast(number, Double), Text), Numeric)
    return case((is_integer, number), (has_double, rounded), else_=number)


def following(keys: Sequence[Key], sorts: Sequence[Sort], place: Sequence[Scalar | None]) -> Value:
    """Return the condition for records after a place in an order.

    Args:
        keys: From `sort_keys`.
        sorts: The order.
        place: The values that sort the record at the place, from `page_values`.
    """
    values = [value for sort, item in zip(sorts, place, strict=True) for value in _at(sort, item)]
    follows: Value = false()
    for key, value in zip(reversed(keys), reversed(values), strict=True):
        bound = literal(value, key.type)
        beyond = key.value < bound if key.descending else key.value > bound
        follows = or_(beyond, and_(key.value == bound, follows))
    return follows


def _at(sort: Sort, item: Scalar | None) -> Iterator[Any]:
    """Yield the values of the expressions of `_keys`, for a record that is sorted by a value."""
    if sort.kind != "plain":
        yield item
    elif item is None:
        yield from (0, Decimal(0), "")
    elif isinstance(item, str):
        yield from (2, Decimal(0), item)
    else:
        yield from (1, Decimal(repr(item)) if isinstance(item, float) else Decimal(item), "")
