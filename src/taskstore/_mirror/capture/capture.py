"""Collects at commit what mirrored rows have become."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy.engine import Engine

from taskstore._cache.capture.notes import Notes
from taskstore._cache.capture.triggers import RawKey, Touched
from taskstore._cache.rows.keys import KeyRows
from taskstore._cache.rows.rows import Rows
from taskstore._mirror.capture.claims import tell_instances
from taskstore._mirror.capture.flush import MirrorFlush
from taskstore._mirror.capture.numbers import Numbering
from taskstore._mirror.capture.rows import Reconciler, Stamped
from taskstore._mirror.model.registry import registry
from taskstore._mirror.tables.stored_rows import StoredRows, tracked_tables
from taskstore._store.context import StoreContext
from taskstore._unit.record_capture import lock
from taskstore._unit.unit import Unit
from taskstore.errors import InvalidDeclarationError, UntrackedWriteError

_ROUNDS = 10


class MirrorCapture:
    """The mirrored rows that are captured on one engine.

    Args:
        context: The store.
        engine: The engine.

    Attributes:
        flush: Stamps rows before a flush writes them.
        tables: The tables to be noted.
        owners: For each of them, whose rows it has.
    """

    def __init__(self, context: StoreContext, engine: Engine) -> None:
        self._context = context
        tables = {
            mirror.collection: StoredRows(mirror, engine.dialect) for mirror in registry(context)
        }
        found = [
            (tracked, table)
            for table in tables.values()
            for tracked in tracked_tables(table.mirror)
        ]
        self.flush = MirrorFlush(context, tables)
        self.tables = [tracked for tracked, _ in found]
        self.owners = [table for _, table in found]

    def tell(self, unit: Unit, stamped: Iterable[Stamped]) -> None:
        """Let the instances in the sessions of a transaction know their stamps."""
        for session in list(unit.sessions):
            tell_instances(session, stamped)

    def collected(
        self, unit: Unit, notes: Notes, cursor: Any, *, is_current: bool
    ) -> list[Stamped]:
        """Collect what the rows that were touched have become; return those that were stamped."""
        touched = notes.touched(cursor)
        lost = frozenset() if is_current else notes.lost(cursor)
        made = [] if is_current else self._made(notes, cursor)
        if not lost and not touched and not made:
            return []
        lock(self._context, unit, cursor)
        telling = any(session.identity_map for session in unit.sessions)
        run = Reconciler(self._context, cursor, unit, telling=telling)
        tables = {table.mirror.collection: table for table in self.owners}
        numbering = Numbering(self._context, cursor, tables)
        for table in {self.owners[place] for place in lost}:
            if table.is_there(cursor):
                self._add_all(cursor, table, touched)
            else:
                # A table that is dropped keeps its records.
                touched.pop(table, None)
        for table, keys in made:
            touched[table] = Touched(dict.fromkeys(keys))
            # Of what the log has beside them, the next sync makes rows.
            Rows(cursor, self._context.models).set_mirror_state(table.mirror.collection, "")
        for _ in range(_ROUNDS):
            notes.clear(cursor)
            run.stamps.clear()
            run.named = numbering.settle(touched)
            for table, some in touched.items():
                run.run(table, some)
            if not run.stamps:
                return run.stamped
            # A trigger of the application may have answered a stamp.
            touched = notes.touched(cursor)
            if _are_stamps(touched, run.stamps, notes, cursor):
                notes.clear(cursor)
                return run.stamped
        raise UntrackedWriteError(
            statement=f"a stamp of rows of {next(iter(touched)).mirror.name}, which a trigger "
            "resets each time",
            remedy="let the trigger leave the version alone, or keep the version in the log "
            "with mirrored(..., updated_at=None)",
        )

    def _made(self, notes: Notes, cursor: Any) -> list[tuple[StoredRows, list[RawKey]]]:
        """The tables that this transaction created and that have rows, with the keys of these."""
        unfollowed = notes.unfollowed(cursor)
        followed = {owner for place, owner in enumerate(self.owners) if place not in unfollowed}
        made = [table for table in dict.fromkeys(self.owners) if table not in followed]
        found: list[tuple[StoredRows, list[RawKey]]] = []
        for table in made:
            # A table that is behind its model is no concern of this transaction.
            with suppress(InvalidDeclarationError):
                if table.is_there(cursor) and (keys := table.keys(cursor)):
                    found.append((table, keys))
        return found

    def _add_all(self, cursor: Any, table: StoredRows, touched: dict[StoredRows, Touched]) -> None:
        """Make all rows of a table be read that was rebuilt in this transaction."""
        rows = Rows(cursor, self._context.models)
        collection = table.mirror.collection
        left_out = rows.problems(collection).keys()
        if not rows.has_records(collection):
            return
        keys = KeyRows(cursor, self._context.models)
        raws = [*table.keys(cursor), *_stored_keys(table, keys, rows)]
        some = touched.setdefault(table, Touched())
        for raw, parts in table.translated(keys, raws).items():
            with suppress(ValueError):
                if None in parts or table.id_of(parts) not in left_out:
                    some.keys.setdefault(raw)
        some.existed = True


def _are_stamps(
    touched: Mapping[StoredRows, Touched],
    stamps: Mapping[StoredRows, set[RawKey]],
    notes: Notes,
    cursor: Any,
) -> bool:
    """Return whether nothing was touched but rows that were stamped, and each of them once."""
    if {table: some.keys.keys() for table, some in touched.items()} != stamps:
        return False
    return notes.count(cursor) == sum(map(len, stamps.values()))


def _stored_keys(table: StoredRows, keys: KeyRows, rows: Rows) -> Iterator[tuple[Any, ...]]:
    for id, stored in rows.in_order(table.mirror.collection):
        if stored.line is not None:
            with suppress(ValueError):
                yield table.stored_key(keys, id)
