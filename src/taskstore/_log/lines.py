"""Split bytes into lines, in bounded memory even for long lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from taskstore._format.lines import MAX_LINE_BYTES, OVERLONG, LineError
from taskstore._log import files

BOM = b"\xef\xbb\xbf"
"""The byte-order mark that some editors put before the first line."""

_CHUNK = 1024 * 1024

# A line may have a byte-order mark before it and a carriage return after it. `decode_key` checks
# the exact length.
_LIMIT = MAX_LINE_BYTES + 4

_new = tuple.__new__


class Line(NamedTuple):
    """A line and its place.

    Attributes:
        number: Its number, from 1.
        start: The offset of its first byte.
        end: The offset after its newline, or after its last byte.
        raw: Its bytes without the newline; None if the line is too long to keep.
        ended: Whether it has a newline.
    """

    number: int
    start: int
    end: int
    raw: bytes | None
    ended: bool

    @property
    def length(self) -> int:
        """How many bytes it has without its newline."""
        return self.end - self.start - self.ended


def split_lines(chunks: Iterable[bytes], start: int = 0) -> Iterator[Line]:
    """Yield the lines of bytes that come in chunks. A line that is too long has no bytes.

    Args:
        chunks: The bytes.
        start: The offset of the first of them.
    """
    number = 1
    carry = b""
    length = 0  # of the line that has no newline yet, of which `carry` may have nothing
    for data in chunks:
        first, *others = data.split(b"\n")
        length += len(first)
        carry = carry + first if length <= _LIMIT else b""
        if not others:
            continue
        yield Line(number, start, start + length + 1, carry if length <= _LIMIT else None, True)
        number, start = number + 1, start + length + 1
        carry = others.pop()
        length = len(carry)
        for raw in others:
            end = start + len(raw) + 1
            # The loop that a million lines go through: twice as fast as calling the class.
            yield _new(Line, (number, start, end, raw if len(raw) <= _LIMIT else None, True))
            number, start = number + 1, end
    if length:
        yield Line(number, start, start + length, carry if length <= _LIMIT else None, False)


def chunks_of(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a stream in chunks."""
    while data := stream.read(_CHUNK):
        yield data


def whole_lines(chunks: Iterable[bytes]) -> bytes:
    """Return bytes that come in chunks, if none of their lines is too long.

    Args:
        chunks: The bytes. No chunk is longer than a line may be.

    Raises:
        LineError: A line is too long. The message says which.
    """
    parts: list[bytes] = []
    length = 0
    for data in chunks:
        parts.append(data)
        first = data.find(b"\n")
        length += len(data) if first < 0 else first
        if length > _LIMIT:
            number = 1 + sum(part.count(b"\n") for part in parts[:-1])
            raise LineError(f"line {number} is {OVERLONG}")
        if first >= 0:
            length = len(data) - data.rfind(b"\n") - 1
    return b"".join(parts)


def read_lines(fd: int, *, start: int = 0, limit: int | None = None) -> Iterator[Line]:
    """Yield the lines of a file; the first one without a byte-order mark, which belongs to none.

    Args:
        fd: The file, open for reading.
        start: The offset to begin at: 0, or just after a newline.
        limit: The offset to stop at; None for the end of the file.

    Raises:
        OSError: The file cannot be read.
    """
    lines = split_lines(read_bytes(fd, start, limit), start)
    for line in lines:
        if line.start == 0 and line.raw is not None and line.raw.startswith(BOM):
            line = line._replace(start=len(BOM), raw=line.raw[len(BOM) :])
        yield line
        break
    yield from lines


def read_bytes(fd: int, start: int, stop: int | None) -> Iterator[bytes]:
    """Yield the bytes of a file from `start` to `stop`, or to its end, in chunks."""
    while stop is None or start < stop:
        want = _CHUNK if stop is None else min(_CHUNK, stop - start)
        data = files.read_at(fd, want, start)
        if not data:
            return
        yield data
        start += len(data)
