"""The merge of lists whose elements are all different."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from taskstore._format.lines import raw_fields
from taskstore._merge.places import Notes, Place
from taskstore._merge.sequences import merge_order, repeated
from taskstore._merge.values import (
    Three,
    Unsettled,
    Value,
    canonical,
    is_list,
    is_object,
    join_items,
    one_sided,
    raw_items,
)

__all__ = ["merge_lists"]

Items = dict[bytes, bytes]
"""Elements by what tells them apart."""

Merge = Callable[[Three, Place, Notes], Value]


def merge_lists(three: Three, place: Place, notes: Notes, merge: Merge) -> Value:
    """Merge two lists as sets, or return None where an element is there twice.

    What either side added stays, and what either removed is gone; under the policy `union`, what
    one side still has stays as well. Objects with an `id` are the same element when that is the
    same, and are merged as records are.

    Args:
        three: The lists; a base that is none has no elements.
        place: Where they are.
        notes: Where to note what could not be kept.
        merge: Merges two objects field by field.
    """
    repeats = place.policy == "union"
    found = [
        _keyed(value, repeats) if value is not None and is_list(value) else {} for value in three
    ]
    if found[0] is None or found[1] is None or found[2] is None:
        return None
    base, first, second = found[0], found[1], found[2]
    merged: Items = {}
    for key in first | second:
        values = Three(base.get(key), first.get(key), second.get(key))
        value = _element(key, values, place, notes, merge)
        if value is not None:
            merged[key] = value
    notes.used_rank = True  # in the order of what both sides added
    order = merge_order(base, first, second, kept=merged, later=place.later)
    for side, items in zip(three[1:], (first, second), strict=True):
        if list(items) == order and items == merged:
            return side
    return join_items([merged[key] for key in order])


def _keyed(value: bytes, repeats: bool) -> Items | None:
    """Return a list's elements by their keys; None if two have the same, unless that may be."""
    items: Items = {}
    seen: Counter[bytes] = Counter()
    for item in raw_items(value):
        key = _key(item)
        if key in items and not repeats:
            return None
        items[repeated(key, seen)] = item
    return items


def _key(item: bytes) -> bytes:
    if is_object(item):
        id = raw_fields(item).get("id")
        # An id that is itself null, a list or an object identifies nothing.
        if id is not None and id[:1] not in (b"n", b"[", b"{"):
            return b"id " + canonical(id)
    return canonical(item)


def _element(key: bytes, three: Three, place: Place, notes: Notes, merge: Merge) -> Value:
    if three.first is None or three.second is None:
        present = three.second if three.first is None else three.first
        # An edit beats a removal; and what was not there before cannot have been removed.
        is_kept = place.policy == "union" or canonical(present) != canonical(three.base)
        return present if is_kept else None
    settled = one_sided(three)
    if not isinstance(settled, Unsettled):
        return settled
    # Only objects with one id can have one key and differ.
    place = place.at(f"[{key.removeprefix(b'id ').decode()}]")
    dead = [raw_fields(value).get("deleted") == b"true" for value in (three.first, three.second)]
    if dead[0] != dead[1]:
        return notes.take_living(three, place.inside(three), dead.index(True))
    return merge(three, place, notes)
