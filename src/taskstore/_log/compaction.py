"""Compaction: a log rewritten with the newest line of each record only, in today's shape if asked.

The new file is whole and on the disk before it takes the name of the old one, so that a crash or a
full disk at any moment leaves one of the two. Lines keep their bytes, unless their shape is to
change, and their order; what is no record is kept as it is.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from taskstore._format.fingerprint import Fingerprint, is_racy
from taskstore._log import files
from taskstore._log.digest import Digester
from taskstore._log.files import make_distinctive
from taskstore._log.layout import Layout
from taskstore._log.lines import read_bytes, read_lines
from taskstore._log.locks import LockedFile, hold_descriptor
from taskstore._log.replay import LogChangedError, Replay, replay
from taskstore.errors import LockTimeoutError, LogWriteError, TaskstoreError

_BUFFER = 1024 * 1024
_ATTEMPTS = 10


@attrs.frozen
class Compacted:
    """What a compaction did.

    Attributes:
        bytes_before, bytes_after: The length of the log.
        lines_before, lines_after: Its lines, blank ones and problems too.
        forgotten: The ids whose tombstones were dropped.
        digest_before: Of the log that was read.
        fingerprint: Of the new log; None if somebody wrote to it meanwhile.
    """

    bytes_before: int
    bytes_after: int
    lines_before: int
    lines_after: int
    forgotten: tuple[str, ...]
    digest_before: str
    fingerprint: Fingerprint | None


def compact_log(
    layout: Layout,
    collection: str,
    *,
    dead_before_us: int,
    lock_timeout: float,
    lacks: Callable[[Any], str | None] | None = None,
    reshape: Callable[[bytes], bytes] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Compacted:
    """Compact a log; the caller holds the log lock and has called `recover`.

    Args:
        layout: The store directory.
        collection: The collection.
        dead_before_us: Tombstones older than this, in microseconds since the epoch, are dropped.
        lock_timeout: How long to wait, in seconds, for another program that locks the log.
        lacks: As for `replay`; lines of revisions that are not known stay.
        reshape: Returns the bytes to write for the line of a live record.
        on_progress: Called with the bytes of the old log that are done, and its length.

    Raises:
        FileNotFoundError: There is no log.
        LogWriteError: Writing failed; the old log is unchanged.
        LockTimeoutError: Another program has locked the log for too long.
    """
    path = layout.log_path(collection)
    for _ in range(_ATTEMPTS):
        old = LockedFile()
        old.fd = _open(path)
        try:
            if not hold_descriptor(old.fd, lock_timeout):
                raise LockTimeoutError(path, timeout=lock_timeout, lock="data file")
            done = None
            with contextlib.suppress(LogChangedError, EOFError):
                done = _Rewrite(
                    path,
                    collection,
                    old.fd,
                    dead_before_us,
                    layout.digester,
                    lacks,
                    reshape,
                    on_progress,
                ).run()
            old.close()
            if done is not None:
                return done
        except BaseException as error:
            old.close()
            if not isinstance(error, OSError) or isinstance(error, TaskstoreError):
                raise
            reason = error.strerror or str(error)
            raise LogWriteError(path, step="compact", reason=reason, errno=error.errno) from error
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
        digester: Digester,
        lacks: Callable[[Any], str | None] | None,
        reshape: Callable[[bytes], bytes] | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._path = path
        self._collection = collection
        self._old = fd
        self._stat = os.fstat(fd)
        self._racy = is_racy(self._stat, time.time_ns())
        self._dead_before_us = dead_before_us
        self._on_progress = on_progress
        self._lacks = lacks
        self._reshape = reshape
        self._digester = digester
        self._digest = digester.begin()
        self._lines = 0
        self._size = 0
        self._mark_ns: int | None = None

    def run(self) -> Compacted:
        found = replay(
            self._old,
            collection=self._collection,
            path=str(self._path),
            digest=self._digester.begin(),
            lacks=self._lacks,
        )
        forgotten: list[str] = []
        kept: dict[int, bool] = {}
        for id, offset, order_us, deleted in found.places():
            if deleted and order_us < self._dead_before_us:
                forgotten.append(id)
            else:
                kept[offset] = deleted
        self._remove_drafts()
        draft = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}.tmp")
        # Never more readable than the old one, not even while it is written.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL
        new = files.open_file(draft, flags, stat.S_IMODE(self._stat.st_mode) | stat.S_IWUSR)
        try:
            files.keep_owner(new, self._stat)
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
            found.digest,
            fingerprint,
        )

    def _remove_drafts(self) -> None:
        """Remove what a compaction has left that was killed; we hold the lock, so none runs."""
        for path in self._path.parent.glob(f"{self._path.name}.*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                files.unlink(path)

    def _copy(self, new: int, found: Replay, kept: dict[int, bool]) -> None:
        """Write the lines that stay, each ended by a newline.

        Args:
            new: Where to.
            found: In the old log.
            kept: Where the lines of records begin that stay, and whether they are tombstones.
        """
        problems = {problem.line for problem in found.problems}
        pending = bytearray()
        for line in read_lines(self._old):
            if not (line.start in kept or line.number in problems):
                continue
            self._lines += 1
            if line.raw is None:
                for data in read_bytes(self._old, line.start, line.start + line.length):
                    self._flush(new, pending)
                    pending += data
            elif self._reshape is None or kept.get(line.start, True):
                pending += line.raw
            else:
                pending += self._reshape(line.raw)
            pending += b"\n"
            if len(pending) >= _BUFFER:
                self._flush(new, pending)
                if self._on_progress is not None:
                    self._on_progress(line.start, self._stat.st_size)
        self._flush(new, pending)
        os.fchmod(new, stat.S_IMODE(self._stat.st_mode))
        files.sync(new)

    def _flush(self, new: int, pending: bytearray) -> None:
        data = bytes(pending)
        files.write_all(new, data)
        self._digest.update(data)
        self._size += len(data)
        pending.clear()

    def _take_place(self, new: int, draft: Path, found: Replay) -> Fingerprint | None:
        """Give the new file the name of the old one, if that is still what was read."""
        self._mark_ns = make_distinctive(new, time.time_ns())
        moved = os.fstat(self._old).st_ctime_ns != self._stat.st_ctime_ns
        if moved or not self._is_as_read(found, self._path):
            raise LogChangedError(str(self._path))
        try:
            if not self._exchange(draft):
                files.replace(draft, self._path)
                files.sync_directory(self._path.parent)
                return self._settle(new, found)
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

    def _exchange(self, draft: Path) -> bool:
        try:
            return files.exchange(draft, self._path)
        except FileNotFoundError:
            raise LogChangedError(str(self._path)) from None

    def _is_as_read(self, found: Replay, path: Path) -> bool:
        """Say whether the old file is still what was read, and has this name."""
        now = os.fstat(self._old)
        if (now.st_size, now.st_mtime_ns) != (self._stat.st_size, self._stat.st_mtime_ns):
            return False
        if self._racy and self._digester.read(self._old, found.size).text() != found.digest:
            return False
        return files.same_file(self._old, path)

    def _put_back(self, new: int, draft: Path) -> None:
        """Return its name to the file that we have taken it from, if we have."""
        if not files.same_file(new, self._path):
            return
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
            digest=self._digest.text(),
            lines=self._lines,
            problems=len(found.problems),
            ended=True,
            racy=self._mark_ns is None and is_racy(st, now_ns),
        )
