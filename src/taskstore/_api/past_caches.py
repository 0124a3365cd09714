"""Start the cache of an old state from that of an older one, so that only new lines are read."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import attrs

from taskstore._format.names import EVOLUTIONS
from taskstore._log import files
from taskstore._log.gate import Gate
from taskstore._log.layout import Layout
from taskstore._log.snapshots import Snapshot, SnapshotLayout, others
from taskstore._store.seal import CacheSeal
from taskstore._store.sqlite_errors import DatabaseErrors
from taskstore.errors import StoreAccessError

_CHUNK = 1024 * 1024
_LEAST = 2**20
"""The size of logs from which a start is worth it, in bytes."""


def start_from_another(copy: Snapshot, lock_timeout: float) -> None:
    """Give a copy without a cache that of another one, if its logs begin with those of the other.

    The next sync compares digests, and reads only the lines that are new.

    Args:
        copy: The copy.
        lock_timeout: How long to wait for another process, in seconds.
    """
    layout = copy.layout
    if not copy.is_kept or layout.cache_path.exists():
        return
    sizes = _sizes(layout.directory)
    if sum(sizes.values()) < _LEAST:
        return
    with others(copy) as found:
        best = _nearest(found, layout.directory, sizes)
        if best is not None:
            source = attrs.evolve(layout, directory=best)
            Gate(layout).run(lock_timeout, lambda: _start(source, layout))


def _start(source: SnapshotLayout, target: Layout) -> None:
    if target.cache_path.exists() or not CacheSeal(source).is_whole():
        return
    seal = CacheSeal(target)
    try:
        seal.make()
        _copy(source.cache_path, target.cache_path)
        seal.note()
    except (OSError, StoreAccessError, *DatabaseErrors):
        # Without it, all lines are read.
        for suffix in ("", "-wal", "-shm", "-journal"):
            files.clear_away(target.cache_path.with_name(target.cache_path.name + suffix))
    finally:
        seal.close()


def _copy(source: Path, target: Path) -> None:
    # If nobody has it open, no file may be made beside it.
    is_open = source.with_name(f"{source.name}-wal").exists()
    name = f"{source.as_uri()}?{'mode=ro' if is_open else 'immutable=1'}"
    with (
        contextlib.closing(sqlite3.connect(name, uri=True)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


def _sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of the logs of a copy, in bytes."""
    return {
        path.name: path.lstat().st_size
        for path in folder.glob("*.jsonl")
        if path.stem != EVOLUTIONS
    }


def _nearest(found: list[Path], folder: Path, sizes: dict[str, int]) -> Path | None:
    """Return the copy that has most bytes of the logs, at least half of them; None without one."""
    fitting = {
        other: {name: size for name, size in _sizes(other).items() if size <= sizes.get(name, 0)}
        for other in found
    }
    best, most = None, 0
    # The largest first, because logs are compared only as long as another copy may have more.
    for other, logs in sorted(fitting.items(), key=lambda each: -sum(each[1].values())):
        if sum(logs.values()) <= most:
            break
        shared = sum(
            size for name, size in logs.items() if _begins(folder / name, other / name, size)
        )
        if shared > most and 2 * shared >= sum(sizes.values()):
            best, most = other, shared
    return best


def _begins(path: Path, other: Path, size: int) -> bool:
    """Return whether a log begins with another one."""
    first, second = files.open_log(path), files.open_log(other)
    try:
        return all(
            files.read_at(first, min(_CHUNK, size - at), at)
            == files.read_at(second, min(_CHUNK, size - at), at)
            for at in range(0, size, _CHUNK)
        )
    finally:
        os.close(first)
        os.close(second)
