"""Writes the rows of a mirrored table that its log does not have."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection

from taskstore._cache.capture.triggers import RawKey, Touched
from taskstore._cache.engine.bridge import away, closing
from taskstore._cache.rows.keys import KeyRows
from taskstore._cache.rows.rows import Rows
from taskstore._cache.schema.names import MIGRATED, WRITTEN
from taskstore._mirror.capture.missing_logs import has_own_log
from taskstore._mirror.capture.numbers import Numbering, adopt, name_references
from taskstore._mirror.capture.rows import Reconciler
from taskstore._mirror.model.registry import registry
from taskstore._mirror.model.shape import Mirror, Row
from taskstore._mirror.projection.wanted_rows import REMOVED
from taskstore._mirror.tables.reading import ids_in, read_rows
from taskstore._mirror.tables.stored_rows import StoredRows
from taskstore._store.context import StoreContext
from taskstore._text import visible
from taskstore._unit.unit import Unit
from taskstore.errors import RecordSkippedWarning


def written_mirrors(context: StoreContext) -> list[Mirror]:
    """Return the mirrored models whose rows migrations have written, and nothing has logged."""
    with (
        context.engine.connect() as connection,
        closing(connection.connection.cursor()) as cursor,
    ):
        states = Rows(cursor, context.models).mirror_states()
    return [mirror for mirror in registry(context) if states.get(mirror.collection) in WRITTEN]


def export_rows(
    context: StoreContext, connection: Connection, unit: Unit, mirror: Mirror, *, refused: bool
) -> int:
    """Collect the rows for the log, in an open write transaction; return how many lines.

    Args:
        context: The store.
        connection: In the transaction.
        unit: Of the transaction.
        mirror: Whose rows.
        refused: Whether also those whose lines a sync could not bring into the table.
    """
    has_log = has_own_log(context, connection, mirror)
    unit.missing[mirror.collection] = 0
    table = StoredRows(mirror, connection.dialect)
    count = 0
    flaws: list[str] = []
    adopt(context, connection, mirror)
    state = _state(context, connection, mirror)
    for page in ids_in(connection, mirror, flaws):
        cursor = connection.connection.cursor()
        rows = Rows(cursor, context.models)
        stored, kept = rows.stored(mirror.collection, page), rows.never_logged(mirror.collection)
        if refused:
            kept |= rows.problems(mirror.collection).keys()
        if state in WRITTEN:
            # Rows that a migration has inserted for records that were deleted before.
            dead = {id for id, known in stored.items() if known.line is known.revision is None}
            kept |= dead - rows.problems(mirror.collection).keys()
        some = [id for id in page if id not in stored or id in kept or not has_log]
        good = _good(context, connection, mirror, some, flaws)
        pairs = KeyRows(cursor, context.models)
        keys = {table.stored_key(pairs, id): None for id in good}
        cursor.close()
        write = partial(_written, context, unit, table, keys, rewriting=not has_log)
        count += away(connection, write)
    if state == MIGRATED:
        count += _removed(context, connection, unit, table)
    if state in WRITTEN:
        with closing(connection.connection.cursor()) as cursor:
            digest = registry(context).digests[mirror.collection]
            Rows(cursor, context.models).set_mirror_state(mirror.collection, digest)
    for flaw in flaws:
        message = visible(f"left out of the export: {flaw}")
        warnings.warn(message, RecordSkippedWarning, stacklevel=5)
    return count


def _state(context: StoreContext, connection: Connection, mirror: Mirror) -> str | None:
    with closing(connection.connection.cursor()) as cursor:
        return Rows(cursor, context.models).mirror_states().get(mirror.collection)


def _removed(context: StoreContext, connection: Connection, unit: Unit, table: StoredRows) -> int:
    """Collect tombstones for the rows that migrations have deleted."""
    cursor = connection.connection.cursor()
    pairs = KeyRows(cursor, context.models)
    reasons = Rows(cursor, context.models).problems(table.mirror.collection)
    gone = [id for id, reason in reasons.items() if reason == REMOVED]
    keys = {table.stored_key(pairs, id): None for id in gone}
    cursor.close()
    write = partial(_written, context, unit, table, keys, rewriting=False)
    return away(connection, write) if keys else 0


def _written(
    context: StoreContext,
    unit: Unit,
    table: StoredRows,
    keys: dict[RawKey, None],
    driver: Any,
    *,
    rewriting: bool,
) -> int:
    with closing(driver.cursor()) as cursor:
        touched = Touched(keys)
        named = Numbering(context, cursor).settle({table: touched})
        run = Reconciler(context, cursor, unit, named, rewriting=rewriting)
        return run.run(table, touched)


def _good(
    context: StoreContext,
    connection: Connection,
    mirror: Mirror,
    ids: list[str],
    flaws: list[str],
) -> list[str]:
    """The ids of the rows that a line can carry."""
    rows = read_rows(connection, mirror, ids, lenient=True)
    name_references(context, connection, rows.values())
    good = []
    for id in ids:
        flaw = _flaw(rows[id]) if id in rows else "its key reads back as one that finds no row"
        if flaw:
            flaws.append(f"{mirror.collection}/{id}: {flaw}")
        else:
            good.append(id)
    return good


def _flaw(row: Row) -> str:
    if row.flaw:
        return row.flaw
    try:
        row.encoded()
    except ValueError as error:
        return str(error)
    return ""
