"""Whether a log is the one of the rows beside it.

A row is deleted only by a tombstone, or where the log held it and an existing log no longer does.
A log that is missing, empty, or has no line of what it held says nothing of the rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
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
    """Whether a log has a line of what it held, or all that it held; any record, if it was empty.

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
    """Whether a log has a line of some record as it was, be it followed by newer ones.

    Args:
        context: the store.
        collection: whose log.
        orders: the versions of the records, in microseconds, by id.
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
        with os.fdopen(fd, "rb", buffering=_BUFFER) as lines:
            for line in lines:
                try:
                    found = decode_envelope(line)
                except LineError:
                    continue
                yield found.id, found.order_us


def _chunks(found: Iterator[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    while some := list(islice(found, _AT_ONCE)):
        yield some
