"""The merge of two versions of a log that have a common ancestor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import attrs

from taskstore._evolution.graph import Graph
from taskstore._merge.evolved import merge_evolved
from taskstore._merge.lists import merge_order, repeated, text_of
from taskstore._merge.logs import Line, Lines, Log, read_log, winners
from taskstore._merge.records import Settled, with_time_of
from taskstore._merge.values import Clash, Value, canonical


def one_per_id(
    logs: tuple[Log, Log, Log], settled: Mapping[str, Settled], blocks: Mapping[str, bytes]
) -> list[bytes]:
    """Return the merged lines, one for each id, at its place.

    Args:
        logs: The base and both sides.
        settled: Each record after the merge.
        blocks: The text for a record between whose lines a person must choose.
    """
    base, first, second = (_places(log.lines) for log in logs)
    texts = {
        _place_of(id): blocks.get(id, found.line.raw)
        for id, found in settled.items()
        if found.line is not None
    }
    problems = _kept({key: None for key in base if key[:1] != b"\n"}, first, second)
    texts |= {key: text_of(key) for key in problems if key[:1] != b"\n"}
    if all(_is_sorted(places) for places in (first, second)):
        # If both sides have an order of ids, they share it, also for ids that only one side has.
        return [texts[key] for key in sorted(texts)]
    order = merge_order(base, first, second, kept=texts, later=lambda run, other: run > other)
    return [texts[key] for key in order]


def as_log(
    logs: tuple[Log, Log, Log],
    settled: Mapping[str, Settled],
    blocks: Mapping[str, bytes],
    known: Lines,
    *,
    keep_all: bool,
) -> list[bytes]:
    """Return the lines of both sides, and after them the merged records.

    Args:
        logs: The base and both sides.
        settled: Each record after the merge.
        blocks: The text of each record that a person has to decide.
        known: All lines of the three files.
        keep_all: Whether a line that one side removed stays anyway.
    """
    base, first, second = (_numbered(log.lines) for log in logs)
    kept = _kept({} if keep_all else base, first, second)

    def age(run: list[bytes]) -> int:
        return max(known[text_of(key)].order_us for key in run)

    def later(run: list[bytes], other: list[bytes]) -> bool:
        return (age(run), run) > (age(other), other)

    order = merge_order(base, first, second, kept=kept, later=later)
    lines = [known[text_of(key)] for key in order]
    if not keep_all:
        lines = [line for line in lines if line.id is None or settled[line.id].line is not None]
    lines += _missing(lines, {id: settled[id] for id in settled if id not in blocks})
    return [line.raw for line in lines] + [blocks[id] for id in sorted(blocks)]


def _missing(lines: list[Line], settled: Mapping[str, Settled]) -> list[Line]:
    """Return the lines to add after `lines`, so that a replay gives the merged records."""
    replayed = winners(lines)
    missing: list[Line] = []
    for id, found in settled.items():
        line, last = found.line, replayed.get(id)
        if line is None or line is last:
            continue
        if last is None or last.order_us <= line.order_us:
            if last is None or canonical(line.raw) != canonical(last.raw):
                missing.append(line)
        else:
            missing.append(with_time_of(line, last))
    return sorted(missing, key=lambda line: (line.order_us, line.raw))


def _numbered(lines: list[Line]) -> dict[bytes, None]:
    """Return a different key for each line, also for repeated ones."""
    seen: Counter[bytes] = Counter()
    return {repeated(line.raw, seen): None for line in lines}


def _places(lines: list[Line]) -> dict[bytes, None]:
    """Return the ids of records, marked by a newline before them, and the keys of problems."""
    seen: Counter[bytes] = Counter()
    return {
        repeated(line.raw, seen) if line.id is None else _place_of(line.id): None for line in lines
    }


def _place_of(id: str) -> bytes:
    return b"\n" + id.encode()


def _kept(
    base: Mapping[bytes, None], first: Mapping[bytes, None], second: Mapping[bytes, None]
) -> set[bytes]:
    """Return the keys that both sides have, and the keys that one side added."""
    return {key for key in first if key in second or key not in base} | {
        key for key in second if key not in first and key not in base
    }


def _is_sorted(places: Mapping[bytes, None]) -> bool:
    """Return whether a file has its ids in order, and nothing else."""
    keys = list(places)
    return all(key[:1] == b"\n" for key in keys) and keys == sorted(keys)


@attrs.frozen
class Conflict:
    """Two changes of which only one could be kept.

    Attributes:
        id: The record's id.
        field: The field, such as `status` or `meta.owner`; empty for the whole line.
        ours: Our value as JSON; None if it is missing.
        theirs: Their value.
        taken: The side whose value is in the result: "ours" or "theirs".
        reason: The reason.
        is_left: Whether a person has to decide.
    """

    id: str
    field: str
    ours: Value
    theirs: Value
    taken: str
    reason: str
    is_left: bool


@attrs.frozen
class Merged:
    """The result of a merge.

    Attributes:
        data: The merged file.
        conflicts: The differing changes of both sides, in the order of the ids.
        has_markers: Whether a side has the conflict markers of an earlier merge.
    """

    data: bytes
    conflicts: tuple[Conflict, ...] = ()
    has_markers: bool = False

    @property
    def is_left(self) -> bool:
        """Whether a person has something to decide."""
        return self.has_markers or any(conflict.is_left for conflict in self.conflicts)


def merge_logs(
    base: bytes,
    ours: bytes,
    theirs: bytes,
    policies: Mapping[str, str] | None = None,
    graph: Graph | None = None,
) -> Merged:
    """Merge two versions of a log.

    The result has the same bytes whichever version is `ours`.

    Args:
        base: The file before both changes; empty where there was none.
        ours: One version.
        theirs: The other.
        policies: The merge policies by field.
        graph: The evolutions of the collection.

    Raises:
        UnknownRevisionError: Lines of one record have different revisions, and one of them is not
            in the graph.
        InvalidRecordError: A merged line would be longer than a line may be.
    """
    if ours == theirs or base in (ours, theirs):
        data = theirs if ours == base else ours
        return Merged(data, has_markers=read_log(data, {}).has_markers)
    # From here on, no code knows which side is ours, so nothing can depend on it.
    swapped = theirs < ours
    first, second = (theirs, ours) if swapped else (ours, theirs)
    known: Lines = {}
    logs = read_log(base, known), read_log(first, known), read_log(second, known)
    has_markers = logs[1].has_markers or logs[2].has_markers
    is_one_per_id = not has_markers and logs[1].is_one_per_id and logs[2].is_one_per_id
    settled = _settle(logs, policies or {}, graph or Graph(), may_go_back=is_one_per_id)
    blocks = {id: _block(found, swapped) for id, found in settled.items() if found.variants}
    if is_one_per_id:
        lines = one_per_id(logs, settled, blocks)
    else:
        lines = as_log(logs, settled, blocks, known, keep_all=has_markers)
    conflicts = [
        _conflict(id, clash, swapped) for id in sorted(settled) for clash in settled[id].clashes
    ]
    data = b"".join([b"%b\n" % line for line in lines])
    return Merged(data, tuple(conflicts), has_markers)


def _settle(
    logs: tuple[Log, Log, Log], policies: Mapping[str, str], graph: Graph, *, may_go_back: bool
) -> dict[str, Settled]:
    before, first, second = (log.winners for log in logs)
    settled: dict[str, Settled] = {}
    for id in first | second | before:
        ours, theirs, base = first.get(id), second.get(id), before.get(id)
        # Lines are decoded once for all files: most records are one and the same object.
        if ours is theirs or theirs is base:
            settled[id] = Settled(ours)
        elif ours is base:
            settled[id] = Settled(theirs)
        else:
            sides = base, ours, theirs
            settled[id] = merge_evolved(sides, policies, graph, may_go_back=may_go_back)
    return settled


def _block(found: Settled, swapped: bool) -> bytes:
    """Return the lines that a person has to choose from, between git's markers."""
    assert found.variants is not None
    ours, theirs = found.variants[::-1] if swapped else found.variants
    return b"\n".join([b"<<<<<<< ours", ours, b"=======", theirs, b">>>>>>> theirs"])


def _conflict(id: str, clash: Clash, swapped: bool) -> Conflict:
    values = clash.second, clash.first
    ours, theirs = values if swapped else values[::-1]
    taken = "ours" if (clash.taken == 1) == swapped else "theirs"
    return Conflict(id, clash.path, ours, theirs, taken, clash.reason, clash.is_left)
