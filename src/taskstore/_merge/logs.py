"""A log in a merge: its lines, and the line that counts for each id."""

from __future__ import annotations

from typing import NamedTuple

import attrs

from taskstore._format.lines import MAX_LINE_BYTES, LineError, decode_key

_BOM = b"\xef\xbb\xbf"
_MARKERS = (b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")


class Line(NamedTuple):
    """A line without its end.

    Attributes:
        raw: Its bytes.
        id: The record's id; None for a line that is not a record.
        order_us: The record's time, in microseconds since the epoch.
        deleted: Whether it is a tombstone.
    """

    raw: bytes
    id: str | None
    order_us: int = 0
    deleted: bool = False

    @property
    def is_marker(self) -> bool:
        """Whether it is a git conflict marker."""
        return self.id is None and self.raw.startswith(_MARKERS)


Lines = dict[bytes, Line]
"""Lines by their bytes, so that a line in several files is decoded once."""


@attrs.frozen
class Log:
    """A file that was read.

    Attributes:
        lines: Its lines, without the blank ones.
        winners: The line of each id that counts.
    """

    lines: list[Line]
    winners: dict[str, Line]

    @property
    def has_markers(self) -> bool:
        """Whether an earlier merge of this file was never finished."""
        return any(line.id is None and line.is_marker for line in self.lines)

    @property
    def is_one_per_id(self) -> bool:
        """Whether no id has a second line, as in a file whose tool rewrites changed lines."""
        return len(self.winners) == sum(line.id is not None for line in self.lines)


def read_log(data: bytes, known: Lines) -> Log:
    """Read a file. A byte-order mark, CRLF and blank lines are accepted.

    Args:
        data: The file.
        known: The lines of the files read before; this one's are added.
    """
    raws = data.removeprefix(_BOM).split(b"\n")
    if b"\r" in data:
        raws = [raw.removesuffix(b"\r") for raw in raws]
    lines: list[Line] = []
    for raw in raws:
        line = known.get(raw)
        if line is None:
            if _is_blank(raw):
                continue
            line = known[raw] = _decoded(raw)
        lines.append(line)
    return Log(lines, winners(lines))


def winners(lines: list[Line]) -> dict[str, Line]:
    """Replay lines: return the newest for each id, or the last among equally new ones."""
    found: dict[str, Line] = {}
    known = found.get
    for line in lines:
        id = line.id
        if id is not None:
            other = known(id)
            if other is None or line.order_us >= other.order_us:
                found[id] = line
    return found


def _decoded(raw: bytes) -> Line:
    try:
        id, order_us, deleted, _, _ = decode_key(raw)
    except LineError:
        return Line(raw, None)
    return Line(raw, id, order_us, deleted)


def _is_blank(raw: bytes) -> bool:
    return not raw or (raw.isspace() and len(raw) <= MAX_LINE_BYTES)
