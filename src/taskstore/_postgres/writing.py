"""Writes many rows of a mirrored table: COPY into a temporary table, then one statement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import attrs
from sqlalchemy import Column
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.types import JSON, TypeDecorator

from taskstore._mirror.model.shape import Field, Mirror, Row, Shape
from taskstore._mirror.model.values import variant_of
from taskstore._postgres.allocation import Numbers
from taskstore._postgres.context import projecting
from taskstore._postgres.names import quoted, quoted_columns, quoted_table

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

    @property
    def _table(self) -> str:
        return quoted_table(self.mirror.table, self._dialect)

    def put(self, rows: Sequence[Row]) -> None:
        """Insert rows, or update those that are there; what a line does not name stays."""
        for (index, _), some in groupby(sorted(rows, key=self._kind), key=self._kind):
            self._put_alike(self.mirror.shapes[index], list(some))

    def _kind(self, row: Row) -> tuple[int, tuple[str, ...]]:
        return self.mirror.shapes.index(row.shape), tuple(sorted(row.values))

    def _put_alike(self, shape: Shape, rows: Sequence[Row]) -> None:
        places = self._places(shape, rows[0])
        columns = [place.column for place in places]
        self._copy(columns, [[self._value(row, place) for place in places] for row in rows])
        keys = [field.column for field in self.mirror.key_fields]
        projecting(self.connection, self.mirror)
        set_ = ", ".join(
            f"{quoted(place.column.name)} = EXCLUDED.{quoted(place.column.name)}"
            for place in places
            if place.given and place.column not in keys
        )
        self.connection.exec_driver_sql(
            f"INSERT INTO {self._table} ({quoted_columns(columns)}) OVERRIDING SYSTEM VALUE "
            f"SELECT {quoted_columns(columns)} FROM {_TEMP} "
            f"ON CONFLICT ({quoted_columns(keys)}) DO "
            + (f"UPDATE SET {set_}" if set_ else "NOTHING")
        )

    def _places(self, shape: Shape, row: Row) -> list[_Place]:
        places = []
        for name, field in shape.fields.items():
            if name in row.values:
                bind, numbers = self._bind(field.column), self._numbers(field)
                nothing = self._nothing(field.column)
                places.append(_Place(field.column, name, bind, nothing=nothing, numbers=numbers))
            elif field.column.default is not None and not field.column.default.is_sequence:
                places.append(_Place(field.column, name, self._bind(field.column), given=False))
        if self.mirror.version is not None:
            column = self.mirror.version.column
            places.append(_Place(column, "", self._bind(column)))
        return places

    def _numbers(self, field: Field) -> Mapping[str, int] | None:
        translated = field.translated
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
        fields = self.mirror.key_fields
        columns = [field.column for field in fields]
        places = [
            _Place(field.column, field.name, self._bind(field.column), numbers=self._numbers(field))
            for field in fields
        ]
        self._copy(
            columns,
            [[_bound(place, one) for place, one in zip(places, key, strict=True)] for key in keys],
        )
        projecting(self.connection, self.mirror)
        same = " AND ".join(f"t.{quoted(c.name)} = k.{quoted(c.name)}" for c in columns)
        self.connection.exec_driver_sql(f"DELETE FROM {self._table} t USING {_TEMP} k WHERE {same}")

    def _copy(self, columns: Sequence[Column[Any]], rows: Sequence[Sequence[Any]]) -> None:
        names = quoted_columns(columns)
        self.connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_TEMP}")
        self.connection.exec_driver_sql(
            f"CREATE TEMP TABLE taskstore_rows ON COMMIT DROP AS SELECT {names} "
            f"FROM {self._table} WITH NO DATA"
        )
        cursor: Any = self.connection.connection.cursor()
        with cursor, cursor.copy(f"COPY {_TEMP} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)


def _bound(place: _Place, value: Any) -> Any:
    """Return a value in the form that the driver takes."""
    if value is None:
        return place.nothing
    if place.numbers is not None:
        return place.numbers[value]
    return value if place.bind is None else place.bind(value)
