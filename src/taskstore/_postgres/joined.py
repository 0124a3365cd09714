"""Puts together records whose rows are in several tables, as with joined inheritance.

A transaction that changes one of the tables has only that row in the outbox. The rest of the record
is in its last line. Where that does not help, because the rows were never logged, it is read from
the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

import attrs
from sqlalchemy import Table
from sqlalchemy.engine import Connection

from taskstore._cache.rows.records import Stored
from taskstore._mirror.model.shape import Mirror, Row, Shape
from taskstore._postgres.outbox import Change, Part, rows_now, shape_of, version_in

Parts = Mapping[Table, Part]


@attrs.define
class Joiner:
    """Puts together the changes of one mirrored model in one batch.

    Attributes:
        connection: In the transaction of the batch.
        mirror: The model.
        stored: The last line of each record that changes.
        doubtful: The records of which no line could carry an earlier change, or whose tables have
            got other columns since, so that their lines do not tell what the tables have.
    """

    connection: Connection
    mirror: Mirror
    stored: Mapping[str, Stored]
    doubtful: Set[str]
    _rows: dict[str, Row | None] = attrs.field(factory=dict)
    _there: dict[str, Row] = attrs.field(factory=dict)
    _lacking: set[str] = attrs.field(factory=set)

    def joined(self, changes: Iterable[Change]) -> list[Change]:
        """Return one change of a whole record for each record and transaction, oldest first."""
        groups = _grouped(changes)
        self._look(self.doubtful)
        found = self._all(groups)
        if self._lacking:
            self._look(self._lacking)
            self._rows.clear()
            found = self._all(groups)
        return found

    def _look(self, ids: Iterable[str]) -> None:
        self._there |= rows_now(self.connection, self.mirror, ids)

    def _all(self, groups: Iterable[list[Change]]) -> list[Change]:
        return [self._whole(group) for group in groups]

    def _whole(self, group: list[Change]) -> Change:
        last = group[-1]
        parts = {one.part.table: one.part for one in group if one.part is not None}
        if not parts:
            # It could not be read.
            return last
        try:
            row = self._row(last.id, parts)
        except ValueError as error:
            return attrs.evolve(last, part=None, problem=str(error))
        self._rows[last.id] = row
        return attrs.evolve(last, part=None, row=row)

    def _row(self, id: str, parts: Parts) -> Row | None:
        """Return a record after a transaction; None if it has not all its rows.

        Raises:
            ValueError: It cannot be read.
        """
        there = self._there.get(id)
        if id in self.doubtful or (there is not None and there.flaw):
            if there is not None and there.flaw:
                raise ValueError(there.flaw)
            return there
        base = parts.get(self.mirror.table)
        if base is not None and base.values is None:
            return None
        before = self._before(id) or there
        if base is not None and base.values is not None:
            shape = shape_of(self.mirror, base.values)
            version = version_in(self.mirror, base.values)
        elif before is not None:
            shape, version = before.shape, before.version
        else:
            self._lacking.add(id)
            return None
        values: dict[str, object] = {}
        for table in shape.tables:
            some = self._values(id, shape, table, parts, [before, there])
            if some is None:
                return None
            values |= some
        number = next((one.number for one in parts.values()), None)
        return Row(id, shape, values, version, number)

    def _values(
        self, id: str, shape: Shape, table: Table, parts: Parts, known: Iterable[Row | None]
    ) -> dict[str, object] | None:
        """Return the values that a record has from one of its tables; None if it has no row."""
        columns = shape.columns_in(table)
        part = parts.get(table)
        if part is not None:
            if part.values is None:
                return None
            return {field.name: part.values[column.name] for column, field in columns}
        for row in known:
            if row is not None and table in row.shape.tables:
                names = [field.name for _, field in columns if field.name in row.values]
                return {name: row.values[name] for name in names}
        self._lacking.add(id)
        return None

    def _before(self, id: str) -> Row | None:
        """Return a record before a transaction, as far as lines tell."""
        if id in self._rows:
            return self._rows[id]
        stored = self.stored.get(id)
        if stored is None or stored.line is None:
            return None
        try:
            return self.mirror.decoded(id, stored.line)
        except ValueError:
            # The line does not fit the model, so the row is as it was before.
            return None


def _grouped(changes: Iterable[Change]) -> list[list[Change]]:
    """Return the changes of each record and transaction, in the order of their last ones."""
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in sorted(changes, key=lambda one: one.seq):
        key = (change.transaction, change.id) if change.part is not None else ("", str(change.seq))
        groups.setdefault(key, []).append(change)
    return sorted(groups.values(), key=lambda group: group[-1].seq)
