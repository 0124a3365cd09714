"""What filters and orders mean, in Python. The SQL must give the same results.

A field's value is a number (bool, int and float are one kind), a string, a list or object, or None.
A missing value is the declared default, or None. Numbers compare with numbers and strings with
strings, by code point. Integers beyond 64 bits count as the nearest double.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from taskstore._format.instants import parse_instant
from taskstore._query.conditions import And, Condition, FilterOp, Not, Or
from taskstore._records.indexing import filter_value

Kind: TypeAlias = Literal["plain", "datetime", "uuid", "version", "id"]
"""How a field's JSON is read before it is compared: instants as microseconds, UUIDs in one form."""

Scalar: TypeAlias = int | float | str
"""A value that can be ordered."""

MIN_INT = -(2**63)
MAX_INT = 2**63 - 1

_ORDERINGS: dict[FilterOp, Callable[[Any, Any], bool]] = {
    FilterOp.LT: operator.lt,
    FilterOp.LE: operator.le,
    FilterOp.GT: operator.gt,
    FilterOp.GE: operator.ge,
}


@attrs.frozen
class Test(Condition):
    """One test of one field, with its value made comparable.

    Attributes:
        name: The field.
        kind: How its JSON is read.
        op: EQ, LT, LE, GT, GE, CONTAINS, IN or IS_NONE.
        value: A number, string, list or object; for IN a tuple, all numbers or all strings;
            None for IS_NONE.
        default: The JSON value that a missing key counts as.
    """

    name: str
    kind: Kind
    op: FilterOp
    value: Any
    default: Any = None


def in_range(value: int | float) -> int | float:
    """Return a number as it is compared: an integer beyond 64 bits as the nearest double.

    Raises:
        OverflowError: There is no double near it.
    """
    return value if MIN_INT <= value <= MAX_INT or isinstance(value, float) else float(value)


def _in_range_within(value: Any) -> Any:
    """Return a JSON value with every number in it as it is compared."""
    if isinstance(value, list):
        return [_in_range_within(item) for item in value]
    if isinstance(value, dict):
        return {key: _in_range_within(item) for key, item in value.items()}
    return value if value is None or isinstance(value, str) else in_range(value)


def normal(kind: Kind, value: Any) -> Any:
    """Return a JSON value as filters see it: a number, a string, a list, an object or None."""
    if kind == "version":
        return parse_instant(value)
    if value is None:
        return value
    if isinstance(value, (list, dict)):
        return _in_range_within(value)
    if kind in ("datetime", "uuid"):
        value = filter_value(kind, value)
    return value if isinstance(value, str) else in_range(value)


def scalar(kind: Kind, value: Any) -> Scalar | None:
    """Return a JSON value as it is sorted: a number, a string, or None for anything else."""
    value = normal(kind, value)
    return None if isinstance(value, (list, dict)) else value


def holds(op: FilterOp, value: Any, operand: Any) -> bool:
    """Return whether a value from `normal` passes a test with an operand of a `Test`."""
    if op is FilterOp.EQ:
        return bool(value == operand)
    if op is FilterOp.IS_NONE:
        return value is None
    if op is FilterOp.IN:
        return not isinstance(value, (list, dict)) and value in operand
    if op is FilterOp.CONTAINS:
        if isinstance(value, str):
            return isinstance(operand, str) and operand in value
        return isinstance(value, list) and operand in value
    if isinstance(value, str) != isinstance(operand, str):
        return False
    return isinstance(value, (str, int, float)) and _ORDERINGS[op](value, operand)


def meets(test: Test, record: Mapping[str, Any]) -> bool:
    """Return whether the JSON object of a record's line passes one test."""
    raw = record.get(test.name, test.default)
    return holds(test.op, normal(test.kind, raw), test.value)


def evaluate(condition: Condition, record: Mapping[str, Any]) -> bool:
    """Return whether a record's JSON object meets a resolved condition."""
    if isinstance(condition, Test):
        return meets(condition, record)
    if isinstance(condition, Not):
        return not evaluate(condition.part, record)
    if isinstance(condition, And):
        return all(evaluate(part, record) for part in condition.parts)
    if isinstance(condition, Or):
        return any(evaluate(part, record) for part in condition.parts)
    raise TypeError(f"{condition!r} is not resolved")
