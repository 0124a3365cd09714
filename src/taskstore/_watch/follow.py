"""Yield what is committed to logs after a cursor, line by line.

Only committed lines are seen: the length of a log is read under the log lock, which a writer holds
until its transaction is committed or undone. If the bytes before the cursor have changed, git or a
compaction has rewritten the log. This is reported, and the log is read from the start.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

import attrs

from taskstore._evolution.shape import NO_SHAPE, Shape, mark_of
from taskstore._format.lines import OVERLONG, LineError, decode_envelope, decode_object
from taskstore._format.names import CONSUMERS
from taskstore._log import files
from taskstore._log.evolutions import newest_shapes
from taskstore._log.files import access
from taskstore._log.layout import Layout
from taskstore._log.lines import BOM, Line, read_bytes, read_lines, split_lines
from taskstore._log.locks import Lock, directory_lock
from taskstore._log.recovery import virtual_limits
from taskstore._watch.cursor import BEGINNING, Cursor, Place, digest_text

_STEP = 4 * 1024 * 1024
"""How many bytes are read at a time."""

Kind = Literal["change", "delete", "reset", "problem"]


@attrs.frozen
class ChangeEvent:
    """A new line of a log, or the news that the log was rewritten.

    Attributes:
        kind: "change" (a line with a record), "delete" (a tombstone), "problem" (a line that is not
            a record) or "reset" (the log was rewritten or removed; all of its lines follow).
        collection: The collection.
        id: The record's id, for a change or a deletion.
        updated_at: Its version, as in the line.
        record: The line's object in today's shape, for a change or a deletion.
        reason: The reason, for a problem or a reset.
        cursor: Where to continue after this event.
    """

    kind: Kind
    collection: str
    id: str | None = None
    updated_at: int | str | None = None
    record: Mapping[str, Any] | None = None
    reason: str | None = None
    cursor: str = BEGINNING


class Follower:
    """Follows the logs of a store directory; writes nothing there.

    Args:
        layout: The directory.
        cursor: Where to start; None for the present end of every log.
        collections: The logs to follow; none for all, including new ones.
        lock_timeout: How long to wait for a writer, in seconds.
    """

    def __init__(
        self,
        layout: Layout,
        cursor: Cursor | None = None,
        *,
        collections: Collection[str] = (),
        lock_timeout: float = 30.0,
    ) -> None:
        self._layout = layout
        self._lock: Lock = directory_lock(layout)
        self._wanted = collections
        self._timeout = lock_timeout
        self._seen: dict[str, tuple[int, ...] | None] = {}
        self._places = dict((cursor or Cursor()).places)
        self._shapes: dict[str, Shape] = {}
        self._digests: dict[str, hashlib._Hash] = {}
        if cursor is None:
            for name, size in self._committed(self._names()).items():
                self._places[name] = self._place_at(name, size)

    @property
    def cursor(self) -> Cursor:
        """Where to continue."""
        return Cursor(dict(self._places))

    def close(self) -> None:
        """Close the directory."""
        self._lock.close()

    def poll(self) -> Iterator[ChangeEvent]:
        """Yield what was committed since the last call."""
        stats = {name: self._stat(name) for name in self._names()}
        changed = [name for name, stat in stats.items() if self._seen.get(name, ()) != stat]
        if not changed:
            return
        self._shapes = newest_shapes(self._layout)
        sizes = self._committed(changed)
        for name in changed:
            yield from self._read(name, sizes.get(name))
            self._seen[name] = stats[name]

    def _names(self) -> list[str]:
        names, _ = self._layout.collections()
        known = {*names, *self._places} - {CONSUMERS}
        return sorted(known & set(self._wanted) if self._wanted else known)

    def _stat(self, name: str) -> tuple[int, ...] | None:
        found = self._layout.stat_log(name)
        if found is None:
            return None
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino

    def _committed(self, names: Collection[str]) -> dict[str, int]:
        """Return the committed lengths of logs. What is missing or not a file is left out."""
        return self._lock.run(self._timeout, lambda: self._committed_now(names))

    def _committed_now(self, names: Collection[str]) -> dict[str, int]:
        sizes = {}
        limits = virtual_limits(self._layout)
        for name in names:
            if (found := self._layout.stat_log(name)) is not None:
                sizes[name] = min(found.st_size, limits.get(name, found.st_size))
        return sizes

    def _place_at(self, name: str, size: int) -> Place:
        with access(self._layout.log_path(name)):
            fd = files.open_log(self._layout.log_path(name))
            try:
                end = _end_of_lines(fd, size)
                return Place(end, digest_text(_digest(fd, end)))
            finally:
                os.close(fd)

    def _read(self, name: str, size: int | None) -> Iterator[ChangeEvent]:
        path = self._layout.log_path(name)
        fd = None
        with access(path), suppress(FileNotFoundError):
            fd = None if size is None else files.open_log(path)
        if fd is None or size is None:
            if name in self._places:
                del self._places[name]
                yield self._event("reset", name, reason="the log is gone")
            return
        try:
            with access(path):
                if not self._holds(name, fd, size):
                    self._places[name] = Place()
                    yield self._event("reset", name, reason="the log was rewritten")
                yield from self._lines(name, fd, size)
        finally:
            os.close(fd)

    def _holds(self, name: str, fd: int, size: int) -> bool:
        """Return whether the bytes before a place in a log are unchanged; else read it again."""
        place = self._places.setdefault(name, Place())
        if place.offset <= size:
            with suppress(EOFError):
                self._digests[name] = found = _digest(fd, place.offset)
                if digest_text(found) == place.digest:
                    return True
        self._digests[name] = hashlib.sha256()
        return False

    def _lines(self, name: str, fd: int, size: int) -> Iterator[ChangeEvent]:
        start = self._places[name].offset
        for line in split_lines(read_bytes(fd, start, size), start):
            # A last line without its newline counts as well; half of one will be completed.
            if line.ended or _is_record(line.raw):
                self._advance(name, fd, line)
                if line.raw is None:
                    yield self._event("problem", name, reason=OVERLONG)
                else:
                    yield from self._line(name, line.raw.removeprefix(b"" if line.start else BOM))

    def _advance(self, name: str, fd: int, line: Line) -> None:
        digest = self._digests[name]
        if line.raw is None:
            for data in read_bytes(fd, line.start, line.end):
                digest.update(data)
        else:
            digest.update(line.raw + b"\n" if line.ended else line.raw)
        self._places[name] = Place(line.end, digest_text(digest))

    def _line(self, name: str, raw: bytes) -> Iterator[ChangeEvent]:
        if not raw.strip():
            return
        try:
            found = decode_envelope(raw)
        except LineError as error:
            yield self._event("problem", name, id=error.id, reason=error.reason)
            return
        shape = self._shapes.get(name, NO_SHAPE)
        mark = "" if found.deleted else mark_of(raw)
        if mark and (reason := shape.lacks(mark)) is not None:
            yield self._event("problem", name, id=found.id, reason=reason)
            return
        yield self._event(
            "delete" if found.deleted else "change",
            name,
            id=found.id,
            updated_at=found.updated_at,
            record=decode_object(shape.shown(raw)),
        )

    def _event(self, kind: Kind, name: str, **facts: Any) -> ChangeEvent:
        return ChangeEvent(kind, name, **facts, cursor=str(self.cursor))


def _digest(fd: int, stop: int) -> hashlib._Hash:
    """Return the SHA-256 of the bytes before `stop`; raise EOFError if there are fewer."""
    digest = hashlib.sha256()
    at = 0
    while at < stop:
        data = files.read_at(fd, min(_STEP, stop - at), at)
        if not data:
            raise EOFError(f"the log ends at byte {at}, {stop} were expected")
        digest.update(data)
        at += len(data)
    return digest


def _end_of_lines(fd: int, size: int) -> int:
    """Return where the last complete line ends."""
    end = size
    while end > 0:
        start = max(0, end - _STEP)
        data = files.read_at(fd, end - start, start)
        at = data.rfind(b"\n")
        if at >= 0:
            end = start + at + 1
            break
        end = start
    last = next(read_lines(fd, start=end, limit=size), None)
    return size if last is None or _is_record(last.raw) else end


def _is_record(raw: bytes | None) -> bool:
    if raw is None:
        return False
    try:
        decode_envelope(raw.removeprefix(BOM))
    except LineError:
        return False
    return True
