"""Compaction: a log written anew with the newest line of each record only.

The new file is whole and on the disk before it takes the name of the old one, so that a crash or a
full disk at any moment leaves one of the two. Lines keep their bytes and their order; what is no
record is kept as it is.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from taskstore._format.fingerprint import Fingerprint, is_racy
from taskstore._log import files
from taskstore._log.fingerprint import checksum, make_distinctive
from taskstore._log.layout import Layout
from taskstore._log.locks import hold_descriptor
from taskstore._log.replay import BOM, LogChangedError, Replay, replay
from taskstore.errors import LockTimeoutError, LogWriteError

__all__ = ["Compacted", "compact_log"]

_BUFFER = 1024 * 1024
_ATTEMPTS = 10


@attrs.frozen
class Compacted:
    """What a compaction did.

    Attributes:
        bytes_before, bytes_after: the length of the log.
        lines_before, lines_after: its lines, blank ones and problems too.
        forgotten: the ids whose tombstones were dropped.
        checksum_before: CRC-32 of the log that was read.
        fingerprint: of the new log; None if somebody wrote to it meanwhile.
    """

    bytes_before: int
    bytes_after: int
    lines_before: int
    lines_after: int
    forgotten: tuple[str, ...]
    checksum_before: int
    fingerprint: Fingerprint | None


def compact_log(
    layout: Layout,
    collection: str,
    *,
    dead_before_us: int,
    lock_timeout: float,
    on_progress: Callable[[int, int], None] | None = None,
) -> Compacted:
    """Compact a log; the caller holds the log lock and has called `recover`.

    Args:
        layout: the store directory.
        collection: the collection.
        dead_before_us: tombstones older than this, in microseconds since the epoch, are dropped.
        lock_timeout: how long to wait, in seconds, for another program that locks the log.
        on_progress: called with the bytes of the old log that are done, and its length.

    Raises:
        FileNotFoundError: there is no log.
        LogWriteError: the disk refused; the old log is as it was.
        LockTimeoutError: another program has locked the log for too long.
    """
    path = layout.log_path(collection)
    for _ in range(_ATTEMPTS):
        fd = _open(path)
        try:
            if not hold_descriptor(fd, lock_timeout):
                raise LockTimeoutError(path, timeout=lock_timeout, lock="data file")
            with contextlib.suppress(LogChangedError, EOFError):
                return _Rewrite(path, collection, fd, dead_before_us, on_progress).run()
        except OSError as error:
            if isinstance(error, LockTimeoutError):
                raise
            reason = error.strerror or str(error)
            raise LogWriteError(path, step="compact", reason=reason, errno=error.errno) from error
        finally:
            os.close(fd)
    raise LogWriteError(path, step="compact", reason="another program keeps changing the file")


def _open(path: Path) -> int:
    try:
        return files.open_log(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise LogWriteError(path, step="open", reason=reason, errno=error.errno) from error


class _Rewrite:
    """One try; LogChangedError if the old log changed under it."""

    def __init__(
        self,
        path: Path,
        collection: str,
        fd: int,
        dead_before_us: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._path = path
        self._collection = collection
        self._old = fd
        self._stat = os.fstat(fd)
        self._racy = is_racy(self._stat, time.time_ns())
        self._dead_before_us = dead_before_us
        self._on_progress = on_progress
        self._checksum = 0
        self._lines = 0
        self._size = 0
        self._mark_ns: int | None = None

    def run(self) -> Compacted:
        found = replay(self._old, collection=self._collection, path=str(self._path))
        forgotten: list[str] = []
        kept: set[int] = set()
        for id, offset, order_us, deleted in found.places():
            if deleted and order_us < self._dead_before_us:
                forgotten.append(id)
            else:
                kept.add(offset)
        self._remove_drafts()
        draft = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}.tmp")
        new = files.open_file(draft, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        try:
            self._copy(new, found, kept)
            fingerprint = self._take_place(new, draft, found)
        finally:
            with contextlib.suppress(OSError):
                if files.same_file(new, draft):
                    files.unlink(draft)
            os.close(new)
        return Compacted(
            found.size,
            self._size,
            found.lines,
            self._lines,
            tuple(forgotten),
            found.checksum,
            fingerprint,
        )

    def _remove_drafts(self) -> None:
        """Remove what a compaction has left that was killed; we hold the lock, so none runs."""
        for path in self._path.parent.glob(f"{self._path.name}.*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                files.unlink(path)

    def _copy(self, new: int, found: Replay, kept: set[int]) -> None:
        """Write the lines that stay, each ended by a newline."""
        problems = {problem.line for problem in found.problems}
        pending = bytearray()
        for number, (offset, line) in enumerate(self._old_lines(), 1):
            if offset in kept or number in problems:
                pending += line if line.endswith(b"\n") else line + b"\n"
                self._lines += 1
                if len(pending) >= _BUFFER:
                    self._flush(new, pending)
                    if self._on_progress is not None:
                        self._on_progress(offset, self._stat.st_size)
        self._flush(new, pending)
        os.fchmod(new, stat.S_IMODE(self._stat.st_mode))
        files.sync(new)

    def _old_lines(self) -> Iterator[tuple[int, bytes]]:
        offset = 0
        with open(os.dup(self._old), "rb", buffering=_BUFFER) as lines:
            lines.seek(0)
            for line in lines:
                if offset == 0 and line.startswith(BOM):
                    yield len(BOM), line.removeprefix(BOM)
                else:
                    yield offset, line
                offset += len(line)

    def _flush(self, new: int, pending: bytearray) -> None:
        data = bytes(pending)
        files.write_all(new, data)
        self._checksum = zlib.crc32(data, self._checksum)
        self._size += len(data)
        pending.clear()

    def _take_place(self, new: int, draft: Path, found: Replay) -> Fingerprint | None:
        """Give the new file the name of the old one, if that is still what was read."""
        if make_distinctive(new, time.time_ns()):
            self._mark_ns = os.fstat(new).st_mtime_ns
        moved = os.fstat(self._old).st_ctime_ns != self._stat.st_ctime_ns
        if moved or not self._is_as_read(found, self._path):
            raise LogChangedError(str(self._path))
        try:
            exchanged = files.exchange(draft, self._path)
        except FileNotFoundError:
            raise LogChangedError(str(self._path)) from None
        if not exchanged:
            files.replace(draft, self._path)
            files.sync_directory(self._path.parent)
            return self._settle(new, found)
        try:
            # A file that came to the name since the last look is found now, and not lost.
            if not self._is_as_read(found, draft):
                raise LogChangedError(str(self._path))
            files.sync_directory(self._path.parent)
            fingerprint = self._settle(new, found)
        except BaseException:
            self._put_back(new, draft)
            raise
        # If it stays, the next compaction removes it.
        with contextlib.suppress(OSError):
            files.unlink(draft)
        return fingerprint

    def _is_as_read(self, found: Replay, path: Path) -> bool:
        """Say whether the old file is still what was read, and has this name."""
        now = os.fstat(self._old)
        if (now.st_size, now.st_mtime_ns) != (self._stat.st_size, self._stat.st_mtime_ns):
            return False
        if self._racy and checksum(self._old, found.size) != found.checksum:
            return False
        return files.same_file(self._old, path)

    def _put_back(self, new: int, draft: Path) -> None:
        """Return its name to the file that we have taken it from."""
        files.exchange(draft, self._path)
        if not files.same_file(new, draft):
            # Somebody has replaced ours already: what came last stays.
            files.exchange(draft, self._path)

    def _settle(self, new: int, found: Replay) -> Fingerprint | None:
        """Fetch what somebody without a lock has appended to the old file at the last moment."""
        late = files.read_at(self._old, os.fstat(self._old).st_size - found.size, found.size)
        if late:
            files.write_all(new, late)
            files.sync(new)
            return None
        now_ns = time.time_ns()
        st = os.fstat(new)
        if st.st_size != self._size or not files.same_file(new, self._path):
            return None
        if self._mark_ns not in (None, st.st_mtime_ns):
            # Overwritten in place since it has the log's name.
            return None
        return Fingerprint(
            size=st.st_size,
            mtime_ns=st.st_mtime_ns,
            ctime_ns=st.st_ctime_ns,
            inode=st.st_ino,
            checksum=self._checksum,
            lines=self._lines,
            problems=len(found.problems),
            ended=True,
            racy=self._mark_ns is None and is_racy(st, now_ns),
        )
