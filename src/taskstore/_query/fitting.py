"""Check that a field can have the value of a filter, by the field's declared type."""

from __future__ import annotations

import datetime
import enum
import typing
import uuid
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from taskstore._query.conditions import And, Condition, Filter, FilterOp, Not, Or
from taskstore._query.resolve import RecordFacts, find_field
from taskstore._records.hints import alternatives, describe, origin_of
from taskstore.errors import InvalidFilterError

_WORDS = {"number": "a number", "text": "text", "list": "a list", "object": "an object"}
_CLASSES: Mapping[Any, frozenset[str]] = {
    str: frozenset({"text"}),
    int: frozenset({"number"}),
    float: frozenset({"number"}),
    bool: frozenset({"number"}),
    list: frozenset({"list"}),
    tuple: frozenset({"list"}),
    set: frozenset({"list"}),
    frozenset: frozenset({"list"}),
    dict: frozenset({"object"}),
    datetime.date: frozenset({"text"}),
    uuid.UUID: frozenset({"text"}),
}
"""The kinds of JSON values that fields of a type have; types that are not here may have any."""


def check_fit(condition: Condition | None, type_: RecordFacts | None) -> None:
    """Check that each value in a condition fits the type of its field.

    Args:
        condition: The condition.
        type_: The facts of the record type; None for plain dicts, whose fields may have any value.

    Raises:
        InvalidFilterError: A value does not fit.
        UnknownFieldError: The type has no field of that name.
    """
    if type_ is None or condition is None:
        return
    if isinstance(condition, Filter):
        _check(condition, type_)
    elif isinstance(condition, Not):
        check_fit(condition.part, type_)
    elif isinstance(condition, (And, Or)):
        for part in condition.parts:
            check_fit(part, type_)


def _check(filter_: Filter, type_: RecordFacts) -> None:
    place = find_field(type_, filter_.field, filter_.owner)
    if filter_.op is FilterOp.IS_NONE or place.kind == "version":
        return
    hint = str if place.kind == "id" else type_.field(filter_.field).type
    kinds = _kinds(hint)
    if kinds is None:
        return
    if filter_.op is FilterOp.CONTAINS:
        if kinds & {"text", "list"}:
            return
        raise _error(filter_, hint, "it contains nothing")
    values = filter_.value if filter_.op is FilterOp.IN else (filter_.value,)
    for value in values:
        kind = _kind_of(value)
        if kind is not None and kind not in kinds:
            wanted = " or ".join(sorted(_WORDS[each] for each in kinds))
            raise _error(filter_, hint, f"compare it with {wanted}, not with {value!r}")


def _error(filter_: Filter, hint: Any, reason: str) -> InvalidFilterError:
    return InvalidFilterError(f"field {filter_.field!r} is {describe(hint)}: {reason}")


def _kinds(hint: Any) -> frozenset[str] | None:
    """Return the kinds of JSON values that a type has; None if it may have any."""
    try:
        return _known_kinds(hint)
    except TypeError:  # a Literal of something unhashable
        return None


@lru_cache(maxsize=1024)
def _known_kinds(hint: Any) -> frozenset[str] | None:
    found: set[str] = set()
    for each in alternatives(hint):
        kinds = _kinds_of_one(each)
        if kinds is None:
            return None
        found |= kinds
    return frozenset(found)


def _kinds_of_one(hint: Any) -> frozenset[str] | None:
    origin = origin_of(hint)
    if origin is typing.Literal:
        return _kinds_of_values(typing.get_args(hint))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _kinds_of_values([member.value for member in hint])
    return _CLASSES.get(origin if origin is not None else hint)


def _kinds_of_values(values: Any) -> frozenset[str] | None:
    kinds = {_kind_of(value) for value in values if value is not None}
    return None if None in kinds else frozenset(kind for kind in kinds if kind is not None)


def _kind_of(value: Any) -> str | None:
    """Return the kind of JSON value that a filter's value is; None if that is not known."""
    if isinstance(value, enum.Enum):
        return _kind_of(value.value)
    if isinstance(value, (str, datetime.date, uuid.UUID)):
        return "text"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "list"
    return "object" if isinstance(value, Mapping) else None
