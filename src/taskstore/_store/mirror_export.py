"""Writes the rows of a mirrored table that its log does not have."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from taskstore._cache.rows import Rows
from taskstore._mirror.reading import ids_in
from taskstore._mirror.shape import Mirror
from taskstore._store.context import StoreContext
from taskstore._store.mirror_guard import vouches
from taskstore._store.mirror_rows import Reconciler
from taskstore._store.transaction import Unit


def export_rows(context: StoreContext, connection: Connection, unit: Unit, mirror: Mirror) -> int:
    """Collect the rows for the log, in an open write transaction; return how many lines."""
    has_log = vouches(context, connection, mirror)
    unit.missing[mirror.collection] = 0
    run = Reconciler(context, connection, unit, rewriting=not has_log)
    count = 0
    for page in ids_in(connection, mirror):
        cursor = connection.connection.cursor()
        rows = Rows(cursor, context.models)
        stored, kept = rows.stored(mirror.collection, page), rows.never_logged(mirror.collection)
        cursor.close()
        some = [id for id in page if id not in stored or id in kept or not has_log]
        count += run.run((mirror.collection, id) for id in some)
    return count
