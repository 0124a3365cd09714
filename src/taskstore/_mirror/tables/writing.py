"""Writes rows of mirrored tables as lines have them, below the unit of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    ColumnClause,
    ColumnElement,
    Insert,
    Table,
    TableClause,
    Update,
    bindparam,
    delete,
    insert,
    update,
)
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.types import TypeDecorator, UserDefinedType

from taskstore._mirror.model.shape import Field, Mirror, Row, Shape
from taskstore._mirror.model.values import variant_of
from taskstore._mirror.tables.reading import key_condition

T = TypeVar("T", Insert, Update)

_ID = "/id"
"""Stands for the id of a row where names of attributes are meant."""


def insert_rows(connection: Connection, mirror: Mirror, rows: Sequence[Row]) -> None:
    """Insert rows of one shape that have the same attributes."""
    shape = rows[0].shape
    for table in shape.tables:
        columns = _columns(mirror, shape, table, rows[0])
        if mirror.number is not None and mirror.number.column.table is table:
            columns.append((mirror.number.column, _ID))
        statement = refusing(insert(table)).values(
            {
                column.key: bindparam(
                    f"v_{column.key}", type_=_type(mirror, column, connection.dialect)
                )
                for column, _ in columns
            }
        )
        _execute(connection, statement, _parameters(columns, rows))


def update_rows(connection: Connection, mirror: Mirror, rows: Sequence[Row]) -> None:
    """Update rows of one shape that have the same attributes; what is not named stays."""
    shape = rows[0].shape
    for table in shape.tables:
        keys = key_columns(mirror, shape, table)
        columns = [
            (column, name)
            for column, name in _columns(mirror, shape, table, rows[0])
            if all(column is not own for own in keys)
        ]
        if not columns:
            continue
        sets = {
            column.key: bindparam(
                f"v_{column.key}", type_=_type(mirror, column, connection.dialect)
            )
            for column, _ in columns
        }
        for column in table.columns:
            # Columns that the log does not know stay, whatever an UPDATE would do to them.
            if column.onupdate is not None and column.key not in sets:
                sets[column.key] = column  # type: ignore[assignment]
        statement = refusing(update(table)).values(sets).where(_bound(mirror, keys))
        parameters = _parameters(columns, rows)
        for row, values in zip(rows, parameters, strict=True):
            values.update((f"k_{place}", row.values[name]) for place, name in enumerate(mirror.key))
        _execute(connection, statement, parameters)


def delete_row(connection: Connection, mirror: Mirror, row: Row) -> None:
    """Delete a row from all its tables, children first."""
    key = [row.values[name] for name in mirror.key]
    for table in reversed(row.shape.tables):
        columns = map(mirror.typed, key_columns(mirror, row.shape, table))
        connection.execute(delete(table).where(key_condition(list(columns), key)))


def reinsert_row(
    connection: Connection, mirror: Mirror, row: Row, removed: Mapping[str, Any]
) -> None:
    """Insert a row again that was removed from the only table that it has.

    Args:
        connection: To write to.
        mirror: Whose row it is.
        row: What it should be.
        removed: What it was, by the names of all columns; what `row` does not name is kept.
    """
    [source] = row.shape.tables
    columns = _columns(mirror, row.shape, source, row)
    [values] = _parameters(columns, [row])
    new = {column.name: values[f"v_{column.key}"] for column, _ in columns}
    types = {column.name: _type(mirror, column, connection.dialect) for column, _ in columns}
    target = TableClause(source.name, *(ColumnClause(name, types.get(name)) for name in removed))
    statement = refusing(insert(target)).values(
        {name: bindparam(f"v_{n}", type_=types.get(name)) for n, name in enumerate(removed)}
    )
    parameters = {f"v_{n}": new.get(name, old) for n, (name, old) in enumerate(removed.items())}
    _execute(connection, statement, [parameters])


def condition_of(mirror: Mirror, shape: Shape, table: Table, row: Row) -> ColumnElement[bool]:
    """Return the condition that a row of a table is this one."""
    columns = list(map(mirror.typed, key_columns(mirror, shape, table)))
    return key_condition(columns, [row.values[name] for name in mirror.key])


def refusing(statement: T) -> T:
    """Return an INSERT or UPDATE that fails on a conflict, whatever the table's constraints say.

    One with ON CONFLICT REPLACE would delete another row, one with IGNORE would do nothing.
    """
    return statement.prefix_with("OR ABORT", dialect="sqlite")


def _execute(connection: Connection, statement: Any, parameters: list[dict[str, Any]]) -> None:
    connection.execute(statement, parameters)


def key_columns(mirror: Mirror, shape: Shape, table: Table) -> list[Any]:
    """Return the columns of the key in one of the tables of a class.

    Raises:
        LookupError: The table has none for a part of the key.
    """
    return [_key_column(shape, name, table) for name in mirror.key]


def _key_column(shape: Shape, name: str, table: Table) -> Any:
    """A column of a key; a subclass may call its own otherwise, and only refer to it."""
    known: list[Any] = list(shape.fields[name].columns)
    for one in shape.tables:
        known += [
            column
            for column in one.primary_key.columns
            if column not in known and any(column.references(other) for other in known)
        ]
    for column in known:
        if column.table is table:
            return column
    raise LookupError(f"{table.name!r} has no column for {name!r}")


def _bound(mirror: Mirror, columns: Sequence[Any]) -> ColumnElement[bool]:
    typed = list(map(mirror.typed, columns))
    return key_condition(
        typed, [bindparam(f"k_{n}", type_=column.type) for n, column in enumerate(typed)]
    )


def _columns(mirror: Mirror, shape: Shape, table: Table, row: Row) -> list[tuple[Any, str]]:
    """The columns of a table that a row has values for, each with its attribute."""
    found: dict[Any, str] = {
        column: name
        for name, field in shape.fields.items()
        if name in row.values
        for column in field.columns
        if column.table is table
    }
    found.update(zip(key_columns(mirror, shape, table), mirror.key, strict=True))
    return [*found.items(), *_version_column(mirror.version, table)]


def _version_column(version: Field | None, table: Table) -> list[tuple[Any, str]]:
    if version is None or version.column.table is not table:
        return []
    return [(version.column, "")]


def _parameters(columns: Sequence[tuple[Any, str]], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the values of each row, by the names of the bound parameters."""
    binds = [(f"v_{column.key}", name) for column, name in columns]
    mapped = [(bind, name) for bind, name in binds if name and name != _ID]
    ids = [bind for bind, name in binds if name == _ID]
    versions = [bind for bind, name in binds if not name]
    found = []
    for row in rows:
        values = row.values
        parameters = {bind: values[name] for bind, name in mapped}
        for bind in ids:
            parameters[bind] = row.id
        for bind in versions:
            parameters[bind] = row.version
        found.append(parameters)
    return found


