"""From filters as written to tests with checked names and comparable values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol
from uuid import UUID

import attrs

from taskstore._format.instants import parse_instant
from taskstore._format.lines import decode_object
from taskstore._format.names import check_field_name
from taskstore._query.conditions import And, Condition, Filter, FilterOp, Not, Or
from taskstore._query.meaning import Kind, Scalar, Test, evaluate, in_range
from taskstore._records.builtins import to_builtins
from taskstore._records.indexing import IndexField, filter_value, index_type
from taskstore.errors import InvalidFilterError

NEVER = Or(())

_KINDS: Mapping[str | None, Kind] = {"datetime": "datetime", "uuid": "uuid"}


class FieldFacts(Protocol):
    """What filters need to know of a declared field."""

    @property
    def default_json(self) -> bytes | None:
        """The JSON of its default; None if it has none or JSON cannot say it."""
        ...

    @property
    def type(self) -> Any:
        """Its declared type."""
        ...


class RecordFacts(Protocol):
    """What filters need to know of a record type."""

    @property
    def cls(self) -> type:
        """The record class."""
        ...

    def field(self, name: str, /) -> FieldFacts:
        """Return a field's facts, or raise UnknownFieldError."""
        ...


@attrs.frozen
class Place:
    """Where a field's value comes from, and how it is read."""

    name: str
    kind: Kind | None
    default: Any = None


def find_field(type_: RecordFacts | None, name: str, owner: type | None = None) -> Place:
    """Find a field by name, on a type or on plain dicts (None).

    Raises:
        UnknownFieldError: The type has no such field.
        InvalidFilterError: The field was named by another class's attribute.
    """
    if type_ is not None and owner is not None and not issubclass(type_.cls, owner):
        raise InvalidFilterError(
            f"{owner.__name__}.{name} is not a field of {type_.cls.__name__}: name a field of "
            "the type that you ask for"
        )
    if name == "id":
        return Place(name, "id")
    if name == "updated_at":
        return Place(name, "version")
    if type_ is None:
        return Place(check_field_name(name), None)
    facts = type_.field(name)
    default = None if facts.default_json is None else decode_value(facts.default_json)
    return Place(name, _kind_of_type(facts.type), default)


def _kind_of_type(hint: Any) -> Kind | None:
    try:
        return _known_kind(hint)
    except TypeError:  # a Literal of something unhashable
        return _KINDS.get(index_type(hint))


@lru_cache(maxsize=1024)
def _known_kind(hint: Any) -> Kind | None:
    return _KINDS.get(index_type(hint))


def index_kind(field: IndexField) -> Kind:
    """Return how the values of an index were read from the JSON."""
    return _KINDS.get(field.type, "plain")


def decode_value(raw: bytes | str) -> Any:
    """Decode one JSON value."""
    text = raw if isinstance(raw, str) else raw.decode()
    return decode_object(f'{{"v":{text}}}')["v"]


def resolve(condition: Condition, type_: RecordFacts | None) -> Condition:
    """Check the names in a condition and make its values comparable.

    The result has Test, And, Or and Not nodes only. Resolving it again changes nothing.

    Args:
        condition: What `where` or Filter built.
        type_: The facts of the record type; None for plain dicts.

    Raises:
        UnknownFieldError: The type has no field of that name.
        InvalidFilterError: A value cannot be compared with.
    """
    if isinstance(condition, Filter):
        place = find_field(type_, condition.field, condition.owner)
        return _resolve_filter(condition, place)
    if isinstance(condition, Not):
        return Not(resolve(condition.part, type_))
    if isinstance(condition, (And, Or)):
        parts = tuple(resolve(part, type_) for part in condition.parts)
        return type(condition)(parts)
    return condition


def _resolve_filter(filter_: Filter, place: Place) -> Condition:
    op, value = filter_.op, filter_.value
    if op is FilterOp.IS_NONE:
        is_none = _none_test(place)
        return is_none if value else Not(is_none)
    if op is FilterOp.NE:
        return Not(_equals(place, value))
    if op is FilterOp.EQ:
        return _equals(place, value)
    if op is FilterOp.IN:
        return _one_of(place, value)
    if op is FilterOp.CONTAINS:
        return _contains(place, value)
    return _ordered(place, op, value)


def _none_test(place: Place) -> Condition:
    if place.kind in ("id", "version"):
        return NEVER
    return Test(place.name, place.kind or "plain", FilterOp.IS_NONE, None, place.default)


def _equals(place: Place, value: Any) -> Condition:
    if value is None:
        return _none_test(place)
    kind, value = _comparable(place, value)
    if kind == "id" and not isinstance(value, str):
        return NEVER
    return Test(place.name, kind, FilterOp.EQ, value, place.default)


