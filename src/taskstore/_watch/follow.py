"""What is committed to logs, line by line, from a cursor on.

Only what is committed is seen: how long a log is, is asked under the log lock, which a writer holds
until its transaction's fate is known. A log whose bytes before the cursor are not what they were
has been rewritten, by git or by a compaction; it is told of, and then read from its beginning.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

import attrs

from taskstore._format.lines import LineError, decode_envelope, decode_object
from taskstore._log import files
from taskstore._log.fingerprint import checksum
from taskstore._log.layout import Layout
from taskstore._log.locks import Lock, directory_lock
from taskstore._log.recovery import virtual_limits
from taskstore._store.access import access
from taskstore._watch.cursor import Cursor, Place

__all__ = ["Event", "Follower"]

_BOM = b"\xef\xbb\xbf"
_STEP = 4 * 1024 * 1024
"""How many bytes are read at a time."""

Kind = Literal["change", "delete", "reset", "problem"]


@attrs.frozen
class Event:
    """Something that a log has gained, or that happened to it.

    Attributes:
        kind: "change" (a line with a record), "delete" (a tombstone), "problem" (a line that is no
            record) or "reset" (the log was rewritten or removed; what follows is all that it has).
        collection: the collection.
        id: the record's id, of a change or a deletion.
        updated_at: its version, as the line has it.
        record: the line's object, of a change or a deletion.
        reason: of a problem or a reset.
        cursor: what to go on from after this event.
    """

    kind: Kind
    collection: str
    id: str | None = None
    updated_at: int | str | None = None
    record: Mapping[str, Any] | None = None
    reason: str | None = None
    cursor: Cursor = attrs.field(factory=Cursor)


class Follower:
    """Follows the logs of a store directory; writes nothing there.

    Args:
        layout: the directory.
        cursor: where to begin; None for the end of every log as it is now.
        collections: which logs to follow; none for all, also those to come.
        lock_timeout: how long to wait for a writer, in seconds.
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
        if cursor is None:
            for name, size in self._committed(self._names()).items():
                self._places[name] = self._place_at(name, size)

    @property
    def cursor(self) -> Cursor:
        """What to go on from."""
        return Cursor(dict(self._places))

    def close(self) -> None:
        """Let go of the directory."""
        self._lock.close()

    def poll(self) -> Iterator[Event]:
        """Yield what was committed since the last time."""
        stats = {name: self._stat(name) for name in self._names()}
        changed = [name for name, stat in stats.items() if self._seen.get(name, ()) != stat]
        if not changed:
            return
        sizes = self._committed(changed)
        for name in changed:
            yield from self._read(name, sizes.get(name))
            self._seen[name] = stats[name]

    def _names(self) -> list[str]:
        names, _ = self._layout.collections()
        known = {*names, *self._places}
        return sorted(known & set(self._wanted) if self._wanted else known)

    def _stat(self, name: str) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._layout.log_path(name))
        except FileNotFoundError:
            return None
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino

    def _committed(self, names: Collection[str]) -> dict[str, int]:
        """How long logs are, without what is not committed; those that are not there are absent."""
        sizes = {}
        with self._lock.hold(self._timeout):
            limits = virtual_limits(self._layout)
            for name in names:
                path = self._layout.log_path(name)
                with access(path), suppress(FileNotFoundError):
                    size = os.stat(path).st_size
                    sizes[name] = min(size, limits.get(name, size))
        return sizes

    def _place_at(self, name: str, size: int) -> Place:
        with access(self._layout.log_path(name)):
            fd = files.open_log(self._layout.log_path(name))
            try:
                end = _end_of_lines(fd, size)
                return Place(end, checksum(fd, end))
            finally:
                os.close(fd)

    def _read(self, name: str, size: int | None) -> Iterator[Event]:
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
                known = self._places.get(name)
                if known is not None and not _holds(fd, known, size):
                    self._places[name] = Place()
                    yield self._event("reset", name, reason="the log was rewritten")
                yield from self._lines(name, fd, size)
        finally:
            os.close(fd)

    def _lines(self, name: str, fd: int, size: int) -> Iterator[Event]:
        place = self._places.setdefault(name, Place())
        rest = b""
        at = place.offset
        while at < size:
            data = files.read_at(fd, min(_STEP, size - at), at)
            if not data:
                # Cut meanwhile: the next look finds that it was rewritten.
                return
            at += len(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield from self._line(name, line + b"\n")
        if rest and _is_record(rest):
            # A last line without its newline counts as well; half of one will go on.
            yield from self._line(name, rest)

    def _line(self, name: str, raw: bytes) -> Iterator[Event]:
        before = self._places[name]
        self._places[name] = Place(before.offset + len(raw), zlib.crc32(raw, before.checksum))
        line = raw.removeprefix(_BOM) if before.offset == 0 else raw
        if not line.strip():
            return
        try:
            found = decode_envelope(line)
        except LineError as error:
            yield self._event("problem", name, id=error.id, reason=error.reason)
            return
        yield self._event(
            "delete" if found.deleted else "change",
            name,
            id=found.id,
            updated_at=found.updated_at,
            record=decode_object(line),
        )

    def _event(self, kind: Kind, name: str, **facts: Any) -> Event:
        return Event(kind, name, **facts, cursor=self.cursor)


def _holds(fd: int, place: Place, size: int) -> bool:
    """Whether the bytes before a place are what they were."""
    try:
        return place.offset <= size and checksum(fd, place.offset) == place.checksum
    except EOFError:
        return False


def _end_of_lines(fd: int, size: int) -> int:
    """Where the last line that is whole ends."""
    end = size
    while end > 0:
        start = max(0, end - _STEP)
        data = files.read_at(fd, end - start, start)
        at = data.rfind(b"\n")
        if at >= 0:
            whole = start + at + 1
            rest = files.read_at(fd, size - whole, whole)
            return size if not rest or _is_record(rest) else whole
        end = start
    rest = files.read_at(fd, size, 0)
    return size if not rest or _is_record(rest) else 0


def _is_record(line: bytes) -> bool:
    try:
        decode_envelope(line.removeprefix(_BOM))
    except LineError:
        return False
    return True
