"""Rows of a mirrored table by their keys as they are stored, read and stamped on the driver.

What a trigger notes are stored values. They are compared as they are, so that a key is found
whatever its type makes of it. Nothing here is seen by listeners of the application.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs
from sqlalchemy import and_, column, select, table, type_coerce
from sqlalchemy.engine import Dialect
from sqlalchemy.types import NullType

from taskstore._cache.capture.triggers import RawKey, Tracked
from taskstore._cache.capture.unique_keys import quoted
from taskstore._cache.rows.keys import KeyRows
from taskstore._mirror.model.counted_keys import is_random
from taskstore._mirror.model.shape import Field, Mirror, Row, Shape
from taskstore._mirror.tables.reading import check_schema, unreadable
from taskstore._mirror.tables.writing import key_columns
from taskstore.errors import InvalidRecordError

_KEYS = "taskstore_keys"
_PLACE = "/* keys */"


def tracked_tables(mirror: Mirror) -> Iterator[Tracked]:
    """Yield the tables of a mirror, with the columns that identify its rows in each."""
    seen = set()
    for shape in mirror.shapes:
        for one in shape.tables:
            if one not in seen:
                seen.add(one)
                columns = key_columns(mirror, shape, one)
                key = tuple(column.name for column in columns)
                yield Tracked(one.name, key, one.schema, any(map(is_random, columns)))


@attrs.frozen(eq=False)
class _Select:
    """A SELECT of the rows of one shape: its SQL, and what reads each column."""

    sql: str
    names: tuple[str, ...]
    readers: tuple[tuple[int, Callable[[Any], Any]], ...]


@attrs.define(eq=False)
class StoredRows:
    """The rows of one mirror.

    Attributes:
        mirror: The mirror.
        dialect: Of the application's engine.
        nesting: The shapes whose lines may nest deeper than a line can.
        has_references: Whether rows refer to counted ones.
    """

    mirror: Mirror
    dialect: Dialect
    _selects: dict[Shape, _Select] = attrs.field(factory=dict)
    _readers: tuple[Any, ...] = attrs.field(init=False)
    _binders: tuple[Any, ...] = attrs.field(init=False)
    _is_plain: bool = attrs.field(init=False)
    nesting: frozenset[Shape] = attrs.field(init=False)
    has_references: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # The id of a number is read and bound as it is.
        types = [
            field.column.type if field.translated is None else NullType()
            for field in self.mirror.key_fields
        ]
        self._readers = tuple(_reader(type_, self.dialect) for type_ in types)
        self._binders = tuple(_binder(type_, self.dialect) for type_ in types)
        # Only JSON of the application's own can nest, or have numbers of any length.
        self.nesting = frozenset(
            shape
            for shape in self.mirror.shapes
            if any(field.codec.kind == "any" for field in shape.fields.values())
        )
        self.has_references = any(shape.references for shape in self.mirror.shapes)
        kinds = {field.codec.kind for field in self.mirror.key_fields}
        self._is_plain = {*self._readers, *self._binders} == {None} and kinds <= {"str", "int"}

    def translated(self, keys: KeyRows, raws: Collection[RawKey]) -> dict[RawKey, RawKey]:
        """Return keys with ids in place of numbers; None means a number that has no id.

        Args:
            keys: In the transaction that is meant.
            raws: The keys as they are stored.
        """
        if not self.mirror.is_translated:
            return {raw: raw for raw in raws}
        found = {raw: list(raw) for raw in raws}
        for place, field in enumerate(self.mirror.key_fields):
            if field.translated is not None:
                numbers = {raw[place] for raw in raws} - {None}
                pairs = keys.by_number(field.translated.collection, numbers)
                # A row that is gone has no number of its own; others may still refer to it.
                ids = {n: pair.id for n, pair in pairs.items() if not (pair.gone and field.is_own)}
                for raw, parts in found.items():
                    parts[place] = ids.get(raw[place])
        return {raw: tuple(parts) for raw, parts in found.items()}

    def ids_of(self, keys: KeyRows, raws: Collection[RawKey]) -> dict[RawKey, str]:
        """Return the ids of those keys that make one."""
        found = {}
        for raw, parts in self.translated(keys, raws).items():
            with suppress(ValueError):
                found[raw] = self.id_of(parts)
        return found

    def stored_key(self, keys: KeyRows, id: str) -> RawKey:
        """Return the key that the row with an id is stored under, numbers in their places.

        Raises:
            ValueError: There is none. The message is the reason alone.
        """
        parts = list(self.raw_key(id))
        for place, field in enumerate(self.mirror.key_fields):
            if field.translated is not None:
                pair = keys.by_id(field.translated.collection, [parts[place]]).get(parts[place])
                if pair is None or (pair.gone and field.is_own):
                    raise ValueError(f"nothing has the number of {parts[place]!r}")
                parts[place] = pair.number
        return tuple(parts)

    def id_of(self, raw: RawKey) -> str:
        """Return the id of a row by its key, with ids in place of numbers.

        Raises:
            ValueError: Its key makes none. The message is the reason alone.
        """
        if None in raw:
            raise ValueError(
                f"its key {raw!r} has a NULL, so nothing could find the row again: give each "
                "column of the key a value, or leave the model out of mirrors"
            )
        try:
            if self._is_plain:
                return self.mirror.id_of(raw)
            return self.mirror.id_of(_read(self._readers, raw))
        except ValueError:
            raise
        except Exception as error:
            # A type of the application's own raises what it likes.
            raise ValueError(f"its key {raw!r} cannot be read: {error}") from error

    def raw_key(self, id: str) -> RawKey:
        """Return the key that the row with an id is stored under.

        Raises:
            ValueError: It is not an id of these rows. The message is the reason alone.
        """
        return _read(self._binders, self.mirror.key_of(id))

    def id_as_stored(self, values: Sequence[Any]) -> str:
        """Return the id that a row will have by the key that it is given.

        Raises:
            ValueError: It makes none.
        """
        if self._is_plain:
            return self.mirror.id_of(values)
        return self.mirror.id_of(_read(self._readers, _read(self._binders, values)))

    def finds(self, id: str, raw: RawKey) -> bool:
        """Return whether an id finds the row that is stored under a key."""
        if self._is_plain or self.mirror.is_translated:
            return True
        try:
            return bool(self.raw_key(id) == raw)
        except Exception:  # noqa: BLE001 - a type of the application's own raises anything
            return False

    def read(self, cursor: Any, ids: Mapping[RawKey, str]) -> dict[RawKey, Row]:
        """Return the rows that are there of some keys, each of which has its id.

        Raises:
            InvalidRecordError: A row cannot be read.
            InvalidDeclarationError: The table lacks what the model has.
        """
        if not ids:
            return {}
        if len(self.mirror.shapes) == 1:
            return self._of_shape(cursor, self.mirror.base, ids)
        by_shape: dict[Shape, dict[RawKey, str]] = {}
        for key, shape in self._shapes(cursor, list(ids)):
            if key in ids:
                by_shape.setdefault(shape, {})[key] = ids[key]
        found: dict[RawKey, Row] = {}
        for shape, some in by_shape.items():
            found |= self._of_shape(cursor, shape, some)
        return found

    def has(self, cursor: Any, raw: RawKey) -> bool:
        """Return whether a row is there, even if its key lacks a value."""
        where = " AND ".join(f"{self._column(field)} IS ?" for field in self.mirror.key_fields)
        sql = f"SELECT 1 FROM {self._table(self.mirror.table)} WHERE {where}"  # noqa: S608 - quoted
        return bool(cursor.execute(sql, raw).fetchone())

    def is_there(self, cursor: Any) -> bool:
        """Return whether the database has the table."""
        try:
            cursor.execute(f"SELECT 1 FROM {self._table(self.mirror.table)} LIMIT 0")  # noqa: S608 - quoted
        except sqlite3.OperationalError:
            return False
        return True

    def count(self, cursor: Any) -> int:
        """Return how many rows there are."""
        sql = f"SELECT count(*) FROM {self._table(self.mirror.table)}"  # noqa: S608 - quoted
        return int(cursor.execute(sql).fetchone()[0])

    def keys(self, cursor: Any) -> list[RawKey]:
        """Return the keys of all rows."""
        columns = ", ".join(self._column(field) for field in self.mirror.key_fields)
        sql = f"SELECT {columns} FROM {self._table(self.mirror.table)}"  # noqa: S608 - quoted
        rows = self._execute(cursor, sql, ())
        return [tuple(row) for row in rows]

    def stamp(self, cursor: Any, versions: Iterable[tuple[RawKey, Any]]) -> None:
        """Write the version column of some rows alone."""
        assert self.mirror.version is not None
        target = self.mirror.version.column
        bind = _binder(target.type, self.dialect)
        keys = key_columns(self.mirror, self.mirror.base, target.table)
        where = " AND ".join(f"{quoted(key.name)} = ?" for key in keys)
        sql = f"UPDATE {self._table(target.table)} SET {quoted(target.name)} = ? WHERE {where}"  # noqa: S608 - quoted
        cursor.executemany(
            sql,
            [(value if bind is None else bind(value), *key) for key, value in versions],
        )

    def _of_shape(self, cursor: Any, shape: Shape, ids: Mapping[RawKey, str]) -> dict[RawKey, Row]:
        chosen = self._selects.get(shape)
        if chosen is None:
            chosen = self._selects[shape] = self._select(shape)
        width = len(self.mirror.key)
        names, readers = chosen.names, chosen.readers
        has_version = self.mirror.version is not None
        is_counted = self.mirror.is_counted
        found = {}
        for values in self._execute(cursor, chosen.sql, list(ids)):
            raw = values[:width]
            id = ids.get(raw)
            if id is None:
                # A key that differs only in case, in a column that ignores case.
                continue
            row = list(values[width:])
            try:
                for place, reader in readers:
                    row[place] = reader(row[place])
            except Exception as error:
                reason = unreadable(self.mirror, error)
                raise InvalidRecordError(
                    collection=self.mirror.collection, id=id, reason=reason
                ) from error
            version = row.pop() if has_version else None
            made = found[raw] = Row(id, shape, dict(zip(names, row, strict=True)), version)
            if is_counted:
                made.number = raw[0]
                made.values[self.mirror.key[0]] = id
        return found

    def _shapes(self, cursor: Any, keys: Sequence[RawKey]) -> Iterator[tuple[RawKey, Shape]]:
        mirror = self.mirror
        assert mirror.discriminator is not None
        kind = mirror.base.fields[mirror.discriminator].column
        reader = _reader(kind.type, self.dialect)
        own = key_columns(mirror, mirror.base, mirror.table)
        sql = self._sql(mirror.table, own, [kind])
        for *key, identity in self._execute(cursor, sql, keys):
            try:
                shape = mirror.shape_of(identity if reader is None else reader(identity))
            except ValueError as error:
                raise InvalidRecordError(
                    collection=mirror.collection, id=None, reason=str(error)
                ) from None
            yield tuple(key), shape

    def _select(self, shape: Shape) -> _Select:
        fields = list(shape.fields.values())
        # The id of the row itself is known.
        columns = [one.column if one.is_own else one.typed(one.column) for one in fields]
        if self.mirror.version is not None:
            columns.append(self.mirror.version.column)
        own = [shape.fields[name].column for name in self.mirror.key]
        readers = [_reader(one.type, self.dialect) for one in columns]
        return _Select(
            self._sql(shape.source, own, columns),
            tuple(field.name for field in fields),
            tuple((n, one) for n, one in enumerate(readers) if one is not None),
        )

    def _sql(self, source: Any, key: Sequence[Any], columns: Sequence[Any]) -> str:
        """A SELECT of some columns behind those of the key as they are stored."""
        names = [f"k{n}" for n in range(len(key))]
        given = table(_KEYS, *(column(name) for name in names))
        match = and_(*(one == given.c[name] for one, name in zip(key, names, strict=True)))
        statement = select(*(type_coerce(one, NullType()) for one in key), *columns).select_from(
            given.join(source, match)
        )
        compiled = statement.compile(dialect=self.dialect, compile_kwargs={"literal_binds": True})
        # By the keys into the table, and never the other way round.
        sql = str(compiled).replace(f"FROM {_KEYS} JOIN", f"FROM {_KEYS} CROSS JOIN", 1)
        return f"WITH {_KEYS} ({', '.join(names)}) AS (VALUES {_PLACE}) {sql}"

    def _execute(self, cursor: Any, sql: str, keys: Sequence[RawKey]) -> list[Any]:
        if keys:
            one = f"({', '.join('?' * len(keys[0]))})"
            sql = sql.replace(_PLACE, ", ".join([one] * len(keys)), 1)
        try:
            rows: list[Any] = cursor.execute(sql, [v for key in keys for v in key]).fetchall()
        except sqlite3.OperationalError as error:
            check_schema(self.mirror, error)
            raise
        return rows

    def _column(self, field: Field) -> str:
        return quoted(field.columns[-1].name)

    def _table(self, one: Any) -> str:
        name = quoted(one.name)
        return name if one.schema is None else f"{quoted(one.schema)}.{name}"


def _reader(type_: Any, dialect: Dialect) -> Callable[[Any], Any] | None:
    found: Callable[[Any], Any] | None = type_.dialect_impl(dialect).result_processor(dialect, None)
    return found


def _binder(type_: Any, dialect: Dialect) -> Callable[[Any], Any] | None:
    found: Callable[[Any], Any] | None = type_.dialect_impl(dialect).bind_processor(dialect)
    return found


def _read(processors: Sequence[Callable[[Any], Any] | None], values: Sequence[Any]) -> RawKey:
    return tuple(
        value if one is None else one(value) for one, value in zip(processors, values, strict=True)
    )
