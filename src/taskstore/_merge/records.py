"""Merge one record: the line of the base and the lines of both sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from taskstore._format.lines import MAX_LINE_BYTES, join_fields, raw_fields
from taskstore._merge.fields import merge_fields
from taskstore._merge.logs import Line
from taskstore._merge.values import (
    Clash,
    Notes,
    Place,
    Three,
    Unsettled,
    Value,
    instant,
    one_sided,
    spellings,
)
from taskstore.errors import InvalidRecordError


class Settled(NamedTuple):
    """A record after the merge.

    Attributes:
        line: Its line; None if it is gone without a tombstone.
        clashes: The changes that could not both be kept.
        variants: The two lines between which a person has to choose, if any.
    """

    line: Line | None
    clashes: tuple[Clash, ...] = ()
    variants: tuple[bytes, bytes] | None = None


def merge_record(
    base: Line | None,
    first: Line | None,
    second: Line | None,
    policies: Mapping[str, str],
    *,
    may_go_back: bool,
) -> Settled:
    """Merge one record.

    Args:
        base: The line that counted before both changes; None if there was none.
        first: The line of one side; None if it removed the line or never had one.
        second: The line of the other side.
        policies: The policies of the fields.
        may_go_back: Whether a time that one side set back may stay, because no other line of the
            record is left. It stays if time decided nothing.

    Raises:
        InvalidRecordError: The merged line would be longer than a line may be.
    """
    found = one_sided(Three(_raw(base), _raw(first), _raw(second)))
    if not isinstance(found, Unsettled):
        return Settled(next((line for line in (first, second) if _raw(line) == found), None))
    if first is None or second is None:
        return _removed_or_edited(first, second)
    three = Three(None if base is None or base.deleted else base.raw, first.raw, second.raw)
    place = Place("", ((first.order_us,), (second.order_us,)))
    if first.deleted and second.deleted:
        return Settled(first if place.later(first.raw, second.raw) else second)
    notes = Notes()
    if first.deleted or second.deleted:
        taken = notes.take_living(three, place.at("deleted"), 0 if first.deleted else 1)
        return Settled(first if taken == first.raw else second, tuple(notes.clashes))
    fields = merge_fields(three, place, policies, notes)
    if not may_go_back or notes.used_rank or fields.get("updated_at") is None:
        fields["updated_at"] = _greater_time(three, place)
    return _settled(fields, (first, second), notes)


def _raw(line: Line | None) -> Value:
    return None if line is None else line.raw


def _removed_or_edited(first: Line | None, second: Line | None) -> Settled:
    kept = second if first is None else first
    if kept is not None and kept.deleted:
        return Settled(kept)  # gone either way
    taken = 1 if first is None else 0
    reason = "an edit beats a removed line"
    return Settled(kept, (Clash("", _raw(first), _raw(second), taken, reason),))


def _greater_time(three: Three, place: Place) -> Value:
    """Return the newer side's `updated_at`; if both are equally new, the one that was changed."""
    base, first, second = (
        None if value is None else raw_fields(value).get("updated_at") for value in three
    )
    if place.newer is not None:
        return (first, second)[place.newer]
    if base in (first, second):
        return second if first == base else first
    return max(first or b"", second or b"") or None


def _settled(fields: dict[str, Value], sides: tuple[Line, Line], notes: Notes) -> Settled:
    clashes = tuple(notes.clashes)
    present = _present(fields)
    spelled = spellings(*(side.raw for side in sides))
    left = [clash for clash in clashes if clash.is_left]
    variants: tuple[bytes, bytes] | None = None
    if left:
        by_side = [{clash.path: clash.first for clash in left}]
        by_side.append({clash.path: clash.second for clash in left})
        first, second = (join_fields(_present(fields | values), spelled) for values in by_side)
        variants = first, second
    for side in sides:
        if raw_fields(side.raw) == present:
            return Settled(side, clashes, variants)
    raw = _checked(join_fields(present, spelled), sides[0])
    line = Line(raw, sides[0].id, instant(fields.get("updated_at")))
    return Settled(line, clashes, variants)


def _checked(raw: bytes, side: Line) -> bytes:
    """Refuse a line that is too long: each side was short enough, but the merged line is not."""
    if len(raw) > MAX_LINE_BYTES:
        raise InvalidRecordError(
            collection="the merged record",
            id=side.id,
            reason=f"its line would be longer than {MAX_LINE_BYTES // 2**20} MiB; shorten it on "
            "one side and merge again",
        )
    return raw


def _present(fields: Mapping[str, Value]) -> dict[str, bytes]:
    return {key: value for key, value in fields.items() if value is not None}


def with_time_of(line: Line, newer: Line) -> Line:
    """Return a record's line with the time of another one of its lines."""
    fields = raw_fields(line.raw)
    time = raw_fields(newer.raw).get("updated_at")
    if time is None:
        fields.pop("updated_at", None)
    else:
        fields["updated_at"] = time
    raw = _checked(join_fields(fields, spellings(line.raw)), line)
    return Line(raw, line.id, newer.order_us, line.deleted)
