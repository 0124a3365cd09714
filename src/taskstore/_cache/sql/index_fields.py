"""SQL for the fields of a record, out of its index rows or its own columns.

All truth here is two-valued: no expression is ever NULL, so that NOT means what it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    FromClause,
    Integer,
    and_,
    exists,
    false,
    func,
    literal,
    not_,
    select,
    union_all,
)

from taskstore._cache.schema.models import Models
from taskstore._cache.sql.json_fields import ANY, Bool, Leaf, Value, constant, members
from taskstore._query.conditions import FilterOp


def _table(model: Any) -> FromClause:
    table: FromClause = model.__table__
    return table


def record_columns(models: Models) -> Any:
    """Return the columns of the records table."""
    return _table(models.StoredRecord).c


def indexed_scalar(models: Models, name: str) -> Value:
    """Return the index value of a field as one number or string, NULL without an index row."""
    rows = _index_rows(models)
    row = _row_of(rows, record_columns(models), name)
    records = _table(models.StoredRecord)
    return select(_any_value(rows.c)).where(row).correlate(records).scalar_subquery()


def _index_rows(models: Models) -> FromClause:
    return _table(models.RecordIndex).alias()


def _row_of(rows: FromClause, record: Any, name: str) -> Bool:
    c = rows.c
    return and_(
        c.collection == record.collection, c.id == record.id, c.field_name == constant(name)
    )


def _any_value(c: Any) -> Value:
    return func.coalesce(
        c.field_value_int, c.field_value_real, c.field_value_bool, c.field_value_str, type_=ANY
    )


def _number(c: Any) -> Value:
    return func.coalesce(c.field_value_int, c.field_value_real, c.field_value_bool, type_=ANY)


def index_test(leaf: Leaf, models: Models, operand: Value, keyed: FromClause | None = None) -> Bool:
    """Return the test of a field by its index row, found by the record's key: best with LIMIT.

    Args:
        leaf: The test.
        models: The cache's models.
        operand: The value to compare with.
        keyed: What the record's key is taken from; the records table by default.
    """
    rows = _index_rows(models)
    keyed = _table(models.StoredRecord) if keyed is None else keyed
    row = _row_of(rows, keyed.c, leaf.name)
    if leaf.op is FilterOp.IS_NONE:
        return not_(_exists(keyed, rows, row))
    value = rows.c.field_value_str if _is_string(leaf) else _number(rows.c)
    return _exists(keyed, rows, and_(row, _typed_compare(leaf, value, operand)))


def _exists(keyed: FromClause, rows: FromClause, where: Bool) -> Bool:
    return exists(select(literal(1)).select_from(rows).where(where).correlate(keyed))


def _is_string(leaf: Leaf) -> bool:
    return leaf.operand in ("str", "strs") or (leaf.operand == "odd" and not leaf.numbers)


_OPERATORS: Mapping[FilterOp, str] = {
    FilterOp.EQ: "=",
    FilterOp.LT: "<",
    FilterOp.LE: "<=",
    FilterOp.GT: ">",
    FilterOp.GE: ">=",
}


def _typed_compare(leaf: Leaf, value: Value, operand: Value) -> Bool:
    """Compare values that are of one class with the operand, or NULL, in a WHERE clause."""
    if leaf.op is FilterOp.IN:
        return value.in_(members(leaf, operand))
    return value.op(_OPERATORS[leaf.op], is_comparison=True)(operand)


def index_seek(
    leaf: Leaf,
    models: Models,
    collection: Value,
    operand: Value,
    others: Sequence[tuple[Leaf, Value]] = (),
) -> Any:
    """Return a SELECT of the keys that pass a test, found by the index: best for few, or all.

    Args:
        leaf: The test.
        models: The cache's models.
        collection: The collection's name.
        operand: The value to compare with.
        others: More tests by index rows, each with its operand. Made here, they spare the look
            at the records that fail them.
    """
    selects = []
    for column in _columns(leaf):
        rows = _index_rows(models)
        value: Value = rows.c[column]
        selects.append(
            select(rows.c.collection, rows.c.id).where(
                rows.c.collection == collection,
                rows.c.field_name == constant(leaf.name),
                _typed_compare(leaf, value, operand),
                *(index_test(other, models, given, rows) for other, given in others),
            )
        )
    if len(selects) == 1:
        return selects[0]
    # Wrapped, because SQLite does not seek by the pairs of a compound SELECT.
    any_of = union_all(*selects).subquery()
    return select(any_of.c.collection, any_of.c.id)


def _columns(leaf: Leaf) -> tuple[str, ...]:
    """Return the columns that may hold what the test looks for."""
    if _is_string(leaf):
        return ("field_value_str",)
    if leaf.op is FilterOp.EQ and leaf.operand != "bit":
        real = ("field_value_real",)
        return real if leaf.operand == "real" else ("field_value_int", *real)
    return ("field_value_int", "field_value_real", "field_value_bool")


def column_test(leaf: Leaf, models: Models, operand: Value) -> Bool:
    """Return the test of a field that has its own column: the id, or the version."""
    record = record_columns(models)
    value: Value = record.id if leaf.kind == "id" else record.updated_at_us
    if leaf.op is FilterOp.CONTAINS:
        return func.instr(value, operand) > constant(0, Integer())
    if leaf.kind == "version" and _is_string(leaf):
        return false()
    return _typed_compare(leaf, value, operand)
