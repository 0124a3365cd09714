"""Hands what was written to the cache over to the log's side of the transaction.

Both the session hook and the store's own calls come through here, after the rows of `records` are
as they should be: tombstones and index rows follow, and the net lines are noted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from taskstore._cache.rows import Rows
from taskstore._format.lines import tombstone_line
from taskstore._store.changes import Changes, Key
from taskstore._store.versions import Version


def collect_lines(
    rows: Rows, changes: Changes, lines: Mapping[Key, bytes], *, new: Collection[Key] = ()
) -> None:
    """Take in live records that were written, each with its line.

    Args:
        rows: the cache's.
        changes: the transaction's.
        lines: what was written.
        new: those of which the cache had nothing before.
    """
    changes.put_all(lines)
    by_collection: dict[tuple[str, bool], list[tuple[str, bytes]]] = {}
    for key, line in lines.items():
        by_collection.setdefault((key[0], key in new), []).append((key[1], line))
    for (collection, are_new), pairs in by_collection.items():
        rows.write_index(collection, pairs, new=are_new)


def collect_graves(rows: Rows, changes: Changes, graves: Mapping[Key, Version]) -> None:
    """Take in records that were deleted, each with the version of its tombstone."""
    for key, version in graves.items():
        collection, id = key
        if changes.is_born(key):
            # Neither the log nor another reader has ever heard of it.
            rows.forget(collection, id)
            changes.drop(key)
            continue
        text = version.value if isinstance(version.value, str) else None
        rows.bury(collection, [(id, version.ms, version.order_us, text)])
        changes.put(key, tombstone_line(id, version.value))
