"""The merge of records whose lines were written under different revisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from taskstore._evolution.graph import Graph, parse_position
from taskstore._evolution.shape import Shape, mark_of
from taskstore._merge.logs import Line
from taskstore._merge.records import Settled, merge_record
from taskstore.errors import UnknownRevisionError


def merge_evolved(
    sides: tuple[Line | None, Line | None, Line | None],
    policies: Mapping[str, str],
    graph: Graph,
    *,
    may_go_back: bool,
) -> Settled:
    """Merge one record like `merge_record`, in the newest shape of its lines.

    Args:
        sides: The line of the base, and those of both sides.
        policies: The policies of the fields, by their newest names.
        graph: The evolutions of the collection.
        may_go_back: See `merge_record`.

    Raises:
        UnknownRevisionError: A line was written under a revision that the graph lacks.
        InvalidRecordError: The merged line would be longer than a line may be.
    """
    marks = {mark_of(line.raw) for line in sides if line is not None and not line.deleted}
    if len(marks) < 2:
        return merge_record(*sides, policies, may_go_back=may_go_back)
    position = graph.closure(name for mark in marks for name in parse_position(mark))
    if position is None:
        raise UnknownRevisionError(
            collection="the merged record",
            id=next(line.id for line in sides if line is not None) or "",
            revision=next(mark for mark in sorted(marks) if not _is_known(graph, mark)),
        )
    shape = Shape(graph, position)
    base, first, second = (None if line is None else _read(line, shape) for line in sides)
    found = merge_record(base, first, second, policies, may_go_back=may_go_back)
    line = _written(found.line, ((first, sides[1]), (second, sides[2])), shape)
    if found.variants is None:
        return Settled(line, found.clashes)
    ours, theirs = found.variants
    return Settled(line, found.clashes, (_stamped(ours, shape), _stamped(theirs, shape)))


def _is_known(graph: Graph, mark: str) -> bool:
    return graph.closure(parse_position(mark)) is not None


def _read(line: Line, shape: Shape) -> Line:
    if line.deleted:
        return line
    found = shape.read(line.raw.decode().strip(" \t\r"))
    # Too long in the newest shape: merge it as it is, which is refused for the same reason.
    return line if found is None else line._replace(raw=found.encode())


def _written(
    line: Line | None, sides: Iterable[tuple[Line | None, Line | None]], shape: Shape
) -> Line | None:
    """Return the line to write: the bytes of a side, if that is the result."""
    if line is None or line.deleted:
        return line
    for read, side in sides:
        if line is read:
            return side
    return line._replace(raw=_stamped(line.raw, shape))


def _stamped(raw: bytes, shape: Shape) -> bytes:
    return shape.stamped(raw, "the merged record")
