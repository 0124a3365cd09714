"""Read a log: find the line that wins for each id, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import attrs

from taskstore._format.instants import MIN_MS
from taskstore._format.lines import MAX_LINE_BYTES, OVERLONG, LineError, decode_key
from taskstore._format.problems import Problem
from taskstore._log import files
from taskstore._log.digest import LogDigest
from taskstore._log.lines import BOM

_CHUNK = 1024 * 1024

# A line may have a mark of three bytes before it and a carriage return after it.
_CARRY_LIMIT = MAX_LINE_BYTES + 4
_JSON_SPACE = " \t\r\n"

# A winner is one integer, so that half a million of them fit into memory and compare at once:
# from the highest bit on, its time, the offset of its line, the line's length, and the tombstone.
_LENGTH_BITS = 25
_OFFSET_BITS = 42
_TIME_SHIFT = _OFFSET_BITS + _LENGTH_BITS + 1
_OFFSET_SHIFT = _LENGTH_BITS + 1
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_MIN_US = MIN_MS * 1000


class LogChangedError(Exception):
    """A log became shorter or changed while it was read. Read it again."""


class Winner(NamedTuple):
    """The line of an id that counts.

    `order_us` is in microseconds since the epoch; `line` is the line's text without newline,
    byte-order mark and the white space around it.
    """

    id: str
    order_us: int
    deleted: bool
    line: str


@attrs.define(eq=False)
class Replay:
    """The result of reading a log or its new part.

    Attributes:
        collection: The collection.
        path: Its log.
        start: The offset, in bytes, where reading began.
        size: The offset where it ended.
        first_line: Lines before `start`.
        lines: Lines before `size`, blank ones and problems too.
        records: Lines read that are records.
        problems: Lines read that are not records.
        problems_before: How many problems there were before `start`.
        ended: Whether the last line has its newline, or nothing is there at all.
        marked: Whether a live record has the reserved key.
    """

    collection: str
    path: str
    start: int = 0
    size: int = 0
    first_line: int = 0
    lines: int = 0
    records: int = 0
    problems: list[Problem] = attrs.field(factory=list)
    problems_before: int = 0
    ended: bool = True
    marked: bool = False
    _digest: LogDigest | None = attrs.field(default=None, repr=False)
    _winners: dict[str, int] = attrs.field(factory=dict, repr=False)

    def __len__(self) -> int:
        """The number of different ids that were read."""
        return len(self._winners)

    @property
    def problem_count(self) -> int:
        """The number of lines that are not records, in the whole file up to `size`."""
        return self.problems_before + len(self.problems)

    @property
    def digest(self) -> str:
        """The digest of all bytes before `size`, if it was requested."""
        assert self._digest is not None, "the replay was given no digest to carry forward"
        return self._digest.text()

    def winners(self, fd: int) -> Iterator[Winner]:
        """Yield the winners in the order of their ids, as UTF-8 bytes and SQLite compare them.

        Args:
            fd: The same file, open for reading.

        Raises:
            LogChangedError: It has become shorter. The caller finds other changes with `fstat`.
        """
        winners = self._winners
        pread = os.pread
        for id in sorted(winners):
            packed = winners[id]
            length = (packed >> 1) & _LENGTH_MASK
            raw = pread(fd, length, (packed >> _OFFSET_SHIFT) & _OFFSET_MASK)
            if len(raw) != length:
                raw = self._read_again(fd, packed)
            order_us = (packed >> _TIME_SHIFT) + _MIN_US
            yield Winner(id, order_us, packed & 1 == 1, raw.decode().strip(_JSON_SPACE))

    def places(self) -> Iterator[tuple[str, int, int, bool]]:
        """Yield id, offset in bytes, order and tombstone mark of each winner, in no order."""
        for id, packed in self._winners.items():
            offset = (packed >> _OFFSET_SHIFT) & _OFFSET_MASK
            yield id, offset, (packed >> _TIME_SHIFT) + _MIN_US, packed & 1 == 1

    def _read_again(self, fd: int, packed: int) -> bytes:
        length = (packed >> 1) & _LENGTH_MASK
        raw = files.read_at(fd, length, (packed >> _OFFSET_SHIFT) & _OFFSET_MASK)
        if len(raw) != length:
            raise LogChangedError(self.path)
        return raw


def replay(
    fd: int,
    *,
    collection: str,
    path: str,
    start: int = 0,
    digest: LogDigest | None = None,
    first_line: int = 0,
    problems_before: int = 0,
    limit: int | None = None,
    lacks: Callable[[Any], str | None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Replay:
    """Read a log from `start` to its end.

    Unless the caller holds the log lock, the file may change while it is read. To notice that,
    compare `fstat` before and after.

    Args:
        fd: The log, open for reading.
        collection: Its collection.
        path: Its path, for the problems.
        start: Where to begin, in bytes: 0, or just after a newline.
        digest: Of the bytes before `start`, to be carried forward; None if it is not needed.
        first_line: Lines before `start`.
        problems_before: Problems among those.
        limit: Where to stop, in bytes from the start of the file; None for its end.
        lacks: Called for each live line with the reserved key. It returns why the value is
            unknown, or None if it is known. A line with an unknown value is a problem, and hides
            older lines of its record.
        on_progress: Called with the offset reached, in bytes, after each mebibyte.

    Raises:
        OSError: The file cannot be read.
    """
    found = Replay(
        collection,
        path,
        start=start,
        size=start,
        first_line=first_line,
        lines=first_line,
        problems_before=problems_before,
        digest=digest,
    )
    reader = _Reader(found, lacks)
    while True:
        want = _CHUNK if limit is None else min(_CHUNK, limit - found.size)
        data = files.read_at(fd, want, found.size) if want > 0 else b""
        if not data:
            break
        found.size += len(data)
        if digest is not None:
            digest.update(data)
        reader.take(data)
        if on_progress is not None:
            on_progress(found.size)
    reader.finish()
    return found


class _Reader:
    """Cuts chunks into lines; a line that is too long is skipped without being kept."""

    def __init__(self, found: Replay, lacks: Callable[[Any], str | None] | None) -> None:
        self._found = found
        self._lacks = lacks
        self._offset = found.start
        self._carry = b""
        self._overlong = False

    def take(self, data: bytes) -> None:
        head, newline, rest = data.partition(b"\n")
        if not newline:
            self._extend(head)
            return
        self._extend(head)
        self._settle()
        if rest:
            lines = rest.split(b"\n")
            last = lines.pop()
            self._read_lines(lines)
            self._extend(last)

    def finish(self) -> None:
        found = self._found
        found.ended = not (self._carry or self._overlong)
        if not found.ended:
            self._settle()

    def _extend(self, data: bytes) -> None:
        self._carry += data
        if len(self._carry) > _CARRY_LIMIT or self._overlong:
            self._offset += len(self._carry)
            self._carry = b""
            self._overlong = True

    def _settle(self) -> None:
        """Read the line that is complete in the carry."""
        line, self._carry = self._carry, b""
        if self._overlong:
            self._overlong = False
            self._found.lines += 1
            self._offset += 1
            self._report(LineError(OVERLONG), self._found.lines)
            return
        if self._offset == 0 and line.startswith(BOM):
            self._offset = len(BOM)
            line = line[len(BOM) :]
        self._read_lines([line])

    def _read_lines(self, lines: list[bytes]) -> None:
        # The loop that a million lines go through: locals, and nothing done twice.
        found = self._found
        winners = found._winners
        known = winners.get
        offset = self._offset
        number = found.lines
        bad = 0
        for line in lines:
            number += 1
            length = len(line)
            try:
                id, order_us, deleted, _, mark = decode_key(line)
            except LineError as error:
                bad += 1
                if not _is_blank(line):
                    self._report(error, number)
            else:
                packed = (
                    (order_us - _MIN_US) << _TIME_SHIFT
                    | offset << _OFFSET_SHIFT
                    | length << 1
                    | deleted
                )
                if packed > known(id, -1):
                    winners[id] = packed
                if mark is not None and not deleted:
                    bad += self._is_newer(mark, id, number)
            offset += length + 1
        found.records += len(lines) - bad
        found.lines = number
        self._offset = offset

    def _is_newer(self, mark: Any, id: str, number: int) -> bool:
        self._found.marked = True
        reason = self._lacks(mark) if self._lacks is not None else None
        if reason is not None:
            self._report(LineError(reason, id), number)
        return reason is not None

    def _report(self, error: LineError, number: int) -> None:
        found = self._found
        problem = Problem(found.collection, found.path, number, error.reason, error.id)
        found.problems.append(problem)


def _is_blank(line: bytes) -> bool:
    return not line or (line.isspace() and len(line) <= MAX_LINE_BYTES)
