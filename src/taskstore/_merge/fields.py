"""The merge of one record's fields, nested objects and lists included."""

from __future__ import annotations

from collections.abc import Mapping

from taskstore._format.instants import parse_instant
from taskstore._format.lines import encode_value, join_fields, raw_fields
from taskstore._merge.lists import merge_lists
from taskstore._merge.texts import merge_text
from taskstore._merge.values import (
    UNSETTLED,
    Notes,
    Place,
    Three,
    Unsettled,
    Value,
    canonical,
    decode,
    is_list,
    is_object,
    one_sided,
    spellings,
)

Fields = dict[str, Value]


def merge_fields(three: Three, place: Place, policies: Mapping[str, str], notes: Notes) -> Fields:
    """Merge the fields of two objects; a field that is gone has None.

    The order of the keys is that of the newer side, with the other's own after them.

    Args:
        three: The objects. A base that is not an object has no fields.
        place: Where they are.
        policies: The policies of the fields. A missing one is that of the place.
        notes: Where to note what could not be kept.
    """
    base, first, second = (
        raw_fields(value) if value is not None and is_object(value) else {} for value in three
    )
    leads = place.later(three.first, three.second)
    merged: Fields = {}
    for key in first | second if leads else second | first:
        values = Three(base.get(key), first.get(key), second.get(key))
        settled = one_sided(values)
        if not isinstance(settled, Unsettled):
            merged[key] = settled
        elif key == "updated_at":
            merged[key] = _time(values, place, notes)
        else:
            step = f".{key}" if place.path else key
            merged[key] = _value(values, place.at(step, policies.get(key)), notes)
    return merged


def _time(three: Three, place: Place, notes: Notes) -> Value:
    """Merge an `updated_at`, of which two changes are no clash but the rule."""
    notes.used_rank = True
    return three[1 if place.later(canonical(three.first), canonical(three.second)) else 2]


def _value(three: Three, place: Place, notes: Notes) -> Value:
    settled = _by_policy(three, place, notes)
    return _by_parts(three, place, notes) if isinstance(settled, Unsettled) else settled


def _by_policy(three: Three, place: Place, notes: Notes) -> Value | Unsettled:
    """Apply the policy of the place, if it fits such values."""
    if place.policy == "fail":
        return _newest(three, place, notes, is_left=True)
    if place.policy in ("max", "min"):
        return _extreme(three, greatest=place.policy == "max")
    return _text(three, place, notes) if place.policy == "text" else UNSETTLED


def _by_parts(three: Three, place: Place, notes: Notes) -> Value:
    """Merge objects field by field and lists as sets; take the newer of all other values."""
    if is_object(three.first) and is_object(three.second):
        return _object(three, place, notes)
    if is_list(three.first) and is_list(three.second):
        merged = merge_lists(three, place, notes, _object)
        if merged is not None:
            return merged
    return _newest(three, place, notes)


def _object(three: Three, place: Place, notes: Notes) -> Value:
    place = place.inside(three)
    merged = merge_fields(three, place, {}, notes)
    times = [rank[0] for rank in place.ranks]
    if times[0] != times[1] and (newer := three[1 + times.index(max(times))]) is not None:
        # A time never goes back; otherwise a second merge would decide differently.
        merged["updated_at"] = raw_fields(newer)["updated_at"]
    present = {key: value for key, value in merged.items() if value is not None}
    for side in three[1:]:
        # A side that already has the whole result keeps its order of keys.
        if side is not None and raw_fields(side) == present:
            return side
    return join_fields(present, spellings(three.first, three.second))


def _newest(three: Three, place: Place, notes: Notes, *, is_left: bool = False) -> Value:
    leads = place.later(canonical(three.first), canonical(three.second))
    return notes.take(three, place, 0 if leads else 1, is_left=is_left)


def _text(three: Three, place: Place, notes: Notes) -> Value | Unsettled:
    base, first, second = (None if value is None else decode(value) for value in three)
    if not (isinstance(base, str) and isinstance(first, str) and isinstance(second, str)):
        return UNSETTLED
    found = merge_text(base, first, second, newer=place.newer)
    if found is None:
        return UNSETTLED
    text, is_clean = found
    notes.used_rank = True
    if not is_clean:
        leads = place.later(first, second)
        notes.take(three, place, 0 if leads else 1, "of the lines that both changed, the newer")
    return encode_value(text)


def _extreme(three: Three, *, greatest: bool) -> Value | Unsettled:
    """Return the greater or the lesser of two values; a missing one, or null, loses."""
    present = [value for value in three[1:] if value is not None and value != b"null"]
    if len(present) == 1:
        return present[0]
    ordered = [(_order(value), value) for value in present]
    if len(ordered) < 2 or {kind for (kind, _), _ in ordered} not in _ORDERED:
        return UNSETTLED
    return (max if greatest else min)(ordered)[1]


_ORDERED = ({"bool"}, {"number"}, {"instant"}, {"text"})


def _order(value: bytes) -> tuple[str, int | float | str]:
    """Return the kind of a value, and the key for comparing two of this kind."""
    found = decode(value)
    if isinstance(found, bool):
        return "bool", found
    if isinstance(found, int | float):
        return "number", found
    if not isinstance(found, str):
        return "none", 0
    try:
        return "instant", parse_instant(found)
    except ValueError:
        return "text", found
