"""Writes many rows of a mirrored table: COPY into a temporary table, then one statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import attrs
from sqlalchemy import Column, Table
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.types import JSON, TypeDecorator

from taskstore._mirror.model.shape import Mirror, Row, Shape
from taskstore._mirror.model.values import variant_of
from taskstore._mirror.projection.projecting import tables_in_order
from taskstore._postgres.allocation import Numbers
from taskstore._postgres.context import projecting
from taskstore._postgres.names import execute_sql, quoted, quoted_columns, quoted_table
from taskstore._postgres.parts import keys_in

_TEMP = "pg_temp.taskstore_rows"


@attrs.frozen
class _Place:
    """A column that is written.

    Attributes:
        column: The column.
        name: The attribute whose value it takes; "" for the version.
        numbers: The numbers of the records whose ids it takes; None if it takes no ids.
        bind: Makes what the driver takes of a value; None where it takes the value.
        nothing: The text that it gets for null; None for NULL.
        given: Whether lines say the value, rather than the default of the column.
    """

    column: Column[Any]
    name: str
    bind: Callable[[Any], Any] | None
    given: bool = True
    nothing: str | None = None
    numbers: Mapping[str, int] | None = None


@attrs.frozen
class TableWriter:
    """Writes the rows of one mirrored model, within the connection's transaction."""

    connection: Connection
    mirror: Mirror
    numbers: Numbers

    @property
    def _dialect(self) -> Dialect:
        return self.connection.dialect

    def _quoted(self, table: Table) -> str:
        return quoted_table(table, self._dialect)

    def put(self, rows: Sequence[Row]) -> None:
        """Insert rows, or update those that are there; what a line does not name stays."""
        groups = [
            (self.mirror.shapes[index], list(some))
            for (index, _), some in groupby(sorted(rows, key=self._kind), key=self._kind)
        ]
        tables = tables_in_order(self.mirror.tables)
        for table in reversed(tables):
            others = [row for shape, some in groups if table not in shape.tables for row in some]
            if others:
                # They may have been of another class.
                self._delete_from([table], [self._key(row) for row in others])
        for table in tables:
            for shape, some in groups:
                if table in shape.tables:
                    self._put_alike(shape, table, some)

    def _kind(self, row: Row) -> tuple[int, tuple[str, ...]]:
        return self.mirror.shapes.index(row.shape), tuple(sorted(row.values))

    def _key(self, row: Row) -> list[Any]:
        return [row.values[name] for name in self.mirror.key]

    def _put_alike(self, shape: Shape, table: Table, rows: Sequence[Row]) -> None:
        places = self._places(shape, table, rows[0])
        columns = [place.column for place in places]
        source = self._copy(
            table, columns, [[self._value(row, place) for place in places] for row in rows]
        )
        keys = keys_in(self.mirror, table)
        projecting(self.connection, self.mirror)
        set_ = ", ".join(
            f"{quoted(place.column.name)} = EXCLUDED.{quoted(place.column.name)}"
            for place in places
            if place.given and place.column not in keys
        )
        execute_sql(
            self.connection,
            f"INSERT INTO {self._quoted(table)} ({quoted_columns(columns)}) "
            f"OVERRIDING SYSTEM VALUE SELECT {quoted_columns(columns)} FROM {source} "
            f"ON CONFLICT ({quoted_columns(keys)}) DO "
            + (f"UPDATE SET {set_}" if set_ else "NOTHING"),
        )

    def _places(self, shape: Shape, table: Table, row: Row) -> list[_Place]:
        keys = keys_in(self.mirror, table)
        places = [
            self._key_place(column, name)
            for column, name in zip(keys, self.mirror.key, strict=True)
        ]
        for column, field in shape.columns_in(table):
            if column in keys:
                continue
            if field.name in row.values:
                bind, numbers = self._bind(column), self._numbers(column)
                nothing = self._nothing(column)
                places.append(_Place(column, field.name, bind, nothing=nothing, numbers=numbers))
            elif column.default is not None and not column.default.is_sequence:
                places.append(_Place(column, field.name, self._bind(column), given=False))
        version = self.mirror.version
        if version is not None and version.column.table is table:
            places.append(_Place(version.column, "", self._bind(version.column)))
        return places

    def _key_place(self, column: Column[Any], name: str) -> _Place:
        return _Place(column, name, self._bind(column), numbers=self._numbers(column))

    def _numbers(self, column: Column[Any]) -> Mapping[str, int] | None:
        translated = self.mirror.translated(column)
        return None if translated is None else self.numbers[translated.collection]

    def _nothing(self, column: Column[Any]) -> str | None:
        """Return the text that a column gets for null; None for NULL."""
        type_: Any = variant_of(column.type, self._dialect.name)
        inner = (
            type_.load_dialect_impl(self._dialect) if isinstance(type_, TypeDecorator) else type_
        )
        # A JSON column that takes no NULL had the null of JSON.
        return "null" if isinstance(inner, JSON) and not column.nullable else None

    def _bind(self, column: Column[Any]) -> Callable[[Any], Any] | None:
        return column.type.dialect_impl(self._dialect).bind_processor(self._dialect)

    def _value(self, row: Row, place: _Place) -> Any:
        if not place.given:
            default: Any = place.column.default
            value = default.arg if default.is_scalar else default.arg(None)
        else:
            value = row.values[place.name] if place.name else row.version
        return _bound(place, value)

    def delete(self, keys: Sequence[Sequence[Any]]) -> None:
        """Delete the rows of some keys."""
        self._delete_from(tables_in_order(self.mirror.tables)[::-1], keys)

    def _delete_from(self, tables: Iterable[Table], keys: Sequence[Sequence[Any]]) -> None:
        fields = self.mirror.key_fields
        columns = [field.column for field in fields]
        places = [self._key_place(field.column, field.name) for field in fields]
        source = self._copy(
            self.mirror.table,
            columns,
            [[_bound(place, one) for place, one in zip(places, key, strict=True)] for key in keys],
        )
        projecting(self.connection, self.mirror)
        for table in tables:
            pairs = zip(keys_in(self.mirror, table), columns, strict=True)
            same = " AND ".join(f"t.{quoted(a.name)} = k.{quoted(b.name)}" for a, b in pairs)
            execute_sql(
                self.connection,
                f"DELETE FROM {self._quoted(table)} t USING {source} k WHERE {same}",
            )

    def _copy(
        self, table: Table, columns: Sequence[Column[Any]], rows: Sequence[Sequence[Any]]
    ) -> str:
        """Fill a temporary table with columns of a table, and return its name."""
        names = quoted_columns(columns)
        execute_sql(self.connection, f"DROP TABLE IF EXISTS {_TEMP}")
        execute_sql(
            self.connection,
            f"CREATE TEMP TABLE taskstore_rows ON COMMIT DROP AS SELECT {names} "
            f"FROM {self._quoted(table)} WITH NO DATA",
        )
        cursor: Any = self.connection.connection.cursor()
        with cursor, cursor.copy(f"COPY {_TEMP} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return _TEMP


def _bound(place: _Place, value: Any) -> Any:
    """Return a value in the form that the driver takes."""
    if value is None:
        return place.nothing
    if place.numbers is not None:
        return place.numbers[value]
    return value if place.bind is None else place.bind(value)
