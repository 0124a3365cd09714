"""Filters as SQL over the lines of records, read as JSONB.

`taskstore._query.meaning` defines in Python what a filter means. Most tests have SQL that means the
same. For the others, such as tests of moments, the SQL finds more records, and Python tests them
again.

A condition here is true or false, never NULL, so NOT means what it says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Numeric,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

from taskstore._cache.schema.models import Models
from taskstore._postgres.arrays import texts
from taskstore._query.conditions import And, Condition, FilterOp, Not, Or
from taskstore._query.meaning import Test, holds, normal

Value = ColumnElement[Any]
Bool = ColumnElement[bool]

_EXACT = Context(prec=2000)
_SAFE = 2**53
"""Below this, integers and doubles do not round to each other."""

_TINY = 1e-30
_MOST_BOUNDS = 50


class Narrowed(NamedTuple):
    """A filter as SQL.

    Attributes:
        where: A condition that every record meets that passes the filter.
        is_exact: Whether no other record meets it.
    """

    where: Bool
    is_exact: bool


_TRUE, _FALSE = (cast(literal(word, Text), JSONB) for word in ("true", "false"))
_ALL = Narrowed(true(), False)


class RecordColumns:
    """The records table, joined with the line of each record as JSONB, which is parsed once.

    Attributes:
        id, updated_at_us: The columns of the table.
        document: The line.
        tables: What to select from.
    """

    def __init__(self, models: Models) -> None:
        table: Any = models.StoredRecord.__table__
        # Without OFFSET, PostgreSQL would parse the line again for each use.
        line = select(cast(table.c.data_json, JSONB).label("document"))
        parsed = line.correlate(table).offset(0).lateral()
        self.id: Value = table.c.id
        self.updated_at_us: Value = table.c.updated_at_us
        self.document: Value = parsed.c.document
        self.tables: FromClause = table.join(parsed, true())


def narrowed(condition: Condition | None, columns: RecordColumns) -> Narrowed:
    """Return a resolved condition as SQL.

    Args:
        condition: From `resolve`; None for all records.
        columns: Of the records.
    """
    if condition is None:
        return Narrowed(true(), True)
    if isinstance(condition, Test):
        found = _test(condition, columns)
        return _ALL if found is None else Narrowed(found, True)
    if isinstance(condition, Not):
        part = narrowed(condition.part, columns)
        return Narrowed(not_(part.where), True) if part.is_exact else _ALL
    if isinstance(condition, And | Or):
        parts = [narrowed(part, columns) for part in condition.parts]
        wheres = [part.where for part in parts]
        joined = and_(true(), *wheres) if isinstance(condition, And) else or_(false(), *wheres)
        return Narrowed(joined, all(part.is_exact for part in parts))
    raise TypeError(f"{condition!r} is not resolved")


def _test(test: Test, columns: RecordColumns) -> Bool | None:
    """Return the SQL of a test; None if there is none that means the same."""
    if any(isinstance(value, str) and "\0" in value for value in _values(test)):
        # PostgreSQL has no such text.
        return None
    if test.kind == "id":
        return _id_test(test, columns.id)
    if test.kind == "version":
        return _version_test(test, columns.updated_at_us)
    if test.kind != "plain":
        return None
    value = field(columns, test.name)
    found = _plain_test(test, value)
    if found is None:
        return None
    missing = holds(test.op, normal(test.kind, test.default), test.value)
    return case((value.is_(None), literal(missing)), else_=func.coalesce(found, false()))


def _values(test: Test) -> Iterable[Any]:
    return test.value if test.op is FilterOp.IN else (test.value,)


def field(columns: RecordColumns, name: str) -> Value:
    """Return a field as JSONB; NULL if a line lacks it."""
    found: Value = columns.document.op("->", return_type=JSONB())(literal(name, Text))
    return found


def text_of(value: Value) -> Value:
    """Return JSONB as text that is ordered by code points; NULL if it is no string."""
    string: Value = value.op("#>>", return_type=Text())(texts([]))
    return case((func.jsonb_typeof(value) == "string", string)).collate("C")


def number_of(value: Value) -> Value:
    """Return JSONB as a number, with booleans as 0 and 1; NULL if it is neither."""
    return case(
        (func.jsonb_typeof(value) == "number", cast(value, Numeric)),
        (value == _TRUE, _number(Decimal(1))),
        (value == _FALSE, _number(Decimal(0))),
    )


def _id_test(test: Test, column: Value) -> Bool | None:
    if test.op is FilterOp.EQ:
        return column == literal(test.value, Text)
    if test.op is FilterOp.IN:
        return column == func.any(texts(test.value))
    return _text_test(test.op, column.collate("C"), test.value)


def _version_test(test: Test, column: Value) -> Bool | None:
    if test.op is FilterOp.IN:
        tests = [_decimal_test(FilterOp.EQ, column, value) for value in test.value]
        known = [one for one in tests if one is not None]
        return or_(false(), *known) if len(known) == len(tests) <= _MOST_BOUNDS else None
    return _decimal_test(test.op, column, test.value)


def _decimal_test(op: FilterOp, column: Value, value: Any) -> Bool | None:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return _compared(op, column, _number(Decimal(value)))


def _plain_test(test: Test, value: Value) -> Bool | None:
    if test.op is FilterOp.IS_NONE:
        found: Bool = func.jsonb_typeof(value) == "null"
        return found
    if test.op is FilterOp.CONTAINS:
        return _contains(value, test.value)
    if test.op is FilterOp.IN:
        return _one_of(value, test.value)
    if isinstance(test.value, str):
        return _text_test(test.op, text_of(value), test.value)
    if isinstance(test.value, int | float):
        return _number_test(test.op, number_of(value), test.value)
    return None


def _text_test(op: FilterOp, value: Value, operand: Any) -> Bool | None:
    if not isinstance(operand, str):
        return None
    if op is FilterOp.CONTAINS:
        return func.strpos(value, literal(operand, Text)) > 0
    return _compared(op, value, literal(operand, Text))


def _contains(value: Value, operand: Any) -> Bool | None:
    if not isinstance(operand, str):
        return None
    is_member = and_(
        func.jsonb_typeof(value) == "array",
        func.jsonb_exists(value, literal(operand, Text)),
    )
    in_text = func.strpos(text_of(value), literal(operand, Text)) > 0
    return or_(is_member, func.coalesce(in_text, false()))


def _one_of(value: Value, operands: Sequence[Any]) -> Bool | None:
    if all(isinstance(operand, str) for operand in operands):
        return text_of(value) == func.any(texts(operands))
    number = number_of(value)
    tests = [_number_test(FilterOp.EQ, number, operand) for operand in operands]
    known = [one for one in tests if one is not None]
    return or_(*known) if known and len(known) == len(tests) <= _MOST_BOUNDS else None


def _number_test(op: FilterOp, number: Value, operand: int | float) -> Bool | None:
    """Compare numbers as Python does, which reads those of a line as doubles or integers."""
    if not abs(operand) < _SAFE:
        return None
    if float(operand).is_integer():
        return _compared(op, number, _number(Decimal(int(operand))))
    if abs(operand) < _TINY:
        return None
    low, high, ends = _rounding_to(float(operand))
    above = number > high if ends else number >= high
    below = number < low if ends else number <= low
    if op is FilterOp.EQ:
        return and_(not_(above), not_(below))
    return {
        FilterOp.LT: below,
        FilterOp.LE: not_(above),
        FilterOp.GT: above,
        FilterOp.GE: not_(below),
    }[op]


def _rounding_to(double: float) -> tuple[Value, Value, bool]:
    """Return the bounds of the numbers that round to a double, and whether they do so too."""
    ends = int(math.frexp(double)[0] * 2**53) % 2 == 0
    halves = [
        (Fraction(double) + Fraction(math.nextafter(double, end))) / 2
        for end in (-math.inf, math.inf)
    ]
    low, high = (
        _number(_EXACT.divide(Decimal(half.numerator), Decimal(half.denominator)))
        for half in halves
    )
    return low, high, ends


def _number(value: Decimal) -> Value:
    return literal(value, Numeric())


def _compared(op: FilterOp, value: Value, operand: Value) -> Bool:
    found: Bool = {
        FilterOp.EQ: value == operand,
        FilterOp.LT: value < operand,
        FilterOp.LE: value <= operand,
        FilterOp.GT: value > operand,
        FilterOp.GE: value >= operand,
    }[op]
    return found
