"""Whether the cache still stands for the logs: stat against fingerprint.

The store remembers the fingerprints that the cache has committed, so that a look at an unchanged
log costs one `stat`. The memory is a hint: where it differs from the file, the cache's own
`sync_metadata` decides.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

import attrs

from taskstore._cache.rows.rows import Rows
from taskstore._evolution.decoding import COLLECTION as EVOLUTIONS
from taskstore._format.fingerprint import Fingerprint
from taskstore._store.log_context import LogContext
from taskstore._store.shapes import load_shapes
from taskstore.errors import StoreAccessError


@attrs.frozen
class Stale:
    """A collection whose log is not known to be what the cache holds.

    Attributes:
        collection: Its name.
        only_grown: Whether it is the file that was read, longer; as while a commit is under way.
    """

    collection: str
    only_grown: bool


def stat_log(context: LogContext, collection: str) -> os.stat_result | None:
    """The stat of a collection's log; None if there is none, or something else in its place.

    Raises:
        StoreAccessError: The directory may not be searched.
    """
    name = context.layout.log_name(collection)
    try:
        found = os.lstat(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreAccessError(
            name, operation="read", reason=error.strerror or str(error), errno=error.errno
        ) from error
    return found if stat.S_ISREG(found.st_mode) else None


def looks_fresh(known: Fingerprint | None, found: os.stat_result | None) -> bool:
    """Whether a stat alone shows that the file is the one that was read."""
    if known is None or found is None:
        return known is None and found is None
    return not known.racy and known.matches(found)


def stale_among(
    known: dict[str, Fingerprint], found: dict[str, os.stat_result | None]
) -> list[Stale]:
    """Those collections of `found` that do not look like their fingerprint."""
    stale = []
    for collection, now in found.items():
        fingerprint = known.get(collection)
        if not looks_fresh(fingerprint, now):
            grown = (
                fingerprint is not None
                and now is not None
                and now.st_ino == fingerprint.inode
                and now.st_size > fingerprint.size
            )
            stale.append(Stale(collection, grown))
    return stale


def find_stale(context: LogContext, rows: Rows, collections: Iterable[str] | None) -> list[Stale]:
    """Compare logs with what the cache itself has recorded, and refresh the memory of it.

    Args:
        context: The store.
        rows: On a connection whose transaction has not changed anything yet.
        collections: Which; None for every log there is and every one that was read.
    """
    recorded = rows.fingerprints()
    context.known = recorded
    if not context.shapes.are_current(recorded):
        context.shapes = load_shapes(rows, context.mirrors.by_collection)
    if collections is None:
        names, _ = context.layout.collections()
        collections = {*names, *recorded}
    found = {name: stat_log(context, name) for name in sorted({*collections, EVOLUTIONS})}
    stale = stale_among(recorded, found)
    reshaped = set(context.shapes.differ_from(recorded)) - {item.collection for item in stale}
    return stale + [Stale(name, only_grown=False) for name in sorted(reshaped)]
