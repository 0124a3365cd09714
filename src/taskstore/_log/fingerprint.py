"""The bytes of a log as a checksum, and the mark that our own appends leave on it."""

from __future__ import annotations

import os
import random
import zlib

from taskstore._log import files

__all__ = ["checksum", "make_distinctive"]

# Small enough to stay in the processor's cache between being read and being summed up.
_CHUNK = 256 * 1024


def make_distinctive(fd: int, now_ns: int) -> bool:
    """Give a file that we have just appended to a time that no other change will give it.

    Returns:
        Whether that worked: then the file is not racy, though it has just changed.
    """
    wanted = now_ns - 20_000_000 - random.randrange(10_000_000)  # noqa: S311
    try:
        files.set_mtime(fd, now_ns, wanted)
        # Some file systems keep microseconds, and some whole seconds, which tell nothing.
        return abs(os.fstat(fd).st_mtime_ns - wanted) < 1_000
    except OSError:
        return False


def checksum(fd: int, stop: int, start: int = 0, value: int = 0) -> int:
    """Return the CRC-32 of the bytes from `start` to `stop`, carried on from `value`.

    Raises:
        EOFError: The file is shorter than `stop`.
    """
    while start < stop:
        data = files.read_at(fd, min(_CHUNK, stop - start), start)
        if not data:
            raise EOFError(f"the file ends at byte {start}, {stop} were expected")
        value = zlib.crc32(data, value)
        start += len(data)
    return value
