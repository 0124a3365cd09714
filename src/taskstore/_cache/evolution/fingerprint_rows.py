"""What was read of the logs, and which evolutions the database has gone through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from taskstore._cache.rows.indexes import IndexRows
from taskstore._format.fingerprint import Fingerprint

_FINGERPRINT = "size, mtime_ns, ctime_ns, inode, digest, lines, problems, ended, racy, shape"
_TYPES = (int, int, int, int, str, int, int, int, int, str)
_UNSIGNED = 2**64
_SIGNED = 2**63


class State(NamedTuple):
    """An evolution that the database has applied or reverted.

    Attributes:
        revision: Its revision; empty where the collection has no others.
        line: Its line in evolutions.jsonl; empty with the revision.
        applied: Whether the database has it behind it.
    """

    revision: str
    line: str
    applied: bool


NO_EVOLUTIONS = State("", "", applied=True)
"""Says of a collection that the program which writes it knows of no evolutions."""


class FingerprintRows(IndexRows):
    """The tables `sync_metadata` and `log_evolutions`."""

    def fingerprint(self, collection: str) -> Fingerprint | None:
        """Return what was recorded of a collection's log; None if nothing can be relied on."""
        rows = self._read(
            f"SELECT {_FINGERPRINT} FROM {self._metadata} WHERE collection = ?", (collection,)
        )
        return _fingerprint(rows[0]) if rows else None

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Return what was recorded of every log that was read."""
        found = {
            row[0]: _fingerprint(row[1:])
            for row in self._read(f"SELECT collection, {_FINGERPRINT} FROM {self._metadata}")
        }
        return {collection: known for collection, known in found.items() if known is not None}

    def has_fingerprints(self) -> bool:
        """Return whether there is a table for what is recorded of the logs."""
        return bool(self._read("SELECT 1 FROM pragma_table_info(?) LIMIT 1", (self._metadata,)))

    def forget_fingerprints(self) -> None:
        """Mark everything that was recorded of the logs as unreliable."""
        self._write(f"DELETE FROM {self._metadata}")

    def put_fingerprint(self, collection: str, fingerprint: Fingerprint, now_ms: int) -> None:
        """Record what was read of a collection's log, and when (ms since the epoch)."""
        inode = fingerprint.inode
        self._write(
            f"INSERT OR REPLACE INTO {self._metadata} "
            f"(collection, last_sync_time, file_mtime, {_FINGERPRINT}) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                collection,
                now_ms,
                fingerprint.mtime_ns // 1_000_000_000,
                fingerprint.size,
                fingerprint.mtime_ns,
                fingerprint.ctime_ns,
                # Some filesystems use all 64 bits, and SQLite's integers have a sign.
                inode if inode < _SIGNED else inode - _UNSIGNED,
                fingerprint.digest,
                fingerprint.lines,
                fingerprint.problems,
                fingerprint.ended,
                fingerprint.racy,
                fingerprint.shape,
            ),
        )

    def evolutions(self) -> dict[str, list[State]]:
        """Return what is recorded of the evolutions of each collection, by revision."""
        found: dict[str, list[State]] = {}
        for collection, revision, line, applied in self._read(
            f"SELECT collection, revision, line, applied FROM {self._evolutions} "
            "ORDER BY collection, revision"
        ):
            found.setdefault(collection, []).append(State(revision, line, bool(applied)))
        return found

    def set_evolutions(self, collection: str, states: Iterable[State]) -> None:
        """Record the evolutions of a collection, or that there are none."""
        self._write(f"DELETE FROM {self._evolutions} WHERE collection = ?", (collection,))
        self._write_many(
            f"INSERT INTO {self._evolutions} (collection, revision, line, applied) "
            "VALUES (?, ?, ?, ?)",
            ((collection, *state) for state in states),
        )


def _fingerprint(row: Sequence[Any]) -> Fingerprint | None:
    *row, shape = row
    if None in row:
        # Adopted from an older layout.
        return None
    shape = "" if shape is None else shape
    size, mtime_ns, ctime_ns, inode, digest, lines, problems, ended, racy = row
    # In a damaged file a column may hold anything: then the log is read again.
    if tuple(map(type, (*row, shape))) != _TYPES or min(size, lines, problems) < 0:
        return None
    return Fingerprint(
        size=size,
        mtime_ns=mtime_ns,
        ctime_ns=ctime_ns,
        inode=inode % _UNSIGNED,
        digest=digest,
        lines=lines,
        problems=problems,
        ended=bool(ended),
        racy=bool(racy),
        shape=shape,
    )
