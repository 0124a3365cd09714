"""Reads rows of mirrored tables: by their ids, or all of them in pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, SQLAlchemyError

from taskstore._cache.engine.bridge import driver_cursor
from taskstore._cache.engine.sqlite import driver_error
from taskstore._mirror.model.counted_keys import Translated
from taskstore._mirror.model.links import quoted
from taskstore._mirror.model.shape import Mirror, Row, Shape
from taskstore.errors import InvalidDeclarationError, InvalidRecordError

CHUNK = 200
"""How many rows are asked for by one SELECT."""


def read_rows(
    connection: Connection, mirror: Mirror, ids: Iterable[str], *, lenient: bool = False
) -> dict[str, Row]:
    """Return the existing rows of some ids. An id that cannot be a key has none.

    Args:
        connection: To read from.
        mirror: Whose rows are meant.
        ids: Of the rows.
        lenient: Whether a row that cannot be read is given with its key alone, and the reason.

    Raises:
        InvalidRecordError: A row cannot be read, and `lenient` is off.
        InvalidDeclarationError: The table lacks what the model has.
    """
    found: dict[str, Row] = {}
    keys = [key for key in (_key_or_none(mirror, id) for id in ids) if key is not None]
    for start in range(0, len(keys), CHUNK):
        some = keys[start : start + CHUNK]
        try:
            _read_chunk(connection, mirror, some, found)
        except InvalidRecordError:
            for key in some:
                _read_one(connection, mirror, key, found, lenient)
    return found


def _read_one(
    connection: Connection,
    mirror: Mirror,
    key: tuple[Any, ...],
    found: dict[str, Row],
    lenient: bool,
) -> None:
    id = mirror.id_of(key)
    try:
        _read_chunk(connection, mirror, [key], found)
    except InvalidRecordError as error:
        if not lenient:
            raise InvalidRecordError(
                collection=mirror.collection, id=id, reason=error.reason
            ) from error
        shape = _shape_or_base(connection, mirror, key)
        values = dict(zip(mirror.key, key, strict=True))
        found[id] = Row(id, shape, values, flaw=error.reason)


def _shape_or_base(connection: Connection, mirror: Mirror, key: tuple[Any, ...]) -> Shape:
    if len(mirror.shapes) > 1:
        try:
            [(_, shape)] = _classes(connection, mirror, [key])
        except InvalidRecordError:
            return mirror.base
        return shape
    return mirror.base


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
    columns = [field.typed(field.columns[-1]) for field in mirror.key_fields]
    kind = mirror.base.fields[mirror.discriminator].column
    statement = select(*columns, kind).where(_among(columns, keys))
    for *key, identity in _all(connection, mirror, statement):
        try:
            shape = mirror.shape_of(identity)
        except ValueError as error:
            raise InvalidRecordError(
                collection=mirror.collection, id=None, reason=str(error)
            ) from None
        yield tuple(key), shape


def _select(
    connection: Connection, mirror: Mirror, shape: Shape, keys: Sequence[tuple[Any, ...]]
) -> Iterator[Row]:
    fields = list(shape.fields.values())
    columns = [field.typed(field.column) for field in fields]
    version = mirror.version
    if version is not None:
        columns.append(version.column)
    places = [next(i for i, f in enumerate(fields) if f.name == name) for name in mirror.key]
    statement = (
        select(*columns)
        .select_from(shape.source)
        .where(_among([columns[place] for place in places], keys))
    )
    names = [field.name for field in fields]
    for values in _all(connection, mirror, statement):
        id = mirror.id_of([values[place] for place in places])
        row = dict(zip(names, values, strict=False))
        yield Row(id, shape, row, values[-1] if version is not None else None)


def _all(connection: Connection, mirror: Mirror, statement: Any) -> Sequence[Any]:
    """The rows of a SELECT.

    Raises:
        InvalidRecordError: The table has a value that its type cannot read.
        InvalidDeclarationError: The table lacks what the model has.
    """
    result = _executed(connection, mirror, statement)
    try:
        found: Sequence[Any] = result.all()
    except Exception as error:
        # A type of the application's own raises what it likes.
        if _is_databases(error):
            raise
        raise InvalidRecordError(
            collection=mirror.collection, id=None, reason=unreadable(mirror, error)
        ) from error
    return found


def _is_databases(error: Exception) -> bool:
    """Return whether an error is about the database, and not about a value that cannot be read."""
    if isinstance(error, DataError):
        return False
    return isinstance(error, SQLAlchemyError) or driver_error(error) is not None


def _executed(connection: Connection, mirror: Mirror, statement: Any) -> Any:
    try:
        return connection.execute(statement)
    except Exception as error:
        check_schema(mirror, driver_error(error))
        raise


def check_schema(mirror: Mirror, error: BaseException | None) -> None:
    """Raise our own error if the database lacks a table or a column of the model.

    Raises:
        InvalidDeclarationError: It does.
    """
    if str(error).startswith(("no such table", "no such column")):
        raise InvalidDeclarationError(
            mirror.name,
            reason=f"the database is behind the model ({error}): create the table "
            f"{mirror.table.name!r}, or bring it up to date with your migrations, then try again",
        ) from error


def unreadable(mirror: Mirror, error: BaseException) -> str:
    return f"the table {mirror.table.name!r} has a value that its column cannot: {error}"


def _among(columns: Sequence[Any], keys: Sequence[tuple[Any, ...]]) -> ColumnElement[bool]:
    if len(columns) == 1 and isinstance(columns[0].type, Translated):
        return columns[0].type.among(columns[0].clause, [key[0] for key in keys])
    if len(columns) == 1:
        found: ColumnElement[bool] = columns[0].in_([key[0] for key in keys])
        return found
    return or_(*(key_condition(columns, key) for key in keys))


def key_condition(columns: Sequence[Any], key: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that a row has a key."""
    return and_(*(column == value for column, value in zip(columns, key, strict=True)))


