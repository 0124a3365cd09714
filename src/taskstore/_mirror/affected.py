"""Which mirrored rows a database changes by itself when another row is deleted or changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from sqlalchemy import ColumnElement, column, table
from sqlalchemy.engine import Connection

from taskstore._cache.written_names import deletes, set_names
from taskstore._mirror.links import ACTING, Link, enforced, referring
from taskstore._mirror.reading import key_condition
from taskstore._mirror.registry import Mirrors
from taskstore._mirror.shape import Mirror
from taskstore._mirror.writing import key_columns
from taskstore.errors import UntrackedWriteError

__all__ = ["Affected", "Change", "acts", "reaches"]

_ROWIDS = frozenset({"rowid", "oid", "_rowid_"})


@attrs.frozen
class Change:
    """What happens to a row.

    Attributes:
        columns: those that get other values, in lower case; None where the row goes.
        is_traced: whether it will be found by its new values.
    """

    columns: frozenset[str] | None
    is_traced: bool = True

    @property
    def is_deletion(self) -> bool:
        """Whether the row goes."""
        return self.columns is None


def acts(link: Link, change: Change) -> bool:
    """Whether a database changes the rows that refer to one by a foreign key."""
    if change.columns is None:
        return link.on_delete in ACTING
    referred = {name.lower() for name in link.referred} | _ROWIDS
    return link.on_update in ACTING and not change.columns.isdisjoint(referred)


def _following(link: Link, change: Change) -> Change:
    """What it does to those rows."""
    if change.is_deletion and link.on_delete == "CASCADE":
        return change
    is_traced = change.is_traced and not change.is_deletion and link.on_update == "CASCADE"
    return Change(frozenset(name.lower() for name in link.columns), is_traced)


@attrs.define
class Affected:
    """A walk down the foreign keys, from rows that are about to change.

    Attributes:
        connection: in the transaction that is meant.
        mirrors: the mirrored tables.
        found: collection and id of the mirrored rows that were come across.
    """

    connection: Connection
    mirrors: Mirrors
    found: dict[tuple[str, str], None] = attrs.field(factory=dict)
    _known: dict[str, Sequence[Link]] = attrs.field(factory=dict)
    _seen: set[tuple[str, tuple[Any, ...], Change]] = attrs.field(factory=set)

    def below(self, parent: Any, condition: ColumnElement[bool], change: Change) -> None:
        """Find the rows that the database changes with rows of a table that meet a condition.

        Raises:
            UntrackedWriteError: a row would get a key by which nobody could find it.
        """
        for link in self.links(parent.name):
            if not acts(link, change):
                continue
            mirror = self.mirrors.by_table.get(link.child.lower())
            if mirror is not None:
                self._mirrored(link, parent, condition, mirror, _following(link, change))
            else:
                self._foreign(link, parent, condition, _following(link, change))

    def links(self, name: str) -> Sequence[Link]:
        """Return the foreign keys that refer to a table."""
        if name not in self._known:
            self._known[name] = self.mirrors.links.to(self.connection, name)
        return self._known[name]

    def _mirrored(
        self,
        link: Link,
        parent: Any,
        condition: ColumnElement[bool],
        mirror: Mirror,
        change: Change,
    ) -> None:
        shape, child = next(
            (shape, one)
            for shape in mirror.shapes
            for one in shape.tables
            if one.name == link.child
        )
        columns = key_columns(mirror, shape, child)
        changed = change.columns or frozenset()
        is_lost = not change.is_traced and not changed.isdisjoint(
            one.name.lower() for one in columns
        )
        for row in referring(self.connection, link, parent, condition, columns):
            if is_lost:
                raise UntrackedWriteError(
                    statement=f"a change after which the database would give a row of "
                    f"{mirror.name} another key by itself",
                    remedy="change or delete the rows that refer to it before",
                )
            key = tuple(row)
            if (link.child, key, change) not in self._seen:
                self._seen.add((link.child, key, change))
                self.found[mirror.collection, mirror.id_of(key)] = None
                self.below(child, key_condition(columns, key), change)

    def _foreign(
        self, link: Link, parent: Any, condition: ColumnElement[bool], change: Change
    ) -> None:
        """Pass through a table that is not mirrored, by what others refer to in it."""
        further = {name for other in self.links(link.child) for name in other.referred}
        if not further:
            return
        names = sorted({*further, *link.columns})
        child = table(link.child, *map(column, names))
        columns = [child.c[name] for name in names]
        for row in referring(self.connection, link, parent, condition, columns):
            key = tuple(row)
            if (link.child, key, change) not in self._seen:
                self._seen.add((link.child, key, change))
                self.below(child, key_condition(columns, key), change)


def reaches(connection: Connection, mirrors: Mirrors, table: str, statement: str) -> bool:
    """Whether the database would change mirrored rows by itself when a statement has run.

    Args:
        connection: that it is to run on.
        mirrors: the mirrored tables.
        table: that it writes, in lower case, and that is not mirrored.
        statement: its SQL.
    """
    changes = [Change(set_names(statement))] + [Change(None)] * deletes(statement)
    waiting = [(table, change) for change in changes if change.columns != frozenset()]
    if not waiting or not enforced(connection):
        return False
    seen: set[tuple[str, Change]] = set()
    while waiting:
        name, change = waiting.pop()
        for link in mirrors.links.to(connection, name):
            if not acts(link, change):
                continue
            child = link.child.lower()
            if child in mirrors.tables:
                return True
            further = (child, _following(link, change))
            if further not in seen:
                seen.add(further)
                waiting.append(further)
    return False
