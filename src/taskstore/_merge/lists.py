"""The merge of lists whose elements are all different."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable

from taskstore._format.lines import raw_fields
from taskstore._merge.values import (
    Notes,
    Place,
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

Later = Callable[[list[bytes], list[bytes]], bool]
"""Decides whether a run of keys of one side comes after a run of the other side."""


def repeated(text: bytes, seen: Counter[bytes]) -> bytes:
    """Return a key for a text without newlines: itself, and if it was seen before one of its own.

    Args:
        text: The text.
        seen: How often each was seen; is counted up.
    """
    count = seen[text]
    seen[text] = count + 1
    return b"%b\n%08d" % (text, count) if count else text


def text_of(key: bytes) -> bytes:
    """Return the text that a key was made for."""
    return key.partition(b"\n")[0]


def merge_order(
    base: Iterable[bytes],
    first: Iterable[bytes],
    second: Iterable[bytes],
    *,
    kept: Container[bytes],
    later: Later,
) -> list[bytes]:
    """Return the keys of both sides that are kept, each side's in its own order.

    Where the sides order common keys differently, the one that moved base keys against the other
    is followed; where both did, the later one.

    Args:
        base: The keys before both changes; each key at most once, as in the other two.
        first: One side's.
        second: The other's.
        kept: The keys that the result has.
        later: Decides if nothing else does. It must not depend on which side is which.
    """
    first = [key for key in first if key in kept]
    second = [key for key in second if key in kept]
    in_first, in_second = set(first), set(second)
    common_first = [key for key in first if key in in_second]
    common_second = [key for key in second if key in in_first]
    if common_first == common_second:
        return _interleaved(first, second, common_first, later)
    common = set(common_first)
    old = [key for key in base if key in common]
    in_old = set(old)
    old_first = [key for key in common_first if key in in_old]
    old_second = [key for key in common_second if key in in_old]
    if old_first == old_second:
        return _regrouped(first, second, old_first)
    if old_second == old or (old_first != old and later(old_first, old_second)):
        return _followed(first, second)
    return _followed(second, first)


def _interleaved(
    first: list[bytes], second: list[bytes], common: list[bytes], later: Later
) -> list[bytes]:
    """Both sides agree on the common keys: between two of these, the later run comes last."""
    merged: list[bytes] = []
    at_first = at_second = 0
    for key in [*common, None]:
        stop_first = len(first) if key is None else first.index(key, at_first)
        stop_second = len(second) if key is None else second.index(key, at_second)
        run, other = first[at_first:stop_first], second[at_second:stop_second]
        if run and other and later(run, other):
            run, other = other, run
        merged += run
        merged += other
        if key is not None:
            merged.append(key)
        at_first, at_second = stop_first + 1, stop_second + 1
    return merged


def _regrouped(first: list[bytes], second: list[bytes], old: list[bytes]) -> list[bytes]:
    """Both sides added the same keys in different orders: between old keys, they are sorted."""
    place: dict[bytes, int] = {}
    for side in (first, second):
        gap = 0
        anchors = iter(old)
        anchor = next(anchors, None)
        for key in side:
            if key == anchor:
                gap += 1
                anchor = next(anchors, None)
            else:
                place[key] = min(gap, place.get(key, gap))
    runs: list[list[bytes]] = [[] for _ in range(len(old) + 1)]
    for key in sorted(place):
        runs[place[key]].append(key)
    merged = runs[0]
    for anchor, run in zip(old, runs[1:], strict=True):
        merged += [anchor, *run]
    return merged


def _followed(leader: list[bytes], follower: list[bytes]) -> list[bytes]:
    """Keep one side's order; the other's own keys stand after what they stood after there."""
    leading = set(leader)
    merged: list[bytes] = []
    after: dict[bytes, list[bytes]] = {}
    run = merged
    for key in follower:
        if key in leading:
            run = after.setdefault(key, [])
        else:
            run.append(key)
    for key in leader:
        merged.append(key)
        merged += after.get(key, ())
    return merged


Items = dict[bytes, bytes]
"""Elements by their keys."""

Merge = Callable[[Three, Place, Notes], Value]


def merge_lists(three: Three, place: Place, notes: Notes, merge: Merge) -> Value:
    """Merge two lists as sets, or return None if an element is there twice.

    Elements that either side added stay, and elements that either side removed are gone. With the
    policy `union`, elements that one side still has stay too. Objects with the same `id` are the
    same element, and are merged like records.

    Args:
        three: The lists. A base that is not a list has no elements.
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
        # An edit wins over a removal, and an element that was not there before cannot be removed.
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
