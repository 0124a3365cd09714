"""Which mirrored rows a database changes by itself when another row is deleted or gets a key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs
from sqlalchemy import ColumnElement, column, table
from sqlalchemy.engine import Connection

from taskstore._mirror.links import ACTING, Link, enforced, referring
from taskstore._mirror.reading import key_condition
from taskstore._mirror.registry import Mirrors
from taskstore._mirror.shape import Mirror
from taskstore._mirror.writing import key_columns

__all__ = ["Affected", "reaches"]

_VERB = re.compile(r"\s*(\w+)(\s+or\s+replace)?", re.IGNORECASE)
_SETS = re.compile(r"\bset\b(.*?)(\bwhere\b|$)", re.IGNORECASE | re.DOTALL)
_UPSERTS = re.compile(r"\bdo\s+update\b", re.IGNORECASE)


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
    _seen: set[tuple[str, tuple[Any, ...]]] = attrs.field(factory=set)

    def below(self, parent: Any, condition: ColumnElement[bool]) -> None:
        """Find the rows that the database changes with rows of a table that meet a condition."""
        for link in self.links(parent.name):
            if link.on_delete not in ACTING and link.on_update not in ACTING:
                continue
            mirror = self.mirrors.by_table.get(link.child.lower())
            if mirror is not None:
                self._mirrored(link, parent, condition, mirror)
            else:
                self._foreign(link, parent, condition)

    def links(self, name: str) -> Sequence[Link]:
        """Return the foreign keys that refer to a table."""
        if name not in self._known:
            self._known[name] = self.mirrors.links.to(self.connection, name)
        return self._known[name]

    def _mirrored(
        self, link: Link, parent: Any, condition: ColumnElement[bool], mirror: Mirror
    ) -> None:
        shape, child = next(
            (shape, one)
            for shape in mirror.shapes
            for one in shape.tables
            if one.name == link.child
        )
        columns = key_columns(mirror, shape, child)
        for row in referring(self.connection, link, parent, condition, columns):
            key = tuple(row)
            if (link.child, key) not in self._seen:
                self._seen.add((link.child, key))
                self.found[mirror.collection, mirror.id_of(key)] = None
                self.below(child, key_condition(columns, key))

    def _foreign(self, link: Link, parent: Any, condition: ColumnElement[bool]) -> None:
        """Pass through a table that is not mirrored, by what others refer to in it."""
        further = {name for other in self.links(link.child) for name in other.referred}
        if not further:
            return
        names = sorted({*further, *link.columns})
        child = table(link.child, *map(column, names))
        columns = [child.c[name] for name in names]
        for row in referring(self.connection, link, parent, condition, columns):
            key = tuple(row)
            if (link.child, key) not in self._seen:
                self._seen.add((link.child, key))
                self.below(child, key_condition(columns, key))


def reaches(connection: Connection, mirrors: Mirrors, table: str, statement: str) -> bool:
    """Whether the database would change mirrored rows by itself when a statement has run.

    Args:
        connection: that it is to run on.
        mirrors: the mirrored tables.
        table: that it writes, in lower case, and that is not mirrored.
        statement: its SQL.
    """
    deletes, updates = _effects_of(statement)
    if not (deletes or updates) or not enforced(connection):
        return False
    sets = " ".join(found[1] for found in _SETS.finditer(statement)).lower()
    seen: set[str] = set()
    waiting = [table]
    while waiting:
        for link in mirrors.links.to(connection, waiting.pop()):
            changes = updates and (
                bool(seen) or any(name.lower() in sets for name in link.referred)
            )
            acts = (deletes and link.on_delete in ACTING) or (changes and link.on_update in ACTING)
            child = link.child.lower()
            if acts and child in mirrors.tables:
                return True
            if acts and child not in seen:
                seen.add(child)
                waiting.append(child)
    return False


def _effects_of(statement: str) -> tuple[bool, bool]:
    """Whether a statement may delete rows, and whether it may update some."""
    found = _VERB.match(statement)
    verb = found[1].lower() if found else ""
    replaces = verb == "replace" or (found is not None and found[2] is not None)
    if verb == "insert":
        return replaces, _UPSERTS.search(statement) is not None
    if verb == "update":
        return replaces, True
    if verb in {"delete", "replace"}:
        return True, False
    # Behind a WITH, or after a comment, it may be any of them.
    return True, True
