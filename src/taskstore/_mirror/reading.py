"""Reads rows of mirrored tables: by their ids, or all of them in pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.engine import Connection

from taskstore._cache.bridge import driver_cursor
from taskstore._mirror.links import quoted
from taskstore._mirror.shape import Mirror, Row, Shape
from taskstore.errors import InvalidRecordError

__all__ = ["any_row", "ids_in", "key_condition", "read_rows"]

CHUNK = 200
"""How many rows are asked for by one SELECT."""


def read_rows(connection: Connection, mirror: Mirror, ids: Iterable[str]) -> dict[str, Row]:
    """Return the rows that are there of some ids; an id that cannot be a key has none."""
    found: dict[str, Row] = {}
    keys = [key for key in (_key_or_none(mirror, id) for id in ids) if key is not None]
    for start in range(0, len(keys), CHUNK):
        _read_chunk(connection, mirror, keys[start : start + CHUNK], found)
    return found


def _key_or_none(mirror: Mirror, id: str) -> tuple[Any, ...] | None:
    try:
        return mirror.key_of(id)
    except ValueError:
        return None


def _read_chunk(
    connection: Connection, mirror: Mirror, keys: Sequence[tuple[Any, ...]], found: dict[str, Row]
) -> None:
    if len(mirror.shapes) == 1:
        for row in _select(connection, mirror, mirror.base, keys):
            found[row.id] = row
        return
    by_shape: dict[Shape, list[tuple[Any, ...]]] = {}
    for key, shape in _classes(connection, mirror, keys):
        by_shape.setdefault(shape, []).append(key)
    for shape, some in by_shape.items():
        for row in _select(connection, mirror, shape, some):
            found[row.id] = row


def _classes(
    connection: Connection, mirror: Mirror, keys: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], Shape]]:
    assert mirror.discriminator is not None
    columns = [field.columns[-1] for field in mirror.key_fields]
    kind = mirror.base.fields[mirror.discriminator].column
    statement = select(*columns, kind).where(_among(columns, keys))
    for *key, identity in _all(connection, mirror, statement):
        yield tuple(key), mirror.shape_of(identity)


def _select(
    connection: Connection, mirror: Mirror, shape: Shape, keys: Sequence[tuple[Any, ...]]
) -> Iterator[Row]:
    fields = list(shape.fields.values())
    columns = [field.column for field in fields]
    version = mirror.version
    if version is not None:
        columns.append(version.column)
    places = [next(i for i, f in enumerate(fields) if f.name == name) for name in mirror.key]
    statement = (
        select(*columns)
        .select_from(shape.source)
        .where(_among([fields[place].column for place in places], keys))
    )
    names = [field.name for field in fields]
    for values in _all(connection, mirror, statement):
        id = mirror.id_of([values[place] for place in places])
        row = dict(zip(names, values, strict=False))
        yield Row(id, shape, row, values[-1] if version is not None else None)


def _all(connection: Connection, mirror: Mirror, statement: Any) -> Sequence[Any]:
    """The rows of a SELECT.

    Raises:
        InvalidRecordError: the table has a value that its type cannot read.
    """
    try:
        return connection.execute(statement).all()
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise InvalidRecordError(
            collection=mirror.collection,
            id=None,
            reason=f"the table {mirror.table.name!r} has a value that its column cannot: {error}",
        ) from error


def _among(columns: Sequence[Any], keys: Sequence[tuple[Any, ...]]) -> ColumnElement[bool]:
    if len(columns) == 1:
        found: ColumnElement[bool] = columns[0].in_([key[0] for key in keys])
        return found
    return or_(*(key_condition(columns, key) for key in keys))


def key_condition(columns: Sequence[Any], key: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that a row has a key."""
    return and_(*(column == value for column, value in zip(columns, key, strict=True)))


def ids_in(connection: Connection, mirror: Mirror) -> Iterator[list[str]]:
    """Yield the ids of all rows in pages; the table may change between two pages."""
    columns = [field.columns[-1] for field in mirror.key_fields]
    statement = select(*columns).order_by(*columns)
    keys = _all(connection, mirror, statement)
    for start in range(0, len(keys), CHUNK):
        yield [mirror.id_of(key) for key in keys[start : start + CHUNK]]


def any_row(connection: Connection, mirror: Mirror) -> bool:
    """Whether there is any row."""
    cursor = driver_cursor(connection)
    sql = f"SELECT 1 FROM {quoted(mirror.table.name)} LIMIT 1"  # noqa: S608 - quoted
    try:
        # Asked in every transaction, so not by way of a compiled statement.
        return cursor.execute(sql).fetchone() is not None
    finally:
        cursor.close()
