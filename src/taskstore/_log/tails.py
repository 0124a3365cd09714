"""Compare the end of a log with what we wrote or planned to write there."""

from __future__ import annotations

from taskstore._log import files
from taskstore._log.lines import read_lines

_CHUNK = 1024 * 1024


def begins(fd: int, planned: bytes, offset: int) -> bool:
    """Say whether `planned` stands whole at `offset`."""
    return files.read_at(fd, len(planned), offset) == planned


def is_torn(tail: bytes, planned: bytes) -> bool:
    """Say whether `tail` is what a crash may leave of `planned`: less of it, or holes in it.

    A file system may store the new length and not yet the bytes: such holes read as zeros, which
    cannot occur in a line that we wrote.
    """
    if len(tail) > len(planned):
        return False
    if planned.startswith(tail):
        return True
    return all(found in (0, wanted) for found, wanted in zip(tail, planned, strict=False))


def find(fd: int, needle: bytes, start: int = 0) -> int:
    """Return the first offset, from `start` on, where `needle` occurs in the file, or -1."""
    step = max(_CHUNK, len(needle))
    while True:
        window = files.read_at(fd, step + len(needle) - 1, start)
        at = window.find(needle)
        if at >= 0:
            return start + at
        if len(window) < step + len(needle) - 1:
            return -1
        start += step


def count_lines(fd: int, wanted: frozenset[bytes]) -> int:
    """Return how many of the lines `wanted` (without newlines) stand somewhere in the file."""
    missing = set(wanted)
    for line in read_lines(fd):
        if line.raw is not None:
            missing.discard(line.raw.removesuffix(b"\r"))
        if not missing:
            break
    return len(wanted) - len(missing)
