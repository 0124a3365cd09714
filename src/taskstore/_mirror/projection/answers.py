"""Writes rows as lines have them in a database whose triggers answer.

A trigger of the application fires for what a sync writes, too, though the lines that came already
say what it did where they were written. So rows that differ from their lines afterwards are written
once more, but only what differs: an `UPDATE OF` trigger fires for each column that is named, even
if it stays the same. Rows that no log knows, and rows on which a trigger insists, are logged as
they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from sqlalchemy import text
from sqlalchemy.engine import Connection

from taskstore._cache.capture.notes import Notes
from taskstore._cache.capture.triggers import RawKey
from taskstore._cache.engine.bridge import closing, driver_cursor
from taskstore._cache.rows.keys import KeyRows
from taskstore._cache.rows.rows import Rows
from taskstore._mirror.model.registry import registry
from taskstore._mirror.projection.projecting import Projector
from taskstore._mirror.projection.wanted import Key, WantedRow
from taskstore._mirror.projection.wanted_rows import wanted_row, what_differs
from taskstore._mirror.tables.reading import read_rows
from taskstore._mirror.tables.stored_rows import StoredRows
from taskstore._store.context import StoreContext
from taskstore._unit.unit import Unit, unnoticed

_ROUNDS = 3


def project(
    context: StoreContext,
    connection: Connection,
    unit: Unit,
    rows: Rows,
    targets: Sequence[WantedRow],
) -> dict[Key, str]:
    """Write the wanted rows; return why the others were refused.

    Args:
        context: The store.
        connection: In the sync's write transaction.
        unit: Of that transaction.
        rows: On that connection.
        targets: What rows are to become.
    """
    notes, links = unit.notes, registry(context).links
    if notes is None or not _has_triggers(connection):
        with closing(driver_cursor(connection)) as cursor, unnoticed(unit, cursor):
            return Projector(connection, links).run(targets)
    with closing(driver_cursor(connection)) as cursor:
        since = notes.last(cursor)
        refused = Projector(connection, links).run(targets)
        pairs = KeyRows(cursor, context.models)
        answers = _Answers(connection, rows, notes, cursor, since, refused, pairs)
        for _ in range(_ROUNDS):
            again = [what_differs(target) for _, target in answers.differing()]
            if not again:
                break
            refused |= Projector(connection, links).run(again)
        kept = answers.kept()
        notes.clear(cursor, since)
        for table, raws in kept.items():
            notes.put(cursor, table, raws)
    return refused


def _has_triggers(connection: Connection) -> bool:
    statement = text("SELECT 1 FROM sqlite_master WHERE type = 'trigger' LIMIT 1")
    return connection.execute(statement).first() is not None


@attrs.define
class _Answers:
    """The changes that triggers have made to mirrored rows."""

    connection: Connection
    rows: Rows
    notes: Notes
    cursor: Any
    since: int
    refused: dict[Key, str]
    keys: KeyRows

    def differing(self) -> Iterator[tuple[RawKey, WantedRow]]:
        """Yield what the touched rows that differ from their lines should be."""
        for table, known in self._touched():
            mirror = table.mirror
            ids = list(known)
            stored = self.rows.stored(mirror.collection, ids)
            current = read_rows(self.connection, mirror, ids, lenient=True)
            for id in ids:
                if id not in stored:
                    continue
                try:
                    target = wanted_row(
                        mirror,
                        id,
                        stored[id],
                        current.get(id),
                        is_given_up=False,
                        is_strange=False,
                    )
                except ValueError:
                    continue
                if target is not None:
                    yield known[id], target

    def kept(self) -> dict[StoredRows, list[RawKey]]:
        """The keys of rows that the log is to take as they are."""
        found: dict[StoredRows, list[RawKey]] = {}
        insisted = {(target.mirror.collection, raw) for raw, target in self.differing()}
        for table, known in self._touched():
            collection = table.mirror.collection
            stored = self.rows.stored(collection, list(known))
            found[table] = [
                raw
                for id, raw in known.items()
                if id not in stored or (collection, raw) in insisted
            ]
        for table, raws in self._unnamed():
            found.setdefault(table, []).extend(raws)
        return found

    def _touched(self) -> Iterator[tuple[StoredRows, dict[str, RawKey]]]:
        """The rows that were touched, without those that could not be written."""
        for table, touched in self.notes.touched(self.cursor, self.since).items():
            problems = self.rows.problems(table.mirror.collection).keys()
            ids = table.ids_of(self.keys, touched.keys)
            known = {
                id: raw
                for raw, id in ids.items()
                if id not in problems and (table.mirror.collection, id) not in self.refused
            }
            yield table, known

    def _unnamed(self) -> Iterator[tuple[StoredRows, list[RawKey]]]:
        """The rows of counted tables that no clone has an id for yet."""
        for table, touched in self.notes.touched(self.cursor, self.since).items():
            if table.mirror.is_translated:
                parts = table.translated(self.keys, touched.keys)
                yield table, [raw for raw, some in parts.items() if None in some]