def ids_in(
    connection: Connection, mirror: Mirror, flaws: list[str] | None = None
) -> Iterator[list[str]]:
    """Yield the ids of all rows in pages; the table may change between two pages.

    Args:
        connection: To read from.
        mirror: Whose rows are meant.
        flaws: Takes what is wrong with each row that has no id, and is left out.
    """
    columns = [field.columns[-1] for field in mirror.key_fields]
    typed = [field.typed(field.columns[-1]) for field in mirror.key_fields]
    statement = select(*typed).order_by(*columns)
    page: list[str] = []
    for key in _keys(connection, mirror, statement, [] if flaws is None else flaws):
        page.append(key)
        if len(page) == CHUNK:
            yield page
            page = []
    if page:
        yield page


def _keys(
    connection: Connection, mirror: Mirror, statement: Any, flaws: list[str]
) -> Iterator[str]:
    fields = mirror.key_fields
    for key in _one_by_one(connection, mirror, statement, flaws):
        try:
            if None in key:
                raise ValueError("NULL in its key")
            if any(f.translated and type(k) is int for f, k in zip(fields, key, strict=True)):
                flaws.append(
                    f"the row {tuple(key)!r} of {mirror.table.name!r} was never logged: "
                    f"store.export({mirror.name}) writes it"
                )
                continue
            yield mirror.id_of(key)
        except ValueError as error:
            flaws.append(f"the row {tuple(key)!r} of {mirror.table.name!r} has no id: {error}")


def _one_by_one(
    connection: Connection, mirror: Mirror, statement: Any, flaws: list[str]
) -> Sequence[Any]:
    """The rows of a SELECT, without those that cannot be read."""
    try:
        return _all(connection, mirror, statement)
    except InvalidRecordError:
        found: list[Any] = []
    result = _executed(connection, mirror, statement)
    while True:
        try:
            row = result.fetchone()
        except Exception as error:
            # A type of the application's own raises anything.
            if _is_databases(error):
                raise
            flaws.append(unreadable(mirror, error))
        else:
            if row is None:
                return found
            found.append(row)


def any_row(connection: Connection, mirror: Mirror) -> bool:
    """Return whether there is any row.

    Raises:
        InvalidDeclarationError: There is no table.
    """
    cursor = driver_cursor(connection)
    sql = f"SELECT 1 FROM {quoted(mirror.table.name)} LIMIT 1"  # noqa: S608 - quoted
    try:
        # Asked in every transaction, so not by way of a compiled statement.
        return cursor.execute(sql).fetchone() is not None
    except sqlite3.OperationalError as error:
        check_schema(mirror, error)
        raise
    finally:
        cursor.close()
