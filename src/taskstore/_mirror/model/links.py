"""The foreign keys that a database really has, and the rows that refer to a row."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs
from sqlalchemy import (
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

from taskstore._cache.engine.bridge import driver_cursor
from taskstore._mirror.model.shape import Row

ACTING = ("CASCADE", "SET NULL", "SET DEFAULT")
"""The actions by which a database changes referring rows itself."""

# No pragma tells it.
_DEFERRED = re.compile(r"\binitially\s+deferred\b", re.IGNORECASE)


@attrs.frozen
class Link:
    """One foreign key.

    Attributes:
        child: The table that refers, as it is written.
        columns: Its columns.
        parent: The table that is referred to, in lower case.
        referred: Its columns.
        on_delete, on_update: What the database does to the child.
        is_deferred: Whether it, or another one of the child's, is looked at when the transaction
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
    """Return whether the database enforces foreign keys on this connection."""
    cursor = driver_cursor(connection)
    try:
        return is_enforcing(cursor)
    finally:
        cursor.close()


def is_enforcing(cursor: Any) -> bool:
    """Return whether the database of a driver's cursor enforces foreign keys."""
    return bool(cursor.execute("PRAGMA foreign_keys").fetchone()[0])


def referring(
    connection: Connection,
    link: Link,
    parent: Table,
    condition: ColumnElement[bool],
    columns: Sequence[ColumnClause[Any]] = (),
) -> Sequence[Any]:
    """Return columns of the rows that refer to those rows of a parent that meet a condition.

    Args:
        connection: In the transaction that is meant.
        link: The foreign key.
        parent: The table that it refers to.
        condition: Which rows of the parent are meant.
        columns: Of the child; without any only whether there are rows is told.
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


def refers(
    connection: Connection, link: Link, values: Sequence[tuple[ColumnElement[Any], Any]]
) -> bool:
    """Return whether rows of a child refer to these values, even if no row has them.

    Args:
        connection: In the transaction that is meant.
        link: The foreign key.
        values: Each column that it refers to, with its value.
    """
    child = table(link.child, *(column(name) for name in link.columns))
    own = [child.c[name] for name in link.columns]
    match = (one == literal(value, of.type) for one, (of, value) in zip(own, values, strict=True))
    statement = select(literal(1)).select_from(child).where(*match).limit(1)
    return connection.execute(statement).first() is not None


def dangling(
    connection: Connection, link: Link, child: Table, condition: ColumnElement[bool]
) -> bool:
    """Return whether rows of a child that meet a condition refer to missing rows."""
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


T = TypeVar("T")


def parents_first(items: Sequence[T], row_of: Callable[[T], Row]) -> list[T]:
    """Return items in an order in which rows come after those that they refer to.

    Args:
        items: Whose rows are of one shape.
        row_of: The row of an item.
    """
    links = _own_links(row_of(items[0])) if items else []
    if not links:
        return list(items)
    by_key = {
        (place, _values(row_of(item), referred)): item
        for item in items
        for place, (_, referred) in enumerate(links)
    }
    ordered: dict[int, T] = {}
    for item in items:
        # A walk up the parents; those of a circle come as they are met.
        path = [item]
        met = {id(item)}
        while path:
            row = row_of(path[-1])
            keys = [(place, _values(row, own)) for place, (own, _) in enumerate(links)]
            above = [by_key[key] for key in keys if key in by_key]
            wanted = [one for one in above if id(one) not in ordered and id(one) not in met]
            if wanted:
                path.append(wanted[0])
                met.add(id(wanted[0]))
            else:
                done = path.pop()
                ordered.setdefault(id(done), done)
    return list(ordered.values())


def _own_links(row: Row) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The foreign keys of a table to itself, as the attributes on both of their sides."""
    table = row.shape.tables[0]
    names: dict[Any, str] = {
        column: name for name, field in row.shape.fields.items() for column in field.columns
    }
    found = []
    for constraint in table.foreign_key_constraints:
        own = [element.parent for element in constraint.elements]
        if constraint.referred_table is table:
            referred = [element.column for element in constraint.elements]
            if all(column in names for column in (*own, *referred)):
                found.append(
                    (tuple(names[one] for one in own), tuple(names[one] for one in referred))
                )
    return found


def _values(row: Row, names: tuple[str, ...]) -> tuple[Hashable, ...]:
    return tuple(row.values.get(name) for name in names)
