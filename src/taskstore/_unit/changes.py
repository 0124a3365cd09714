"""The changes of one database transaction: the final line of each record, per savepoint.

This is pure bookkeeping. Rolling back a savepoint drops its changes; releasing it passes them to
the level below. The changes that are left at COMMIT go to the log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack

import attrs

from taskstore._cache.rows.rows import Rows
from taskstore._format.lines import tombstone_line
from taskstore._unit.versions import Version

Key = tuple[str, str]
"""Collection and id."""


@attrs.define
class _Level:
    """The changes since one savepoint; the first level belongs to the transaction itself."""

    name: str | None
    lines: dict[Key, bytes | None] = attrs.field(factory=dict)
    undo: list[Callable[[], None]] = attrs.field(factory=list)


class Changes:
    """The net lines of a transaction, in the order in which its records were first touched."""

    __slots__ = ("_born", "_levels")

    def __init__(self) -> None:
        self._levels = [_Level(None)]
        self._born: set[Key] = set()

    def put(self, key: Key, line: bytes) -> None:
        """Note the net line of a record, without its newline."""
        self._levels[-1].lines[key] = line

    def put_all(self, lines: Mapping[Key, bytes]) -> None:
        """Note the net lines of many records."""
        self._levels[-1].lines.update(lines)

    def drop(self, key: Key) -> None:
        """Note that a record needs no line, because it is as before the transaction."""
        self._levels[-1].lines[key] = None

    def mark_born(self, keys: Iterable[Key]) -> None:
        """Note that these records were not in the log when the transaction touched them."""
        self._born.update(keys)

    def is_born(self, key: Key) -> bool:
        """Return whether the record exists only in this transaction."""
        return key in self._born

    def on_undo(self, restore: Callable[[], None]) -> None:
        """Call `restore` if the present savepoint, or the whole transaction, is rolled back."""
        self._levels[-1].undo.append(restore)

    def savepoint(self, name: str) -> None:
        """Open a level."""
        self._levels.append(_Level(name))

    def release(self, name: str) -> None:
        """Pass the changes since a savepoint to the level below it."""
        for level in reversed(self._unwind(name)):
            below = self._levels[-1]
            below.lines.update(level.lines)
            below.undo.extend(level.undo)

    def rollback_to(self, name: str) -> None:
        """Drop the changes since a savepoint, which stays open."""
        for level in self._unwind(name):
            _restore(level)
        self._levels.append(_Level(name))

    def rollback(self) -> None:
        """Forget everything."""
        while self._levels:
            _restore(self._levels.pop())
        self._levels.append(_Level(None))
        self._born.clear()

    def batch(self) -> dict[str, list[bytes]]:
        """The lines to write, by collection."""
        net: dict[Key, bytes | None] = {}
        for level in self._levels:
            net.update(level.lines)
        batch: dict[str, list[bytes]] = {}
        for (collection, _), line in net.items():
            if line is not None:
                batch.setdefault(collection, []).append(line)
        return batch

    def _unwind(self, name: str) -> list[_Level]:
        """Remove and return the levels down to the newest one of that name, innermost first."""
        taken: list[_Level] = []
        while len(self._levels) > 1:
            taken.append(self._levels.pop())
            if taken[-1].name == name:
                return taken
        # The database reports an unknown name; nothing is dropped here.
        self._levels.extend(reversed(taken))
        return []

    def __bool__(self) -> bool:
        return any(level.lines for level in self._levels)


def _restore(level: _Level) -> None:
    # One that fails, in a setter of the user's own, must not keep the others from theirs.
    with ExitStack() as undone:
        for restore in level.undo:
            undone.callback(restore)
        level.undo.clear()


def collect_lines(
    rows: Rows, changes: Changes, lines: Mapping[Key, bytes], *, new: Collection[Key] = ()
) -> None:
    """Take in live records that were written, each with its line.

    Args:
        rows: The cache's.
        changes: The transaction's.
        lines: What was written.
        new: Those of which the cache had nothing before.
    """
    changes.put_all(lines)
    write_indexes(rows, lines, new=new)


def write_indexes(rows: Rows, lines: Mapping[Key, bytes], *, new: Collection[Key] = ()) -> None:
    """Write the index rows of live records, given with their lines; `new` ones have none yet."""
    by_collection: dict[tuple[str, bool], list[tuple[str, bytes]]] = {}
    indexed = rows.all_index_fields() if lines else {}
    for key, line in lines.items() if indexed else ():
        if key[0] not in indexed:
            continue
        by_collection.setdefault((key[0], key in new), []).append((key[1], line))
    for (collection, are_new), pairs in by_collection.items():
        rows.write_index(collection, pairs, new=are_new)


def collect_tombstones(rows: Rows, changes: Changes, tombstones: Mapping[Key, Version]) -> None:
    """Take in records that were deleted, each with the version of its tombstone."""
    born: dict[str, list[str]] = {}
    dead: dict[str, list[tuple[str, int, int, str | None]]] = {}
    for key, version in tombstones.items():
        collection, id = key
        if changes.is_born(key):
            # Neither the log nor another reader has ever seen it.
            born.setdefault(collection, []).append(id)
            changes.drop(key)
            continue
        text = version.value if isinstance(version.value, str) else None
        dead.setdefault(collection, []).append((id, version.ms, version.order_us, text))
        changes.put(key, tombstone_line(id, version.value))
    for collection, ids in born.items():
        rows.forget(collection, *ids)
    for collection, some in dead.items():
        rows.set_tombstones(collection, some)
