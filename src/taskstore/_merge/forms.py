"""The lines of a merged file: as a log, or with one line per id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from taskstore._merge.logs import Line, Lines, Log, winners
from taskstore._merge.records import Settled, with_time_of
from taskstore._merge.sequences import merge_order, repeated, text_of
from taskstore._merge.values import canonical

__all__ = ["as_log", "one_per_id"]


def one_per_id(
    logs: tuple[Log, Log, Log], settled: Mapping[str, Settled], blocks: Mapping[str, bytes]
) -> list[bytes]:
    """Return the merged lines, one for each id, at its place.

    Args:
        logs: The base and both sides.
        settled: What became of each record.
        blocks: What stands for a record between whose lines a person is to choose.
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
        # Sides that have a place for each id share it, also for the ids that only one has.
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
    """Return the lines of both sides, and after them what had to be settled.

    Args:
        logs: The base and both sides.
        settled: What became of each record.
        blocks: What a person is to choose from.
        known: All lines of the three files.
        keep_all: Whether a line that one side removed stays all the same.
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
    """Return what must follow `lines` so that their replay is what was settled."""
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
    """Return a key for each line, of which repeated ones have one each."""
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
    """Return the keys that both sides have, and those that one has and the base had not."""
    return {key for key in first if key in second or key not in base} | {
        key for key in second if key not in first and key not in base
    }


def _is_sorted(places: Mapping[bytes, None]) -> bool:
    """Say whether a file has its ids in order, and nothing else."""
    keys = list(places)
    return all(key[:1] == b"\n" for key in keys) and keys == sorted(keys)