def _type(mirror: Mirror, column: Any, dialect: Dialect) -> Any:
    typed = mirror.typed(column)
    if typed is not column:
        return typed.type
    type_ = variant_of(column.type, dialect.name)
    if column.nullable:
        # null is SQL's, as in a row that was created without a value.
        if type(type_) is JSON:
            return JSON(none_as_null=True)
        if isinstance(type_, TypeDecorator) and _means_null(type_, dialect):
            return _WithNull(type_)
    return column.type


def _means_null(type_: TypeDecorator[Any], dialect: Dialect) -> bool:
    """Return whether None in a row is always a NULL: the type stores None as another value."""
    if not type_._has_bind_processor or type_._has_bind_expression:
        return False
    try:
        stored = type_.process_bind_param(None, dialect)
        if stored is not None and type_._has_result_processor:
            stored = type_.process_result_value(stored, dialect)
    except Exception:  # noqa: BLE001 - a type of the application's own raises anything
        return True
    return stored is not None


class _WithNull(UserDefinedType[Any]):
    """Binds values as a type of the application's own does, and None as NULL."""

    cache_ok = False

    def __init__(self, inner: TypeDecorator[Any]) -> None:
        # SQLAlchemy copies a type by the names of its arguments.
        self.inner = inner

    def bind_processor(self, dialect: Dialect) -> Any:
        process = self.inner.dialect_impl(dialect).bind_processor(dialect)
        assert process is not None
        return lambda value: None if value is None else process(value)
