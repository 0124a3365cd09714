"""Whether the cache is up to date: compare the stat of logs with their fingerprints.

The store remembers the fingerprints that the cache has committed, so checking an unchanged log
costs one `stat`. The memory is a hint. If it differs from the file, the cache's `sync_metadata`
decides.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import attrs

from taskstore._cache.rows.rows import Rows
from taskstore._format.fingerprint import Fingerprint
from taskstore._format.names import EVOLUTIONS
from taskstore._store.log_context import LogContext
from taskstore._store.shapes import load_shapes


@attrs.frozen
class Stale:
    """A collection whose log may differ from the cache.

    Attributes:
        collection: Its name.
        only_grown: Whether it is the same file, only longer, as during a commit.
    """

    collection: str
    only_grown: bool


def looks_fresh(known: Fingerprint | None, found: os.stat_result | None) -> bool:
    """Return whether the stat alone shows that the file has not changed."""
    if known is None or found is None:
        return known is None and found is None
    return not known.racy and known.matches(found)


def stale_among(
    known: dict[str, Fingerprint], found: dict[str, os.stat_result | None]
) -> list[Stale]:
    """Return the collections in `found` that do not match their fingerprint."""
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
    """Compare logs with the fingerprints in the cache, and update the remembered ones.

    Args:
        context: The store.
        rows: The rows of the cache, in a transaction that has not changed anything yet.
        collections: The collections; None for every log that exists or was read.
    """
    recorded = rows.fingerprints()
    context.known = recorded
    if not context.shapes.are_current(recorded):
        context.shapes = load_shapes(rows, context.mirrors.by_collection)
    if collections is None:
        names, _ = context.layout.collections()
        collections = {*names, *recorded}
    found = {name: context.layout.stat_log(name) for name in sorted({*collections, EVOLUTIONS})}
    stale = stale_among(recorded, found)
    reshaped = set(context.shapes.differ_from(recorded)) - {item.collection for item in stale}
    return stale + [Stale(name, only_grown=False) for name in sorted(reshaped)]
