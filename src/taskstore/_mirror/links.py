"""The foreign keys that a database really has, and the rows that refer to a row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from sqlalchemy import (
    Column,
    ColumnClause,
    ColumnElement,
    Table,
    and_,
    column,
    exists,
    literal,
    literal_column,
    not_,
    select,
    table,
)
from sqlalchemy.engine import Connection

from taskstore._cache.bridge import driver_cursor

__all__ = ["ACTING", "Link", "Links", "dangling", "enforced", "quoted", "referring", "refers"]

ACTING = ("CASCADE", "SET NULL", "SET DEFAULT")
"""What a database does to referring rows by itself."""

# No pragma tells it.
_DEFERRED = re.compile(r"\binitially\s+deferred\b", re.IGNORECASE)


@attrs.frozen
class Link:
    """One foreign key.

    Attributes:
        child: the table that refers, as it is written.
        columns: its columns.
        parent: the table that is referred to, in lower case.
        referred: its columns.
        on_delete, on_update: what the database does to the child.
        is_deferred: whether it, or another one of the child's, is looked at when the transaction
            commits, and not with each statement.
    """

    child: str
    columns: tuple[str, ...]
    parent: str
    referred: tuple[str, ...]
    on_delete: str
    on_update: str
    is_deferred: bool = False


@attrs.define
class Links:
    """The foreign keys of one database; read again when its schema has changed."""

    _schema: int | None = None
    _by_parent: dict[str, list[Link]] = attrs.field(factory=dict)

    def to(self, connection: Connection, table: str) -> Sequence[Link]:
        """Return the foreign keys that refer to a table."""
        self._look(connection)
        return self._by_parent.get(table.lower(), ())

    def of(self, connection: Connection, table: str) -> list[Link]:
        """Return the foreign keys of a table."""
        return [link for link in self._all(connection) if link.child.lower() == table.lower()]

    def deferred(self, connection: Connection) -> list[Link]:
        """Return the foreign keys that are looked at when a transaction commits."""
        return [link for link in self._all(connection) if link.is_deferred]

    def _all(self, connection: Connection) -> Iterator[Link]:
        self._look(connection)
        for links in self._by_parent.values():
            yield from links

    def _look(self, connection: Connection) -> None:
        cursor = driver_cursor(connection)
        try:
            [version] = cursor.execute("PRAGMA schema_version").fetchone()
            if version != self._schema:
                self._by_parent = _read(cursor)
                self._schema = version
        finally:
            cursor.close()


def enforced(connection: Connection) -> bool:
    """Whether the database enforces foreign keys on this connection."""
    cursor = driver_cursor(connection)
    try:
        return bool(cursor.execute("PRAGMA foreign_keys").fetchone()[0])
    finally:
        cursor.close()


def referring(
    connection: Connection,
    link: Link,
    parent: Table,
    condition: ColumnElement[bool],
    columns: Sequence[ColumnClause[Any]] = (),
) -> Sequence[Any]:
    """Return columns of the rows that refer to those rows of a parent that meet a condition.

    Args:
        connection: in the transaction that is meant.
        link: the foreign key.
        parent: the table that it refers to.
        condition: which rows of the parent are meant.
        columns: of the child; without any only whether there are rows is told.
    """
    names = {*link.columns, *(one.name for one in columns)}
    types = {one.name: one.type for one in columns}
    child = table(link.child, *(column(name, types.get(name)) for name in names)).alias()
    joined = and_(
        *(
            child.c[own] == _column_of(parent, other)
            for own, other in zip(link.columns, link.referred, strict=True)
        )
    )
    wanted: list[Any] = [child.c[one.name] for one in columns] or [literal(1)]
    statement = select(*wanted).select_from(parent.join(child, joined)).where(condition)
    return connection.execute(statement if columns else statement.limit(1)).all()


def refers(connection: Connection, link: Link, values: Sequence[tuple[Column[Any], Any]]) -> bool:
    """Whether rows of a child refer to a row that has some values, be it there or not.

    Args:
        connection: in the transaction that is meant.
        link: the foreign key.
        values: each column that it refers to, with its value.
    """
    child = table(link.child, *(column(name) for name in link.columns))
    own = [child.c[name] for name in link.columns]
    match = (one == literal(value, of.type) for one, (of, value) in zip(own, values, strict=True))
    statement = select(literal(1)).select_from(child).where(*match).limit(1)
    return connection.execute(statement).first() is not None


def dangling(
    connection: Connection, link: Link, child: Table, condition: ColumnElement[bool]
) -> bool:
    """Whether rows of a child that meet a condition refer to rows that are not there."""
    parent = table(link.parent, *(column(name) for name in link.referred)).alias()
    own = [_column_of(child, name) for name in link.columns]
    match = and_(*(one == parent.c[other] for one, other in zip(own, link.referred, strict=True)))
    there = exists(select(literal(1)).select_from(parent).where(match).correlate(child))
    statement = (
        select(literal(1))
        .select_from(child)
        .where(condition, *(one.is_not(None) for one in own), not_(there))
        .limit(1)
    )
    return connection.execute(statement).first() is not None


def _column_of(table: Any, name: str) -> ColumnElement[Any]:
    """The column of a table that has a name, which its model may not have."""
    for one in table.columns:
        if one.name.lower() == name.lower():
            found: ColumnElement[Any] = one
            return found
    return literal_column(f"{quoted(table.name)}.{quoted(name)}")


def quoted(name: str) -> str:
    """Return an identifier as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def _read(cursor: Any) -> dict[str, list[Link]]:
    tables = dict(
        cursor.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
    )
    keys = {name.lower(): _primary_key(cursor, name) for name in tables}
    found: dict[str, list[Link]] = {}
    for name, sql in tables.items():
        is_deferred = _DEFERRED.search(sql or "") is not None
        for link in _links_of(cursor, name, keys, is_deferred=is_deferred):
            found.setdefault(link.parent, []).append(link)
    return found


def _primary_key(cursor: Any, table: str) -> tuple[str, ...]:
    rows = cursor.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
    return tuple(row[1] for row in sorted(rows, key=lambda row: row[5]) if row[5])


def _links_of(
    cursor: Any, table: str, keys: Mapping[str, tuple[str, ...]], *, is_deferred: bool
) -> Iterator[Link]:
    grouped: dict[int, list[Any]] = {}
    for row in cursor.execute(f"PRAGMA foreign_key_list({quoted(table)})").fetchall():
        grouped.setdefault(row[0], []).append(row)
    for rows in grouped.values():
        rows.sort(key=lambda row: row[1])
        parent = rows[0][2].lower()
        own = tuple(row[3] for row in rows)
        referred = tuple(row[4] for row in rows)
        if None in referred:
            referred = keys.get(parent, ())
        if len(referred) == len(own):
            on_delete, on_update = rows[0][6].upper(), rows[0][5].upper()
            yield Link(table, own, parent, referred, on_delete, on_update, is_deferred)
