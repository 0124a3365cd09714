"""The fingerprint of a log that was read, so that its stat shows whether it has changed."""

from __future__ import annotations

import os
from typing import NamedTuple, Protocol, Self

_TICK_NS = 100_000_000
_COARSE_TICK_NS = 2_000_000_000
_SECOND_NS = 1_000_000_000


class ReadFacts(Protocol):
    """What a fingerprint takes over from a replay."""

    size: int
    lines: int
    ended: bool

    @property
    def digest(self) -> str:
        """The keyed digest of the bytes before `size`."""
        ...

    @property
    def problem_count(self) -> int:
        """How many lines of the whole file are not records."""
        ...


class Fingerprint(NamedTuple):
    """The state of a log when it was read.

    Attributes:
        size: Bytes that were read, which is the whole file.
        mtime_ns: Time of the last change of its bytes, in nanoseconds since the epoch.
        ctime_ns: Time of the last change of the file, likewise.
        inode: Its number in the file system.
        digest: Of exactly the bytes that were read, keyed with this clone's mark.
        lines: Lines in it, blank ones and problems too.
        problems: Lines that are not records.
        ended: Whether the last line has its newline (or the file is empty).
        racy: Whether it was read so soon after its last change that another change in the same
            tick of the clock would leave the same stat. Then an equal stat proves nothing, and the
            digest must be compared.
        shape: The signature of the evolutions with which its lines were read; empty for none.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: str
    lines: int
    problems: int
    ended: bool
    racy: bool
    shape: str = ""

    def matches(self, st: os.stat_result) -> bool:
        """Say whether `st` is the stat that was recorded."""
        return (self.size, self.mtime_ns, self.ctime_ns, self.inode) == (
            st.st_size,
            st.st_mtime_ns,
            st.st_ctime_ns,
            st.st_ino,
        )

    @classmethod
    def of(cls, st: os.stat_result, replay: ReadFacts, now_ns: int, shape: str = "") -> Self:
        """Return the fingerprint of a file that was replayed whole.

        Args:
            st: Its `fstat`, the same before and after it was read.
            replay: What was read.
            now_ns: The time when `st` was taken, in nanoseconds since the epoch.
            shape: The signature of the evolutions by which it was read.
        """
        return cls(
            size=st.st_size,
            mtime_ns=st.st_mtime_ns,
            ctime_ns=st.st_ctime_ns,
            inode=st.st_ino,
            digest=replay.digest,
            lines=replay.lines,
            problems=replay.problem_count,
            ended=replay.ended,
            racy=is_racy(st, now_ns),
            shape=shape,
        )

    def renewed(self, st: os.stat_result, now_ns: int) -> Self:
        """Return the fingerprint of the same bytes under a new stat (after a touch, say)."""
        return self._replace(
            size=st.st_size,
            mtime_ns=st.st_mtime_ns,
            ctime_ns=st.st_ctime_ns,
            inode=st.st_ino,
            racy=is_racy(st, now_ns),
        )


NOTHING_READ = Fingerprint(
    size=0,
    mtime_ns=0,
    ctime_ns=0,
    inode=0,
    digest="",
    lines=0,
    problems=0,
    ended=False,
    racy=True,
)
"""What is recorded of a log that was written to, and never read: no file is like it."""


def is_racy(st: os.stat_result, now_ns: int) -> bool:
    """Return whether a file may still change without changing its stat.

    A change sets the file's times to the clock's last tick, so that is possible for as long as
    the tick lasts: some milliseconds, or up to two seconds where times are kept in seconds.
    """
    coarse = st.st_mtime_ns % _SECOND_NS == 0
    latest = max(st.st_mtime_ns, st.st_ctime_ns)
    if os.name != "nt" and st.st_ctime_ns % _SECOND_NS != 0:
        # Nobody can set ctime, and every change moves it: an mtime in the future, or one cut to
        # whole seconds by a tool, does not make a file suspicious for ever.
        coarse, latest = False, st.st_ctime_ns
    return latest >= now_ns - (_COARSE_TICK_NS if coarse else _TICK_NS)
