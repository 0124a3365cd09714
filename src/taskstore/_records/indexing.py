"""Index values: a function of the line and of which fields are indexed, and of nothing else.

The session hook, a sync in SQL and a rebuild must agree on them, also without the record types.
"""

from __future__ import annotations

import builtins
import datetime
import decimal
import enum
import sys
import uuid
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from taskstore._format.lines import decode_object
from taskstore._records.hints import Hint, alternatives, describe, origin_of

INDEX_TYPES = ("string", "int", "float", "bool", "datetime", "date", "uuid", "any")
"""Values of `record_index_fields.field_type`; "any" if settings name a field without a type."""

_INDEX_TYPES: dict[Any, str] = {
    str: "string",
    int: "int",
    float: "float",
    bool: "bool",
    datetime.datetime: "datetime",
    datetime.date: "date",
    uuid.UUID: "uuid",
}
_LARGEST = int(sys.float_info.max)
_INT64 = range(-(2**63), 2**63)
_SMALL = 2**63
_LOOKED_INTO = frozenset({"datetime", "uuid"})
"""The types for which the text of a value is not all there is to it."""
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


class IndexField(NamedTuple):
    """One indexed field of a collection.

    Attributes:
        name: The field's name, which is its key in a line.
        type: One of `INDEX_TYPES`.
        default: The JSON text that a line without the key is indexed as; None for no row.
    """

    name: str
    type: str
    default: str | None = None


class IndexValue(NamedTuple):
    """The value of an index row. Exactly one of the four is not None."""

    str: builtins.str | None = None
    int: builtins.int | None = None
    bool: builtins.bool | None = None
    float: builtins.float | None = None


def index_type(hint: Hint) -> str | None:
    """Return the index type of a declared type, or None if it cannot be indexed.

    Enums and literals count as their values; `| None` may be added to all.
    """
    kinds = alternatives(hint)
    if len(kinds) != 1:
        return None
    kind = kinds[0]
    values: Iterable[Any] = ()
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        values = [member.value for member in kind]
    elif origin_of(kind) is Literal:
        values = [value for value in get_args(kind) if value is not None]
    else:
        return _INDEX_TYPES.get(kind)
    types = {type(value) for value in values}
    if types == {builtins.int, builtins.float}:
        return "float"
    return _INDEX_TYPES.get(types.pop()) if len(types) == 1 else None


def not_indexable(hint: Hint) -> str:
    """Return the reason why a declared type cannot be indexed."""
    return (
        f"{describe(hint)} cannot be indexed: only str, int, float, bool, datetime, date, UUID "
        "and Enums of these can, with or without `| None`; declare it without indexed()"
    )


def index_value(field: IndexField, present: bool, value: Any) -> IndexValue | None:
    """Return the index row of a field, or None if it gets no row.

    The JSON value decides the column: text, integers of 64 bits, booleans, and other numbers as
    reals; null, arrays and objects have no row. Only "datetime" and "uuid" look further: a time is
    its microseconds since the epoch (without offset it counts as UTC; an integer is milliseconds),
    an id of 128 bits its usual spelling. Text that is neither stays text.

    Args:
        field: The field.
        present: Whether the line has the key; if not, the field's default counts.
        value: The JSON value, if it has.
    """
    if not present:
        if field.default is None:
            return None
        value = msgspec.json.decode(field.default)
    value = filter_value(field.type, value)
    if isinstance(value, str):
        return IndexValue(str=value)
    if isinstance(value, bool):
        return IndexValue(bool=value)
    if isinstance(value, int):
        return IndexValue(int=value) if value in _INT64 else IndexValue(float=builtins.float(value))
    if isinstance(value, float):
        return IndexValue(float=value)
    return None


def index_rows(fields: Iterable[IndexField], line: str | bytes) -> list[tuple[str, IndexValue]]:
    """Return the index rows of one line, as field name and value, in the order of `fields`."""
    record = decode_object(line)
    rows = []
    for field in fields:
        name = field.name
        value = record.get(name)
        # Usual values take this short way; index_value handles all others.
        if value.__class__ is str and field.type not in _LOOKED_INTO:
            found: IndexValue | None = IndexValue(value)
        elif value.__class__ is int and -_SMALL < value < _SMALL and field.type != "datetime":
            found = IndexValue(None, value)
        else:
            found = index_value(field, name in record, value)
        if found is not None:
            rows.append((name, found))
    return rows


def filter_value(type: str, value: Any) -> Any:
    """Return the scalar that a filter compares with the index values of a field.

    Args:
        type: The field's index type; any other text for a field that is not indexed.
        value: What the filter names: a JSON scalar, or a value of the field's Python type.
    """
    if isinstance(value, enum.Enum):
        value = value.value
    if type == "datetime":
        return _time_value(value)
    if type == "uuid" and isinstance(value, str):
        return _uuid_text(value)
    if isinstance(value, datetime.datetime | datetime.date | uuid.UUID | decimal.Decimal | bytes):
        return msgspec.to_builtins(value)
    if isinstance(value, PurePath):
        return value.as_posix()
    return value


def _time_value(value: Any) -> Any:
    if isinstance(value, str):
        try:
            # The decoder of typed records, so that both round finer digits alike.
            value = msgspec.convert(value, datetime.datetime)
        except msgspec.ValidationError:
            return value
    if isinstance(value, datetime.datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
        return (moment - _EPOCH) // _MICROSECOND
    if isinstance(value, datetime.date):
        return msgspec.to_builtins(value)
    if isinstance(value, int) and not isinstance(value, bool):
        microseconds = value * 1000
        return microseconds if abs(microseconds) <= _LARGEST else value
    return value


def _uuid_text(value: str) -> str:
    try:
        return str(msgspec.convert(value, uuid.UUID))
    except msgspec.ValidationError:
        return value
