"""One log during an append: opened, locked, appended to, and cut back if need be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import attrs

from taskstore._format.fingerprint import Fingerprint, is_racy
from taskstore._format.lines import STAND_IN_BYTES, STAND_INS, stand_in
from taskstore._log import files, tails
from taskstore._log.digest import Digester, LogDigest
from taskstore._log.files import make_distinctive
from taskstore._log.journal import JournalEntry
from taskstore._log.locks import hold_descriptor, release_descriptor
from taskstore.errors import LockTimeoutError, LogWriteError


class StuckError(Exception):
    """Our bytes are in the log, and removing them would remove those of others."""


@attrs.define(eq=False)
class Target:
    """A log that a transaction appends to.

    The holder of the log lock opens it, and closes it when the transaction is over.

    Attributes:
        collection: The collection.
        path: Its log.
        lines: What to append, without newlines.
        known: The recorded fingerprint.
        digester: Digests the logs of this clone.
        base: The log's length before, in bytes.
        created: Whether the transaction made the file.
        payload: What is written: the lines, and before them the newline that the log's last line
            lacks.
    """

    collection: str
    path: Path
    lines: Sequence[bytes]
    known: Fingerprint | None
    digester: Digester
    base: int = 0
    created: bool = False
    payload: bytes = b""
    _fd: int | None = None
    _trusted: bool = False
    _measured: os.stat_result | None = None
    _mark_ns: int | None = None
    _digest: LogDigest | None = None
    _placed: os.stat_result | None = None
    _exact: bool = False
    _written: bool = False

    def open(self, lock_timeout: float) -> None:
        """Open, lock and measure the log, if there is one; nothing is made or written.

        Raises:
            OSError: It cannot be opened.
            LockTimeoutError: Another program has locked it for too long.
        """
        while self._fd is None:
            try:
                self._fd = files.open_log(self.path, write=True)
            except FileNotFoundError:
                break
            self._lock(lock_timeout)
            self._measured = files.stat_if_same(self._fd, self.path)
            if self._measured is None:
                self.close()
        self._measure()

    def create(self, lock_timeout: float) -> bool:
        """Create the log if there is none. Return False if another program just did."""
        if self._fd is not None:
            return True
        # Ahead, so that the file goes again if an exception comes between the two.
        self.created = True
        try:
            self._fd = files.open_log(self.path, write=True, create=True)
        except FileExistsError:
            self.created = False
            return False
        self._lock(lock_timeout)
        return True

    def _lock(self, timeout: float) -> None:
        # Our own writers are kept apart by the log lock. This one is for other programs, which
        # know only the data file.
        assert self._fd is not None
        if not hold_descriptor(self._fd, timeout):
            raise LockTimeoutError(self.path, timeout=timeout, lock="data file")

    def _measure(self) -> None:
        unended = False
        st = self._measured
        if self._fd is None or st is None:
            self._trusted = self.known is None
        else:
            self.base = st.st_size
            self._trusted = self._matches(st)
            if self.base:
                self._check_is_log(self._fd)
                unended = files.read_at(self._fd, 1, self.base - 1) != b"\n"
        self.payload = b"%b%b\n" % (b"\n" if unended else b"", b"\n".join(self.lines))

    def _check_is_log(self, fd: int) -> None:
        """Refuse to append to what a filter of git has put in place of the log."""
        if self._trusted and self.known is not None and not self.known.problems:
            return
        if (what := stand_in(files.read_at(fd, STAND_IN_BYTES, 0))) is not None:
            remedy = f"run `{STAND_INS[what]}`"
            raise LogWriteError(self.path, step="open", reason=f"it is {what}", remedy=remedy)

    def _matches(self, st: os.stat_result) -> bool:
        """Say whether what is recorded holds for the bytes that are here."""
        if self.known is None:
            return st.st_size == 0
        if not self.known.matches(st):
            return False
        if self.known.racy:
            return self._digest_so_far().text() == self.known.digest
        assert self._fd is not None
        self._digest = self.digester.resume(self._fd, self.known.size, self.known.digest)
        return self._digest is not None

    @property
    def is_open(self) -> bool:
        """Whether the log is open, and so perhaps locked."""
        return self._fd is not None

    @property
    def is_unended(self) -> bool:
        """Whether the log's last line has no newline, so that a torn append could harm it."""
        return self.payload.startswith(b"\n")

    @property
    def is_unsettled(self) -> bool:
        """Whether the directory may have the log's name, for this file, in memory only."""
        return self.created or not self._trusted

    def entry(self) -> JournalEntry:
        """Return what the journal is to say of this log."""
        digest = self._digest_so_far().text()
        return JournalEntry(self.collection, self.base, digest, self._fd is None, self.payload)

    def _digest_so_far(self) -> LogDigest:
        """Return the digest of the bytes before `base`, and of ours once they are written."""
        if self._digest is None:
            if self._fd is None:
                self._digest = self.digester.begin()
            else:
                self._digest = self.digester.read(self._fd, self.base)
        return self._digest

    def write(self, now_ns: int) -> None:
        """Append, in one write if the system accepts all bytes at once.

        The time that the file is given at once tells later whether anybody wrote to it after us.
        """
        assert self._fd is not None
        self._written = True
        if self._measured is not None and not _same_times(self._measured, os.fstat(self._fd)):
            self._trusted = False
        files.write_all(self._fd, self.payload)
        if not self._trusted:
            return
        self._mark_ns = make_distinctive(self._fd, now_ns)
        self._digest_so_far().update(self.payload)

    def sync(self) -> None:
        """Wait until the log is on the disk."""
        assert self._fd is not None
        files.sync(self._fd)

    def is_placed(self) -> bool:
        """Say whether what was appended is now in the file that the path names, line by line.

        It is not when git replaced or removed the file, cut it, or when somebody who takes no
        lock left half a line just before ours.
        """
        st = self._placed = None if self._fd is None else files.stat_if_same(self._fd, self.path)
        if self._fd is None or st is None:
            return False
        self._exact = st.st_size == self.base + len(self.payload)
        if self._exact:
            return True
        at = tails.find(self._fd, self.payload, min(self.base, st.st_size))
        if at <= 0 or self.payload.startswith(b"\n"):
            return at >= 0
        return files.read_at(self._fd, 1, at - 1) == b"\n"

    def fingerprint(self, now_ns: int) -> Fingerprint | None:
        """Return the log's fingerprint now, None unless all of its bytes are known to us."""
        st = self._placed
        if not (self._trusted and self._exact and st is not None):
            return None
        distinctive = self._mark_ns is not None
        if distinctive and st.st_mtime_ns != self._mark_ns:
            return None
        return Fingerprint(
            size=st.st_size,
            mtime_ns=st.st_mtime_ns,
            ctime_ns=st.st_ctime_ns,
            inode=st.st_ino,
            digest=self.digester.remember(self._digest_so_far()),
            lines=(self.known.lines if self.known else 0) + len(self.lines),
            problems=self.known.problems if self.known else 0,
            ended=True,
            racy=not distinctive and is_racy(st, now_ns),
            shape=self.known.shape if self.known else "",
        )

    def cut_point(self) -> int | None:
        """Return the length to cut the log to, None when it has none of our bytes.

        Raises:
            StuckError: It has our bytes, but not at its end.
        """
        if self._fd is None or not (self._written or self.created):
            return None
        if not files.same_file(self._fd, self.path):
            self._check_successor()
            return None
        size = os.fstat(self._fd).st_size
        behind = size - len(self.payload)
        if behind >= 0 and tails.begins(self._fd, self.payload, behind):
            return behind
        if size < self.base:
            return None
        tail = files.read_at(self._fd, min(size - self.base, len(self.payload)), self.base)
        if self.base + len(tail) == size and self.payload.startswith(tail):
            return self.base if tail or self.created else None
        self._check_absent(self._fd, self.base)
        return None

    def _check_successor(self) -> None:
        """Check that the file which replaced ours has none of our bytes."""
        try:
            fd = files.open_log(self.path)
        except FileNotFoundError:
            return
        try:
            self._check_absent(fd, 0)
        finally:
            os.close(fd)

    def _check_absent(self, fd: int, start: int) -> None:
        if any(tails.find(fd, line + b"\n", start) >= 0 for line in self.lines):
            raise StuckError(f"{self.path} was changed by another program meanwhile")

    def cut(self, size: int) -> None:
        """Take back what `cut_point` found; a file that we made goes when it is empty again."""
        assert self._fd is not None
        if os.fstat(self._fd).st_size != size:
            files.truncate(self._fd, size)
        files.sync(self._fd)
        emptied = self.created and os.fstat(self._fd).st_size == 0
        if emptied and files.same_file(self._fd, self.path):
            files.unlink(self.path)
            files.sync_directory(self.path.parent)

    def close(self) -> None:
        """Unlock and close the log; calling again does what an exception kept from being done."""
        fd = self._fd
        if fd is None:
            return
        # A child forked meanwhile shares the open file, so closing alone would not unlock.
        with contextlib.suppress(OSError):
            release_descriptor(fd)
        # Forgotten before it is closed, because another file may get its number afterwards.
        self._fd = None
        os.close(fd)


def _same_times(before: os.stat_result, now: os.stat_result) -> bool:
    """Say whether nobody has written in between, as far as a stat tells."""
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        now.st_size,
        now.st_mtime_ns,
        now.st_ctime_ns,
    )
