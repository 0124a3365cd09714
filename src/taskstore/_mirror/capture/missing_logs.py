"""Whether a log is the one of the rows beside it.

A row is deleted only by a tombstone, or where the log held it and an existing log no longer does.
A log that is missing, empty, or has no line of what it held says nothing of the rows.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from taskstore._cache.capture.triggers import RawKey
from taskstore._cache.engine.bridge import away, closing
from taskstore._cache.rows.rows import Rows
from taskstore._format.lines import LineError, decode_envelope
from taskstore._log import files
from taskstore._log.files import access
from taskstore._log.lines import read_lines
from taskstore._mirror.model.shape import Mirror
from taskstore._mirror.tables.reading import any_row
from taskstore._mirror.tables.stored_rows import StoredRows
from taskstore._store.context import StoreContext
from taskstore._sync.freshness import looks_fresh
from taskstore._unit.unit import Unit
from taskstore.errors import MissingLogError

_AT_ONCE = 200


def count_rows(connection: Connection, mirror: Mirror) -> int:
    """Return how many rows a mirrored table has."""
    return connection.execute(select(func.count()).select_from(mirror.table)).scalar_one()


def missing_error(context: StoreContext, mirror: Mirror, rows: int) -> MissingLogError:
    """The error that says what to do about a missing log."""
    return MissingLogError(
        collection=mirror.collection,
        path=context.layout.log_path(mirror.collection),
        rows=rows,
        model=mirror.name,
    )


def check_there(
    context: StoreContext,
    cursor: Any,
    unit: Unit,
    table: StoredRows,
    keys: Collection[RawKey],
    *,
    existed: bool,
) -> None:
    """Refuse to write to a log that is not that of the rows beside it.

    Args:
        context: The store.
        cursor: Of the driver, in the transaction that has changed the rows.
        unit: Of that transaction.
        table: The mirrored table.
        keys: Of the rows that were touched.
        existed: Whether any of them was there before.

    Raises:
        MissingLogError: It is missing, empty, or another one.
    """
    collection = table.mirror.collection
    if collection not in unit.missing:
        unit.missing[collection] = _unlogged(context, cursor, table, keys, existed=existed)
    rows = unit.missing[collection]
    if rows:
        raise missing_error(context, table.mirror, rows)


def _unlogged(
    context: StoreContext,
    cursor: Any,
    table: StoredRows,
    keys: Collection[RawKey],
    *,
    existed: bool,
) -> int:
    """Return how many rows a table has if its log is not theirs."""
    driver, collection = cursor.connection, table.mirror.collection
    if _is_fresh(context, driver, collection):
        return 0
    count = table.count(cursor)
    if not existed and count <= len(keys):
        # Only rows that this transaction has added need no log.
        existed = count != len(keys) and count > sum(table.has(cursor, key) for key in keys)
    elif not existed:
        existed = True
    return max(count, 1) if existed and not _has_any(context, driver, collection) else 0


def has_own_log(context: StoreContext, connection: Connection, mirror: Mirror) -> bool:
    """Return whether the log of a mirrored table can be taken for the one of its rows."""
    if away(connection, lambda driver: _is_fresh(context, driver, mirror.collection)):
        return True
    if not any_row(connection, mirror):
        return True
    return away(connection, lambda driver: _has_any(context, driver, mirror.collection))


def _is_fresh(context: StoreContext, driver: Any, collection: str) -> bool:
    """Return whether a log has something, and looks as it did when it was read."""
    found = context.layout.stat_log(collection)
    if found is None or not found.st_size:
        return False
    if (known := context.known.get(collection)) is not None and looks_fresh(known, found):
        return True
    with closing(driver.cursor()) as cursor:
        return looks_fresh(Rows(cursor, context.models).fingerprint(collection), found)


def _has_any(context: StoreContext, driver: Any, collection: str) -> bool:
    """Return whether a log has a line of what it held, or all of it; any record, if it was empty.

    An id that both have is not enough: keys that people choose are the same in many projects.
    """
    with closing(driver.cursor()) as cursor:
        rows = Rows(cursor, context.models)
        held = rows.counts(collection)[0]
        seen: set[str] = set()
        for some in _chunks(_envelopes(context, collection)):
            if not held:
                return True
            stored = rows.stored(collection, [id for id, _ in some])
            live = {id: known.order_us for id, known in stored.items() if not known.deleted}
            if any(live.get(id) == order_us for id, order_us in some):
                return True
            seen.update(live)
    return 0 < held <= len(seen)


def has_line_of(context: StoreContext, collection: str, orders: Mapping[str, int]) -> bool:
    """Return whether a log has one of the records as it was, perhaps followed by newer lines.

    Args:
        context: The store.
        collection: Whose log.
        orders: The versions of the records, in microseconds, by id.
    """
    if not orders:
        return False
    return any(orders.get(id) == order_us for id, order_us in _envelopes(context, collection))


def _envelopes(context: StoreContext, collection: str) -> Iterator[tuple[str, int]]:
    """Yield id and version of each line of a log that is a record."""
    path = context.layout.log_path(collection)
    with access(path):
        try:
            fd = files.open_log(path)
        except FileNotFoundError:
            return
        try:
            for line in read_lines(fd):
                try:
                    found = decode_envelope(line.raw or b"")
                except LineError:
                    continue
                yield found.id, found.order_us
        finally:
            os.close(fd)


def _chunks(found: Iterator[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    while some := list(islice(found, _AT_ONCE)):
        yield some