def _one_of(place: Place, values: tuple[Any, ...]) -> Condition:
    groups: dict[tuple[Kind, bool], dict[Scalar, None]] = {}
    others: list[Condition] = []
    for value in values:
        if value is None:
            others.append(_none_test(place))
            continue
        kind, value = _comparable(place, value)
        if isinstance(value, (list, dict)):
            others.append(Test(place.name, kind, FilterOp.EQ, value, place.default))
        elif kind != "id" or isinstance(value, str):
            groups.setdefault((kind, isinstance(value, str)), {})[value] = None
    tests: list[Condition] = [
        Test(place.name, kind, FilterOp.IN, tuple(group), place.default)
        for (kind, _), group in groups.items()
    ]
    tests.extend(others)
    return tests[0] if len(tests) == 1 else Or(tuple(tests))


def _contains(place: Place, value: Any) -> Condition:
    if place.kind == "version":
        raise InvalidFilterError("updated_at is a time: compare it, it cannot contain anything")
    # Members of a list are JSON, whatever the list's own declaration says.
    kind = place.kind or "plain"
    return Test(place.name, kind, FilterOp.CONTAINS, _json(value, place.name), place.default)


def _ordered(place: Place, op: FilterOp, value: Any) -> Condition:
    if value is None:
        return NEVER
    kind, value = _comparable(place, value)
    if isinstance(value, (list, dict)):
        raise InvalidFilterError(
            f"field {place.name!r}: lists and objects have no order to compare by; "
            "use == or contains"
        )
    if kind == "id" and not isinstance(value, str):
        return NEVER
    return Test(place.name, kind, op, value, place.default)


def _comparable(place: Place, value: Any) -> tuple[Kind, Any]:
    """Return how a field is read to be compared with a value, and the value so read."""
    if place.kind == "version":
        return "version", _version(value)
    kind = place.kind or _kind_of(value)
    if kind in ("datetime", "uuid"):
        value = filter_value(kind, value)
    return kind, _json(value, place.name)


def _kind_of(value: Any) -> Kind:
    if isinstance(value, datetime):
        return "datetime"
    return "uuid" if isinstance(value, UUID) else "plain"


def _version(value: Any) -> int | float:
    """Return an instant in microseconds: of milliseconds, RFC 3339 text or a datetime."""
    if isinstance(value, datetime):
        moment: int = filter_value("datetime", value)
        return moment
    try:
        if isinstance(value, str):
            return parse_instant(value)
    except ValueError as error:
        raise InvalidFilterError(str(error)) from error
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidFilterError(
            "updated_at is compared with milliseconds, RFC 3339 text or a datetime, "
            f"not with {value!r}"
        )
    return _number(value * 1000, "updated_at")


def _number(value: int | float, name: str) -> int | float:
    if isinstance(value, float) and math.isnan(value):
        raise InvalidFilterError(f"field {name!r}: NaN equals nothing and cannot be stored")
    try:
        return in_range(value)
    except OverflowError:
        raise InvalidFilterError(
            f"field {name!r}: the integer is beyond the range of a double, so no record can have it"
        ) from None


def _json(value: Any, name: str) -> Any:
    """Return a filter's value as the JSON value that a record would have for it.

    Raises:
        InvalidFilterError: It can be no JSON value.
    """
    try:
        return _checked(to_builtins(value), name)
    except ValueError as error:
        if isinstance(error, InvalidFilterError):
            raise
        raise InvalidFilterError(
            f"field {name!r}: a value of type {type(value).__name__} cannot be compared with: "
            f"{error}"
        ) from error


def _checked(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return _text(value, name)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return _number(value, name)
    if isinstance(value, list):
        return [_checked(item, name) for item in value]
    if isinstance(value, dict):
        return {_text(key, name): _checked(item, name) for key, item in value.items()}
    return value


def _text(value: str, name: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidFilterError(
                f"field {name!r}: {value!a} has a lone surrogate, which a record cannot have"
            ) from None
    return str.__str__(value)


def matches(
    condition: Condition | None, record: Mapping[str, Any], type_: RecordFacts | None = None
) -> bool:
    """Return whether a record meets a condition; the same as the SQL of that condition.

    Args:
        condition: A filter or several joined; None is met by all.
        record: The JSON object of the record's line.
        type_: The facts of the record type; None for plain dicts.

    Raises:
        UnknownFieldError: The type has no field of that name.
        InvalidFilterError: A value cannot be compared with.
    """
    return condition is None or evaluate(resolve(condition, type_), record)
