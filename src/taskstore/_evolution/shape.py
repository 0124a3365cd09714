"""The shape in which one program reads and writes the lines of a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Any

import attrs
import msgspec

from taskstore._evolution.decoding import encode_evolution
from taskstore._evolution.graph import Graph, Position, parse_position
from taskstore._evolution.steps import Fields, inverse_of
from taskstore._format.lines import MAX_LINE_BYTES, encode_value, join_fields, key_spellings
from taskstore._format.lines import REVISION_KEY as KEY
from taskstore.errors import InvalidRecordError

MARK = b'"$revision"'
"""How a line spells the reserved key, unless it spells it with escapes."""

UNKNOWN = "written under the revision"
"""How the reason begins why a newer line is not read."""

_MARK = MARK.decode()
_ESCAPE = "\\u00"
_ESCAPED = _ESCAPE.encode()
_NULL = msgspec.Raw(b"null")
_decode_fields = msgspec.json.Decoder(Fields).decode
_encode_fields = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_Apply = Callable[[Fields], Fields]
_REMEMBERED = 1000
_DIGEST = 32


@attrs.frozen(eq=False, slots=False)
class Shape:
    """A place in a collection's graph, which all lines are brought to.

    Attributes:
        graph: The evolutions that are known.
        position: Those that the shape has behind it.
        reverted: Those that were reverted here. Their lines are read back to the shape, as far
            as that can be done; lines of others that the shape lacks are newer, and not read.
    """

    graph: Graph = attrs.field(factory=Graph)
    position: Position = frozenset()
    reverted: Position = frozenset()

    @cached_property
    def stamp(self) -> str:
        """The revision in lines of this shape; empty before the first evolution."""
        return self.graph.name_of(self.position)

    @cached_property
    def signature(self) -> str:
        """A text that changes when lines would be read differently; empty without evolutions.

        It ends with the stamp, so that records of this shape can be converted to another one.
        """
        if not self.position and not self.reverted:
            return ""
        digest = sha256()
        for sign, place in (b"+", self.position), (b"-", self.reverted - self.position):
            for evolution in self.graph.between(frozenset(), place):
                digest.update(b"%b%b\n" % (sign, encode_evolution(evolution)))
        return f"{digest.hexdigest()[:_DIGEST]}:{self.stamp}"

    @cached_property
    def _end(self) -> str:
        return f',{_MARK}:"{self.stamp}"}}'

    def stamped(self, line: bytes, collection: str) -> bytes:
        """Return a line of this shape with the reserved key.

        Raises:
            InvalidRecordError: It has the key already, or is too long for it.
        """
        if has_mark(line):
            id = _decode(line)["id"]
            reason = f"the key {KEY!r} belongs to the format: give it another name"
            raise InvalidRecordError(collection=collection, id=id, field=KEY, reason=reason)
        if not self.stamp:
            return line
        stamped = b"%b%b" % (line.rstrip()[:-1], self._end.encode())
        if len(stamped) > MAX_LINE_BYTES:
            id, reason = _decode(line)["id"], "its line would be longer than 16 MiB"
            raise InvalidRecordError(collection=collection, id=id, reason=reason)
        return stamped

    def stamped_all(self, lines: Sequence[bytes], collection: str) -> Sequence[bytes]:
        """Return lines as `stamped` does."""
        if not self.stamp and not _may_have_mark(b"\n".join(lines)):
            return lines
        return [self.stamped(line, collection) for line in lines]

    def read(self, line: str) -> str | None:
        """Return a record's line in this shape, without the reserved key; None if it is newer."""
        if line.endswith(self._end):
            # The usual line has been written in this shape.
            bare = f"{line[: -len(self._end)]}}}"
            if _MARK not in bare:
                return bare
        elif self._base == () and _MARK not in line and _ESCAPE not in line:
            return line
        fields = _decode_fields(line)
        steps: tuple[_Apply, ...] | None = self._base
        mark = fields.pop(KEY, None)
        if mark is not None and mark != _NULL:
            steps = self._paths(_text_of(_decode(mark)))
            if steps is None:
                return None
        elif not steps:
            return line
        for apply in steps or ():
            fields = apply(fields)
        read = (
            _encode_fields(fields)
            if "\\" not in line
            else join_fields({key: bytes(raw) for key, raw in fields.items()}, key_spellings(line))
        )
        return read.decode() if len(read) <= MAX_LINE_BYTES else None

    def rewritten(self, raw: bytes) -> bytes:
        """Return a live record's line as it would be written today.

        A line of a newer shape, or one that would become too long, stays as it is.
        """
        line = raw.decode().strip(" \t\r")
        read = self.read(line)
        if read is None or not self.stamp or line.endswith(self._end):
            return raw
        stamped = f"{read.rstrip()[:-1]}{self._end}".encode()
        return stamped if len(stamped) <= MAX_LINE_BYTES else raw

    def moved(self, line: str, signature: str) -> str | None:
        """Return a record's line without the reserved key, read by another shape, in this one.

        Args:
            line: The line.
            signature: That of the other shape.

        Returns:
            The line; None if it cannot be brought to this shape.
        """
        return self.read(with_stamp(line, signature))

    def shown(self, raw: bytes) -> bytes | str:
        """Return a good line in this shape; as it stands, where it is newer.

        A tombstone has no shape, and loses the reserved key alone.
        """
        if _decode(raw).get("deleted") is True:
            return without_mark(raw)
        read = self.read(raw.decode())
        return raw if read is None else read

    def lacks(self, mark: Any) -> str | None:
        """Return why a line cannot be read in this shape; None if it can.

        Args:
            mark: What it has under the reserved key.
        """
        name = _text_of(mark)
        if self._paths(name) is not None:
            return None
        if self.graph.closure(parse_position(name)) is None:
            lacking = "evolutions.jsonl does not state: pull it"
        else:
            lacking = "this application has not reached: upgrade it, and its database"
        return f"{UNKNOWN} {name!r}, which {lacking}; the line is kept"

    def winners(
        self, winners: Iterator[tuple[str, int, bool, str]], *, marked: bool
    ) -> Iterator[tuple[str, int, bool, str]]:
        """Return the winners of a replay in this shape.

        A newer line is passed on as it is, and marked like a tombstone: it hides the record.

        Args:
            winners: The winners.
            marked: Whether any line that was read has the reserved key.
        """
        # Collections that have never evolved pay nothing.
        return self._read_all(winners) if marked or self._base else winners

    def _read_all(
        self, winners: Iterator[tuple[str, int, bool, str]]
    ) -> Iterator[tuple[str, int, bool, str]]:
        for id, order_us, deleted, line in winners:
            if deleted:
                yield id, order_us, True, line
            else:
                read = self.read(line)
                yield (id, order_us, True, line) if read is None else (id, order_us, False, read)

    @cached_property
    def _base(self) -> tuple[_Apply, ...]:
        return self._path(frozenset())

    @cached_property
    def _paths(self) -> Callable[[str], tuple[_Apply, ...] | None]:
        return lru_cache(_REMEMBERED)(self._path_from)

    def _path_from(self, name: str) -> tuple[_Apply, ...] | None:
        written = self.graph.closure(parse_position(name))
        if written is None or written - self.position - self.reverted:
            return None
        return self._path(written)

    def _path(self, written: Position) -> tuple[_Apply, ...]:
        back = self.graph.between(self.position, written)
        steps = [step for one in reversed(back) for step in inverse_of(one.steps)]
        for evolution in self.graph.between(written, self.position):
            steps += evolution.steps
        return tuple(step.apply for step in steps)


