"""The mirrors of one store, found by class, table, collection and statement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs
from sqlalchemy import Table
from sqlalchemy.exc import NoReferencedColumnError, NoReferencedTableError
from sqlalchemy.orm import Mapper

from taskstore._mirror.digest import digest_of
from taskstore._mirror.links import Links

if TYPE_CHECKING:
    from taskstore._mirror.shape import Mirror, Shape

__all__ = ["Mirrors"]


@attrs.define(eq=False)
class Mirrors:
    """The mirrored models of one store; none for most stores.

    Attributes:
        found: all of them.
        links: the foreign keys of their database.
        by_collection: them by collection.
        digests: what each collection's model looks like.
        by_table: them by the lower-case name of each table.
        tables: those names.
        parents: tables that are not mirrored, and whose rows mirrored ones refer to.
        parent_names: their names in lower case.
    """

    found: tuple[Mirror, ...] = ()
    links: Links = attrs.field(factory=Links)
    by_collection: dict[str, Mirror] = attrs.field(init=False)
    digests: dict[str, str] = attrs.field(init=False)
    by_table: dict[str, Mirror] = attrs.field(init=False)
    tables: frozenset[str] = attrs.field(init=False)
    parents: frozenset[Any] = attrs.field(init=False)
    parent_names: frozenset[str] = attrs.field(init=False)
    _shapes: dict[Mapper[Any], tuple[Mirror, Shape]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.by_collection = {mirror.collection: mirror for mirror in self.found}
        self.digests = {mirror.collection: digest_of(mirror) for mirror in self.found}
        self.by_table = {
            table.name.lower(): mirror
            for mirror in self.found
            for shape in mirror.shapes
            for table in shape.tables
        }
        self.tables = frozenset(self.by_table)
        self.parents = _parents_of(
            {table for mirror in self.found for shape in mirror.shapes for table in shape.tables}
        )
        self.parent_names = frozenset(table.name.lower() for table in self.parents)
        self._shapes = {
            shape.mapper: (mirror, shape)
            for mirror in self.found
            for shape in mirror.shapes
            if shape.mapper is not None
        }

    def __bool__(self) -> bool:
        return bool(self.found)

    def __iter__(self) -> Iterator[Mirror]:
        return iter(self.found)

    def of(self, mapper: Mapper[Any]) -> tuple[Mirror, Shape] | None:
        """Return the mirror of a mapper, and the shape of its rows."""
        return self._shapes.get(mapper)

    def named(self, target: Any) -> Mirror | None:
        """Return the mirror of a class, a subclass of one, or a table; None where there is none."""
        for mirror in self.found:
            if mirror.target is target or (
                isinstance(target, type)
                and isinstance(mirror.target, type)
                and issubclass(target, mirror.target)
            ):
                return mirror
        return None

    def association(self, table: Any) -> Mirror | None:
        """Return the mirror of an association table."""
        if not isinstance(table, Table):
            return None
        found = self.by_table.get(table.name.lower())
        return found if found is not None and found.is_association else None

    def sends(self, compiled_cache: Any) -> bool:
        """Whether a statement is sent by the unit of work for a mirrored class."""
        return compiled_cache is not None and any(
            compiled_cache is mapper.base_mapper._compiled_cache for mapper in self._shapes
        )


def _parents_of(tables: set[Table]) -> frozenset[Table]:
    """The tables that some tables refer to, directly or through others."""
    found: set[Table] = set()
    waiting = set(tables)
    while waiting:
        table = waiting.pop()
        for key in table.foreign_keys:
            try:
                parent = key.column.table
            except (NoReferencedTableError, NoReferencedColumnError):
                continue
            if parent not in found and parent not in tables:
                found.add(parent)
                waiting.add(parent)
    return frozenset(found)
