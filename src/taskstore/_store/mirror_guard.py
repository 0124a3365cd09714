"""Whether a log is the one of the rows beside it.

A row is deleted only by a tombstone, or where the log held it and an existing log no longer does.
A log that is missing, empty, or has nothing of what it held says nothing of the rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from taskstore._cache.bridge import away
from taskstore._cache.rows import Rows
from taskstore._format.lines import LineError, decode_envelope
from taskstore._log import files
from taskstore._mirror.reading import any_row
from taskstore._mirror.shape import Mirror
from taskstore._store.access import access
from taskstore._store.context import StoreContext
from taskstore._store.freshness import looks_fresh, stat_log
from taskstore._store.transaction import Unit
from taskstore.errors import MissingLogError

_BUFFER = 1024 * 1024
_AT_ONCE = 200


def count_rows(connection: Connection, mirror: Mirror) -> int:
    """How many rows a mirrored table has."""
    return connection.execute(select(func.count()).select_from(mirror.table)).scalar_one()


def missing_error(context: StoreContext, mirror: Mirror, rows: int) -> MissingLogError:
    """The error that says what to do about a missing log."""
    return MissingLogError(
        collection=mirror.collection,
        path=context.layout.log_path(mirror.collection),
        rows=rows,
        model=mirror.name,
    )


def look_once(
    context: StoreContext, connection: Connection, unit: Unit, mirrors: Iterable[Mirror]
) -> None:
    """Before a transaction first writes: note which logs are not those of the rows beside them."""
    for mirror in mirrors:
        if mirror.collection not in unit.missing:
            is_there = vouches(context, connection, mirror)
            unit.missing[mirror.collection] = 0 if is_there else count_rows(connection, mirror)


def check_there(context: StoreContext, unit: Unit, mirror: Mirror) -> None:
    """Refuse to write to a log that is not that of the rows beside it.

    Raises:
        MissingLogError: it is missing, empty, or another one.
    """
    rows = unit.missing.get(mirror.collection, 0)
    if rows:
        raise missing_error(context, mirror, rows)


def vouches(context: StoreContext, connection: Connection, mirror: Mirror) -> bool:
    """Whether the log of a mirrored table can be taken for the one of its rows."""
    if away(connection, lambda driver: _is_fresh(context, driver, mirror.collection)):
        return True
    if not any_row(connection, mirror):
        return True
    return away(connection, lambda driver: _has_any(context, driver, mirror.collection))


def _is_fresh(context: StoreContext, driver: Any, collection: str) -> bool:
    """Whether a log has something, and looks as it did when it was read."""
    found = stat_log(context, collection)
    if found is None or not found.st_size:
        return False
    with closing(driver.cursor()) as cursor:
        return looks_fresh(Rows(cursor, context.models).fingerprint(collection), found)


def _has_any(context: StoreContext, driver: Any, collection: str) -> bool:
    """Whether a log has a line of any record that it held; any record, if it held none."""
    with closing(driver.cursor()) as cursor:
        return _has_any_of(context, Rows(cursor, context.models), collection)


def _has_any_of(context: StoreContext, rows: Rows, collection: str) -> bool:
    held = rows.counts(collection)[0] > 0
    path = context.layout.log_path(collection)
    with access(path):
        try:
            fd = files.open_log(path)
        except FileNotFoundError:
            return False
        with os.fdopen(fd, "rb", buffering=_BUFFER) as lines:
            ids: list[str] = []
            for line in lines:
                try:
                    ids.append(decode_envelope(line).id)
                except LineError:
                    continue
                if not held:
                    return True
                if len(ids) == _AT_ONCE:
                    if _any_live(rows, collection, ids):
                        return True
                    ids.clear()
    return _any_live(rows, collection, ids)


def _any_live(rows: Rows, collection: str, ids: list[str]) -> bool:
    return any(not stored.deleted for stored in rows.stored(collection, ids).values())
