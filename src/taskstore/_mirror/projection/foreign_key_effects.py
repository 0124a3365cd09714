"""Predict what foreign keys do to other rows when a row is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from sqlalchemy import Table, column
from sqlalchemy.engine import Connection

from taskstore._mirror.model.links import ACTING, Link, Links, referring
from taskstore._mirror.model.shape import Field, Row
from taskstore._mirror.projection.wanted import WantedRow
from taskstore._mirror.tables.writing import condition_of


@attrs.frozen
class Effects:
    """Tells what a database would change by itself.

    Attributes:
        connection: In the transaction that is meant.
        links: The foreign keys of its database.
        enforced: Whether it enforces them.
    """

    connection: Connection
    links: Links
    enforced: bool
    _following: dict[str, list[Link]] = attrs.field(factory=dict)

    def why_not_deleted(self, target: WantedRow, deleting: Sequence[WantedRow]) -> str | None:
        """Say which rows a deletion would change behind everybody's back."""
        assert target.current is not None
        if not self.enforced:
            return None
        shape = target.current.shape
        own = {table.name for table in shape.tables}
        for table in shape.tables:
            for link in self.links.to(self.connection, table.name):
                inherits = link.child in own and link.child != table.name
                if link.on_delete not in ACTING or inherits:
                    continue
                condition = condition_of(target.mirror, shape, table, target.current)
                if self._is_referred(link, table, condition, deleting):
                    return (
                        f"rows of {link.child!r} refer to it, and the database would change them "
                        f"(ON DELETE {link.on_delete}): delete or change those rows first"
                    )
        return None

    def why_not_moved(self, target: WantedRow) -> str | None:
        """Say which rows an update would change behind everybody's back."""
        for table, link in self.moved(target):
            assert target.current is not None
            condition = condition_of(target.mirror, target.current.shape, table, target.current)
            if self._is_referred(link, table, condition, [target]):
                return (
                    f"rows of {link.child!r} refer to its {', '.join(link.referred)}, and the "
                    f"database would change them (ON UPDATE {link.on_update}): change those rows "
                    "first"
                )
        return None

    def moved(self, target: WantedRow) -> list[tuple[Table, Link]]:
        """The foreign keys by which the database changes other rows after an update."""
        if target.row is None or target.current is None or target.deletes or not self.enforced:
            return []
        acting = [
            (table, link)
            for table in target.current.shape.tables
            for link in self._followers(table.name)
        ]
        if not acting:
            return []
        changed = _changed(target.row, target.current)
        return [
            (table, link)
            for table, link in acting
            if any((table.name, name.lower()) in changed for name in link.referred)
        ]

    def _followers(self, table: str) -> list[Link]:
        """The foreign keys by which the database follows updates; asked for each row."""
        if table not in self._following:
            links = self.links.to(self.connection, table)
            self._following[table] = [link for link in links if link.on_update in ACTING]
        return self._following[table]

    def _is_referred(
        self, link: Link, table: Any, condition: Any, deleting: Sequence[WantedRow]
    ) -> bool:
        """Return whether other rows, which stay, refer to a row by a foreign key."""
        going = [target for target in deleting if target.mirror.table.name == link.child]
        if not going:
            return bool(referring(self.connection, link, table, condition))
        mirror = going[0].mirror
        fields = mirror.key_fields
        columns = [column(field.column.name, field.typed(field.column).type) for field in fields]
        found = referring(self.connection, link, table, condition, columns)
        return not {mirror.id_of(row) for row in found} <= {target.id for target in going}


def _changed(row: Row, current: Row) -> set[tuple[str, str]]:
    """The columns that an update changes: table and name, in lower case."""
    found = set()
    for name, value in row.values.items():
        field = row.shape.fields[name]
        if name not in current.values or not _same(field, value, current.values[name]):
            found |= {(column.table.name, column.name.lower()) for column in field.columns}
    return found


def _same(field: Field, value: Any, other: Any) -> bool:
    try:
        return field.codec.same(value, other)
    except ValueError:
        return False