def with_stamp(line: str, signature: str) -> str:
    """Return a line without the reserved key as a shape with some signature writes it."""
    stamp = signature[_DIGEST + 1 :]
    return f"{line.rstrip()[:-1]},{_MARK}:{encode_value(stamp).decode()}}}" if stamp else line


NO_SHAPE = Shape()
"""That of a collection without evolutions."""


def has_mark(line: bytes) -> bool:
    """Say whether a line has the reserved key."""
    return _may_have_mark(line) and _decode_fields(line).get(KEY, _NULL) != _NULL


def _may_have_mark(text: bytes) -> bool:
    return MARK in text or _ESCAPED in text


def mark_of(line: bytes) -> str:
    """Return the text that a good line has under the reserved key; empty for none."""
    found = _decode_fields(line).get(KEY, _NULL) if has_mark(line) else _NULL
    return "" if found == _NULL else _text_of(_decode(found))


def without_mark(line: bytes) -> bytes:
    """Return a good line without the reserved key."""
    if not has_mark(line):
        return line
    fields = {key: bytes(raw) for key, raw in _decode_fields(line).items() if key != KEY}
    return join_fields(fields, key_spellings(line))


def _text_of(mark: Any) -> str:
    """Return the text of the reserved key; for any other value what names no revision."""
    return mark if isinstance(mark, str) and mark else f"({str(mark)[:80]})"
