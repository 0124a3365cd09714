"""Where in a record a value is, how new it is on each side, and what became of it."""

from __future__ import annotations

from typing import Any

import attrs

from taskstore._format.lines import raw_fields
from taskstore._merge.policies import DEFAULT_POLICY
from taskstore._merge.values import Rank, Three, Value, instant

__all__ = ["Clash", "Notes", "Place"]


@attrs.frozen
class Clash:
    """Two changes of one thing of which only one could be kept.

    Attributes:
        path: Where it is in the record, such as `meta.owner`; empty for the whole record.
        first: One side's value.
        second: The other's.
        taken: Whose value was taken, 0 or 1.
        reason: Why.
        is_left: Whether a person is to decide.
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
        policy: What settles two changes of it.
    """

    path: str
    ranks: tuple[Rank, Rank]
    policy: str = DEFAULT_POLICY

    def at(self, step: str, policy: str | None = None) -> Place:
        """Return the place one step further in."""
        return Place(self.path + step, self.ranks, policy or self.policy)

    def inside(self, three: Three) -> Place:
        """Return the place of what is in an object, which may have a time of its own.

        That counts before the times around it, which still count where it is equal.
        """
        times = [
            0 if value is None else instant(raw_fields(value).get("updated_at"))
            for value in three[1:]
        ]
        ranks = (times[0], *self.ranks[0]), (times[1], *self.ranks[1])
        return attrs.evolve(self, ranks=ranks)

    @property
    def newer(self) -> int | None:
        """The side that is newer, 0 or 1; None where neither is."""
        first, second = self.ranks
        return None if first == second else int(second > first)

    def later(self, first: Any, second: Any) -> bool:
        """Say whether the first side is newer, or as new and has the greater value."""
        return (self.ranks[0], first) > (self.ranks[1], second)


class Notes:
    """What the merge of one record found out.

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
        """Return one side's value, and note that the other's is not in the result."""
        self.used_rank = True
        reason = reason or ("the greater of two as new" if place.newer is None else "newer")
        self.clashes.append(Clash(place.path, three.first, three.second, side, reason, is_left))
        return three[1 + side]

    def take_living(self, three: Three, place: Place, dead: int) -> Value:
        """Settle a deletion against an edit: the newer, and the edit of two that are as new.

        Args:
            three: The record, or the element of a list.
            place: Where it is.
            dead: The side that deleted it, 0 or 1.
        """
        newer = place.newer
        reason = "an edit beats a deletion that is as new" if newer is None else "newer"
        return self.take(three, place, 1 - dead if newer is None else newer, reason)
