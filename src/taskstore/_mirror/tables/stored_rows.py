"""Rows of a mirrored table by their keys as they are stored, read and stamped on the driver.

What a trigger notes are stored values. They are compared as they are, so that a key is found
whatever its type makes of it. Nothing here is seen by listeners of the application.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs
from sqlalchemy import Text, and_, column, select, table, type_coerce
from sqlalchemy.engine import Dialect
from sqlalchemy.types import NullType

from taskstore._cache.capture.triggers import RawKey, Tracked
from taskstore._cache.capture.unique_keys import quoted
from taskstore._cache.rows.keys import KeyRows
from taskstore._format.names import MAX_ID_LENGTH
from taskstore._mirror.model.counted_keys import is_random
from taskstore._mirror.model.shape import Field, Mirror, Row, Shape
from taskstore._mirror.tables.reading import check_schema, unreadable
from taskstore._mirror.tables.usual import UsualLines
from taskstore._mirror.tables.writing import key_columns
from taskstore.errors import InvalidRecordError

_KEYS = "taskstore_keys"
_RECORDS = "taskstore_stored"
_STORED = ("collection", "id", "data_json", "updated_at_us")
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


@attrs.frozen(eq=False)
class Beside:
    """A SELECT of the rows of some keys beside their records.

    Each of its rows has a key as it was given, the key that the table has (NULL without a row), the
    columns of the shape, that of the version if there is one, and line and version of the record.

    Attributes:
        shape: The shape of all rows.
        width: How many columns a key has.
        readers: What reads each column of the shape and of the version; None for nothing.
    """

    sql: str
    shape: Shape
    width: int
    readers: tuple[Callable[[Any], Any] | None, ...]


@attrs.define(eq=False)
class StoredRows:
    """The rows of one mirror.

    Attributes:
        mirror: The mirror.
        dialect: Of the application's engine.
        nesting: The shapes whose lines may nest deeper than a line can.
        has_references: Whether rows refer to counted ones.
        is_text: Whether the key is one plain text, which is the id.
    """

    mirror: Mirror
    dialect: Dialect
    _selects: dict[Shape, _Select] = attrs.field(factory=dict)
    _beside: dict[str, Beside] = attrs.field(factory=dict)
    _usual: dict[Beside, UsualLines] = attrs.field(factory=dict)
    _readers: tuple[Any, ...] = attrs.field(init=False)
    _binders: tuple[Any, ...] = attrs.field(init=False)
    _is_plain: bool = attrs.field(init=False)
    is_text: bool = attrs.field(init=False)
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
        is_one = self._is_plain and len(types) == 1 and not self.mirror.is_translated
        self.is_text = is_one and kinds == {"str"}

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

    def usual_ids(self, raws: Collection[RawKey]) -> dict[RawKey, str] | None:
        """Return the ids of keys that are texts, all of them good ids; None in other cases."""
        if not self.is_text:
            return None
        texts = [raw[0] for raw in raws]
        try:
            are_good = all(map(str.isascii, texts)) and all(map(str.strip, texts))
        except TypeError:
            return None
        if not are_good or max(map(len, texts), default=0) > MAX_ID_LENGTH:
            return None
        return dict(zip(raws, texts, strict=True))

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

    def beside(self, records: str) -> Beside | None:
        """Return the SELECT of rows beside their records; None if they have several shapes.

        Args:
            records: The name of the table of records.
        """
        if len(self.mirror.shapes) > 1:
            return None
        found = self._beside.get(records)
        if found is None:
            found = self._beside[records] = self._select_beside(self.mirror.base, records)
        return found

    def read_beside(self, cursor: Any, chosen: Beside, ids: Mapping[RawKey, str]) -> list[Any]:
        """Return the rows of a SELECT of `beside` for some keys, each of which has its id.

        Raises:
            InvalidDeclarationError: The table lacks what the model has.
        """
        if not ids:
            return []
        return self._execute(cursor, chosen.sql, [(*raw, id) for raw, id in ids.items()])

    def usual_lines(self, chosen: Beside) -> UsualLines | None:
        """Return what makes the lines of such rows; None if more than their values has a say."""
        if self.mirror.is_counted or not (self._is_plain or self.mirror.is_translated):
            return None
        if chosen not in self._usual:
            self._usual[chosen] = UsualLines(chosen.shape, chosen.readers)
        return self._usual[chosen]

    def row_of(self, chosen: Beside, id: str, raw: RawKey, values: Sequence[Any]) -> Row:
        """Return the row that the columns of a SELECT of `beside` make.

        Args:
            chosen: The SELECT.
            id: Of the row.
            raw: Its key as it is stored.
            values: Of the columns of the shape, and of the version.

        Raises:
            InvalidRecordError: It cannot be read.
        """
        try:
            read = list(_read(chosen.readers, values))
        except Exception as error:
            reason = unreadable(self.mirror, error)
            raise InvalidRecordError(
                collection=self.mirror.collection, id=id, reason=reason
            ) from error
        version = read.pop() if self.mirror.version is not None else None
        made = Row(id, chosen.shape, dict(zip(chosen.shape.fields, read, strict=True)), version)
        if self.mirror.is_counted:
            made.number = raw[0]
            made.values[self.mirror.key[0]] = id
        return made

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

    def stamp(self, cursor: Any, versions: Collection[tuple[RawKey, Any]]) -> None:
        """Write the version column of some rows alone."""
        assert self.mirror.version is not None
        target = self.mirror.version.column
        bind = _binder(target.type, self.dialect)
        keys = key_columns(self.mirror, self.mirror.base, target.table)
        where = " AND ".join(f"{quoted(key.name)} = ?" for key in keys)
        sql = f"UPDATE {self._table(target.table)} SET {quoted(target.name)} = ? WHERE {where}"  # noqa: S608 - quoted
        # Nearly all of them are the same object.
        some = {id(value): value for _, value in versions}
        bound = {name: one if bind is None else bind(one) for name, one in some.items()}
        cursor.executemany(sql, [(bound[id(value)], *key) for key, value in versions])

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
        columns = self._columns(shape)
        own = [shape.fields[name].column for name in self.mirror.key]
        readers = [_reader(one.type, self.dialect) for one in columns]
        return _Select(
            self._sql(shape.source, own, columns),
            tuple(shape.fields),
            tuple((n, one) for n, one in enumerate(readers) if one is not None),
        )

    def _columns(self, shape: Shape) -> list[Any]:
        """The columns of a shape, and that of the version, as they are read."""
        # The id of the row itself is known.
        columns = [
            one.column if one.is_own else one.typed(one.column) for one in shape.fields.values()
        ]
        if self.mirror.version is not None:
            columns.append(self.mirror.version.column)
        return columns

    def _select_beside(self, shape: Shape, records: str) -> Beside:
        columns = self._columns(shape)
        own = [shape.fields[name].column for name in self.mirror.key]
        names = [f"k{n}" for n in range(len(own))]
        given = table(_KEYS, *(column(name) for name in (*names, "id")))
        match = and_(*(one == given.c[name] for one, name in zip(own, names, strict=True)))
        stored = table(records, *(column(name, Text()) for name in _STORED)).alias(_RECORDS)
        same = and_(stored.c.collection == self.mirror.collection, stored.c.id == given.c.id)
        statement = select(
            *(given.c[name] for name in names),
            *(type_coerce(one, NullType()) for one in own),
            *columns,
            stored.c.data_json,
            stored.c.updated_at_us,
        ).select_from(given.outerjoin(shape.source, match).outerjoin(stored, same))
        compiled = statement.compile(dialect=self.dialect, compile_kwargs={"literal_binds": True})
        return Beside(
            f"WITH {_KEYS} ({', '.join(names)}, id) AS (VALUES {_PLACE}) {compiled}",
            shape,
            len(own),
            tuple(_reader(one.type, self.dialect) for one in columns),
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
