"""JSON values: their bytes in a line, and their meaning."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import attrs
import msgspec

from taskstore._format.instants import parse_instant
from taskstore._format.lines import key_spellings, raw_fields
from taskstore._merge.policies import DEFAULT_POLICY

Value = bytes | None
"""The JSON text of a value in the line; None if the key is missing."""

Rank = tuple[int, ...]
"""How new a value is: the times of its object and of the objects around it, in microseconds."""

decode: Final = msgspec.json.Decoder().decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), sort_keys=True, check_circular=False
).encode


class Unsettled:
    """The type of `UNSETTLED`."""


UNSETTLED: Final = Unsettled()
"""Both sides changed a value in different ways."""


class Three(NamedTuple):
    """One value in the base and on both sides."""

    base: Value
    first: Value
    second: Value


def canonical(value: Value) -> bytes:
    """Return one text for all spellings of a value; a missing one sorts before all others."""
    return b"" if value is None else _encode(decode(value)).encode()


def spellings(*objects: Value) -> dict[str, bytes]:
    """Return the spellings of keys that objects write with escapes."""
    found: dict[str, bytes] = {}
    for value in objects:
        for key, spelled in ({} if value is None else key_spellings(value)).items():
            # Either of two spellings will do, as long as it is the same for both sides.
            found[key] = max(spelled, found.get(key, b""))
    return found


def is_object(value: Value) -> bool:
    """Return whether a value is a JSON object."""
    return value is not None and value[:1] == b"{"


def is_list(value: Value) -> bool:
    """Return whether a value is a JSON list."""
    return value is not None and value[:1] == b"["


def raw_items(value: bytes) -> list[bytes]:
    """Return the texts of a list's elements."""
    return [bytes(item) for item in _decode_items(value)]


def join_items(items: list[bytes]) -> bytes:
    """Return the list of some elements, compactly."""
    return b"[%b]" % b",".join(items)


def instant(value: Value) -> int:
    """Return the order of an `updated_at`, in microseconds; 0 if it is missing or not a time."""
    if value is None:
        return 0
    found: Any = decode(value)
    try:
        return parse_instant(found)
    except ValueError:
        return 0


def one_sided(three: Three) -> Value | Unsettled:
    """Return the value if at most one side changed it, or both sides in the same way.

    A value with a new spelling and the same meaning is unchanged. But if nothing else changed, the
    new spelling is kept.
    """
    base, first, second = three
    if second in (first, base):
        return first
    if first == base:
        return second
    values = [None if value is None else decode(value) for value in three]
    if _mean_the_same(values[1], values[2], first, second):
        return max(first or b"", second or b"")
    if _mean_the_same(values[0], values[1], base, first):
        return second
    return first if _mean_the_same(values[0], values[2], base, second) else UNSETTLED


def _mean_the_same(value: Any, other: Any, raw: Value, other_raw: Value) -> bool:
    # Python's equality is fast, but it treats true, 1 and 1.0 as equal.
    return bool(value == other) and canonical(raw) == canonical(other_raw)


@attrs.frozen
class Clash:
    """Two changes of which only one could be kept.

    Attributes:
        path: The place in the record, such as `meta.owner`; empty for the whole record.
        first: The value of one side.
        second: The value of the other side.
        taken: The side whose value was taken, 0 or 1.
        reason: The reason.
        is_left: Whether a person has to decide.
    """

    path: str
    first: Value
    second: Value
    taken: int
    reason: str
    is_left: bool = False


@attrs.frozen
class Place:
    """A place in a record.

    Attributes:
        path: The keys that lead to it, such as `meta.owner`.
        ranks: How new each side is there.
        policy: The policy for two changes.
    """

    path: str
    ranks: tuple[Rank, Rank]
    policy: str = DEFAULT_POLICY

    def at(self, step: str, policy: str | None = None) -> Place:
        """Return the place one step further in."""
        return Place(self.path + step, self.ranks, policy or self.policy)

    def inside(self, three: Three) -> Place:
        """Return the place inside an object, which may have its own time.

        Its own time counts first. If it is equal, the times around it decide.
        """
        times = [
            0 if value is None else instant(raw_fields(value).get("updated_at"))
            for value in three[1:]
        ]
        ranks = (times[0], *self.ranks[0]), (times[1], *self.ranks[1])
        return attrs.evolve(self, ranks=ranks)

    @property
    def newer(self) -> int | None:
        """The newer side, 0 or 1; None if both are equally new."""
        first, second = self.ranks
        return None if first == second else int(second > first)

    def later(self, first: Any, second: Any) -> bool:
        """Return whether the first side is newer, or equally new with the greater value."""
        return (self.ranks[0], first) > (self.ranks[1], second)


class Notes:
    """The notes of the merge of one record.

    Attributes:
        clashes: The changes that could not both be kept.
        used_rank: Whether any decision needed the times.
    """

    def __init__(self) -> None:
        self.clashes: list[Clash] = []
        self.used_rank = False

    def take(
        self, three: Three, place: Place, side: int, reason: str = "", *, is_left: bool = False
    ) -> Value:
        """Return the value of one side, and note that the other value is not in the result."""
        self.used_rank = True
        reason = reason or ("the greater of two as new" if place.newer is None else "newer")
        self.clashes.append(Clash(place.path, three.first, three.second, side, reason, is_left))
        return three[1 + side]

    def take_living(self, three: Three, place: Place, dead: int) -> Value:
        """Decide between a deletion and an edit: the newer wins; the edit, if both are equally new.

        Args:
            three: The record, or the element of a list.
            place: Where it is.
            dead: The side that deleted it, 0 or 1.
        """
        newer = place.newer
        reason = "an edit beats a deletion that is as new" if newer is None else "newer"
        return self.take(three, place, 1 - dead if newer is None else newer, reason)
