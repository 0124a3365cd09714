"""SQL for the fields of a record, out of the JSON of its line.

All truth here is two-valued: no expression is ever NULL, so that NOT means what it says.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
)
from sqlalchemy.types import NullType, TypeEngine

from taskstore._format.names import check_field_name
from taskstore._query.conditions import FilterOp
from taskstore._query.meaning import Kind

Bool: TypeAlias = ColumnElement[bool]
Value: TypeAlias = ColumnElement[Any]

ANY: TypeEngine[Any] = NullType()
_INFINITY = math.inf


class Leaf(NamedTuple):
    """The shape of one test: all that decides its SQL, apart from the value compared with.

    Attributes:
        form: Where the value comes from: "json", "index", "index+json" or "column".
        name: The field.
        kind: How its JSON is read.
        op: What is asked.
        operand: What the value is: "bit" (0 or 1), "int", "real", "str", "json" (a list or object
            as JSON text), "ints", "strs" (a JSON list), "odd" (a JSON list of JSON texts), "none".
        default: What a missing key counts as, as a number or string.
        default_json: The same as JSON text; None for null.
        default_holds: Whether that passes the test.
        plain: Whether the operand stands in any line that has it as it is, without escapes.
    """

    form: str
    name: str
    kind: Kind
    op: FilterOp
    operand: str
    default: int | float | str | None = None
    default_json: str | None = None
    default_holds: bool = False
    plain: bool = False
    numbers: bool = False


def value(model: Any, name: str) -> Value:
    """Return an SQL expression for a field of `model`, a StoredRecord class or an alias of one.

    It is a number or string, and NULL for a field that is missing, null, a list or an object.

    Raises:
        InvalidNameError: `name` is no valid field name.
    """
    return json_scalar(model.data_json, check_field_name(name))


def constant(value: Any, type_: TypeEngine[Any] = ANY) -> ColumnElement[Any]:
    return bindparam(None, value, type_=type_, unique=True)


def _path(name: str) -> ColumnElement[Any]:
    return constant(f'$."{name}"', Text())


def _irregular(data: Value, name: str) -> Bool:
    r"""Return whether SQLite may read a field of a line differently from the log's reader.

    Field names are ASCII, so a key or NUL that is written with an escape shows as \u00...
    """
    key = f'"{name}"'
    text = Text()
    rest = func.substr(data, func.instr(data, constant(key, text)) + constant(len(key), Integer()))
    return or_(
        func.instr(data, constant("\\u00", text)) > constant(0, Integer()),
        func.instr(rest, constant(key, text)) > constant(0, Integer()),
    )


def json_scalar(data: Value, name: str, kind: Kind = "plain", default: Any = None) -> Value:
    """Return a field as a number or string; NULL if it is neither.

    Args:
        data: The column with the line.
        name: The field.
        kind: How its JSON is read.
        default: What a missing key counts as, so read.
    """
    exact: Value = func.taskstore_value(
        data, constant(name), constant(kind), constant(default), type_=ANY
    )
    if kind != "plain":
        return exact
    path = _path(name)
    extracted: Value = func.json_extract(data, path, type_=ANY)
    json_type = func.json_type(data, path)
    # SQLite rounds long numbers as the platform does.
    number = case((func.typeof(extracted) == constant("integer"), extracted), else_=exact)
    found = case(
        (constant("text"), extracted),
        (constant("integer"), number),
        (constant("real"), exact),
        (constant("true"), extracted),
        (constant("false"), extracted),
        value=json_type,
        else_=None if default is None else case((json_type.is_(None), constant(default))),
    )
    return case((_irregular(data, name), exact), else_=found)


def json_test(leaf: Leaf, data: Value, operand: Value) -> Bool:
    """Return the test of a field that is read out of the line."""
    if leaf.op is FilterOp.CONTAINS:
        return _contains(leaf, data, operand)
    if leaf.op is FilterOp.IS_NONE:
        return _is_none(leaf, data)
    if leaf.operand == "json":
        return _holds(leaf, data, operand)
    value = json_scalar(data, leaf.name, leaf.kind, leaf.default)
    return _compare(leaf, value, operand)


def _holds(leaf: Leaf, data: Value, operand: Value) -> Bool:
    call: Value = func.taskstore_holds(
        data,
        constant(leaf.name),
        constant(leaf.kind),
        constant(leaf.op.value),
        operand,
        constant(leaf.default_json),
        _truth(leaf.operand == "str"),
        type_=Integer(),
    )
    return call == constant(1, Integer())


def _contains(leaf: Leaf, data: Value, operand: Value) -> Bool:
    exact = _holds(leaf, data, operand)
    if leaf.kind != "plain":
        return exact
    path = _path(leaf.name)
    json_type = func.json_type(data, path)
    whens: list[tuple[Any, Any]] = [(_irregular(data, leaf.name), exact)]
    member: Bool = exact
    if leaf.operand == "str":
        found = func.instr(func.json_extract(data, path), operand) > constant(0, Integer())
        whens.append((json_type == constant("text"), found))
        if leaf.plain:
            member = and_(func.instr(data, operand) > constant(0, Integer()), exact)
    whens.append((json_type == constant("array"), member))
    whens.append((json_type.is_(None), _truth(leaf.default_holds)))
    return _as_truth(case(*whens, else_=_truth(False)))


def _is_none(leaf: Leaf, data: Value) -> Bool:
    exact = _holds(leaf, data, constant("null"))
    json_type = func.json_type(data, _path(leaf.name))
    return _as_truth(
        case(
            (_irregular(data, leaf.name), exact),
            (json_type.is_(None), _truth(leaf.default_holds)),
            else_=json_type == constant("null"),
        )
    )


def _truth(value: bool) -> ColumnElement[Any]:
    return constant(int(value), Integer())


def _as_truth(value: ColumnElement[Any]) -> Bool:
    return value == constant(1, Integer())


def _compare(leaf: Leaf, value: Value, operand: Value) -> Bool:
    """Compare like with like; the value has no affinity and sorts NULL, numbers, strings."""
    op = leaf.op
    if op is FilterOp.EQ:
        return value.is_not_distinct_from(operand)
    if op is FilterOp.IN:
        return func.coalesce(value.in_(members(leaf, operand)), _truth(False)) == _truth(True)
    string = leaf.operand == "str"
    if op in (FilterOp.LT, FilterOp.LE):
        within: Bool = value.between(constant(""), operand) if string else value <= operand
    else:
        within = value >= operand if string else value.between(operand, constant(_INFINITY))
    truth = _as_truth(func.coalesce(within, _truth(False)))
    if op in (FilterOp.LT, FilterOp.GT):
        return and_(truth, value.is_distinct_from(operand))
    return truth


def members(leaf: Leaf, operand: Value) -> Select[Any]:
    """Return the values of a list that was bound as one JSON text, however many."""
    each = func.json_each(operand).table_valued("value", joins_implicitly=True)
    value: Value = each.c.value
    return select(func.taskstore_scalar(value) if leaf.operand == "odd" else value)
