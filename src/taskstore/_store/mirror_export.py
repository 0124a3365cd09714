"""Writes the rows of a mirrored table that its log does not have."""

from __future__ import annotations

import warnings

from sqlalchemy.engine import Connection

from taskstore._cache.rows import Rows
from taskstore._mirror.reading import ids_in, read_rows
from taskstore._mirror.shape import Mirror, Row
from taskstore._store.context import StoreContext
from taskstore._store.mirror_guard import vouches
from taskstore._store.mirror_rows import Reconciler
from taskstore._store.transaction import Unit
from taskstore.errors import RecordSkippedWarning


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
    has_log = vouches(context, connection, mirror)
    unit.missing[mirror.collection] = 0
    run = Reconciler(context, connection, unit, rewriting=not has_log)
    count = 0
    flaws: list[str] = []
    for page in ids_in(connection, mirror, flaws):
        cursor = connection.connection.cursor()
        rows = Rows(cursor, context.models)
        stored, kept = rows.stored(mirror.collection, page), rows.never_logged(mirror.collection)
        if refused:
            kept |= rows.problems(mirror.collection).keys()
        cursor.close()
        some = [id for id in page if id not in stored or id in kept or not has_log]
        good = _good(connection, mirror, some, flaws)
        count += run.run((mirror.collection, id) for id in good)
    for flaw in flaws:
        warnings.warn(f"left out of the export: {flaw}", RecordSkippedWarning, stacklevel=5)
    return count


def _good(connection: Connection, mirror: Mirror, ids: list[str], flaws: list[str]) -> list[str]:
    """The ids of the rows that a line can carry."""
    rows = read_rows(connection, mirror, ids, lenient=True)
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
