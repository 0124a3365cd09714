"""The evolutions of one collection as a graph of revisions, with branches and merges."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import Self

import attrs

from taskstore._evolution.decoding import MAX_BYTES, MAX_EVOLUTIONS, Evolution
from taskstore._evolution.decoding import decode_evolution as decode

Position = frozenset[str]
"""A place in the graph: some revisions together with all that come before them."""

_JOINT = "+"


@attrs.frozen
class Graph:
    """The evolutions of a collection.

    Attributes:
        evolutions: Those that can be used, by revision, each after its parents. The order is the
            same in all clones that know the same evolutions.
        faults: Why others cannot be used, by revision.
    """

    evolutions: Mapping[str, Evolution] = attrs.field(factory=dict)
    faults: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def of(cls, evolutions: Iterable[Evolution]) -> Self:
        """Return the graph of some evolutions of one collection."""
        known = {evolution.revision: evolution for evolution in evolutions}
        faults = dict.fromkeys(sorted(known)[MAX_EVOLUTIONS:], f"more than {MAX_EVOLUTIONS}")
        known = {name: one for name, one in known.items() if name not in faults}
        ordered = _sorted(known)
        for name in known.keys() - ordered.keys():
            missing = sorted(set(known[name].parents) - ordered.keys())
            faults[name] = f"it follows {missing[0]!r}, which is missing or follows it"
        return cls(ordered, faults)

    @property
    def whole(self) -> Position:
        """All evolutions."""
        return frozenset(self.evolutions)

    def closure(self, revisions: Iterable[str]) -> Position | None:
        """Return the place of some revisions; None if one of them is not known."""
        found: set[str] = set()
        pending = list(revisions)
        while pending:
            name = pending.pop()
            if name not in self.evolutions:
                return None
            if name not in found:
                found.add(name)
                pending += self.evolutions[name].parents
        return frozenset(found)

    def heads(self, position: Position) -> tuple[str, ...]:
        """Return the revisions of a place that no other one of it follows, sorted."""
        before = {parent for name in position for parent in self.evolutions[name].parents}
        return tuple(sorted(position - before))

    def name_of(self, position: Position) -> str:
        """Return what a line says that was written at a place; empty before all evolutions."""
        return _JOINT.join(self.heads(position))

    def between(self, before: Position, after: Position) -> list[Evolution]:
        """Return the evolutions of one place that another one lacks, in the order to apply."""
        return [one for name, one in self.evolutions.items() if name in after - before]


def parse_position(text: str) -> tuple[str, ...]:
    """Return the revisions that a line names."""
    return tuple(text.split(_JOINT)) if text else ()


def graphs_of(lines: Iterable[tuple[str, bytes | str]]) -> tuple[dict[str, Graph], dict[str, str]]:
    """Return the graphs that the records of evolutions.jsonl state, by collection.

    Args:
        lines: The id and the line of each record, in the order of the ids.

    Returns:
        The graphs, and why records cannot be used, by id.
    """
    found: dict[str, list[Evolution]] = {}
    faults: dict[str, str] = {}
    total = 0
    for id, line in lines:
        total += len(line)
        try:
            if total > MAX_BYTES:
                raise ValueError("evolutions.jsonl holds more than 1 MiB of evolutions")
            evolution = decode(line)
        except ValueError as error:
            faults[id] = str(error)
        else:
            found.setdefault(evolution.collection, []).append(evolution)
    graphs = {name: Graph.of(evolutions) for name, evolutions in found.items()}
    for name, graph in graphs.items():
        faults |= {f"{name}@{revision}": reason for revision, reason in graph.faults.items()}
    return graphs, faults


@attrs.frozen
class Clash:
    """Two evolutions on different branches that touch the same fields.

    The value of such a field depends on the order of the two, which is that of their names.

    Attributes:
        first, second: The revisions, in the order in which they are applied.
        fields: The fields.
    """

    first: str
    second: str
    fields: tuple[str, ...]

    def __str__(self) -> str:
        fields = ", ".join(map(repr, self.fields))
        return f"the revisions {self.first!r} and {self.second!r} both change {fields}"


def clashes(graph: Graph) -> list[Clash]:
    """Return the clashes that no later evolution resolves.

    An evolution that follows both and changes the same fields resolves a clash.
    """
    before: dict[str, Position] = {}
    for name, one in graph.evolutions.items():
        before[name] = frozenset(one.parents).union(*(before[parent] for parent in one.parents))
    touched = {
        name: frozenset[str]().union(*(step.touched for step in one.steps))
        for name, one in graph.evolutions.items()
    }
    names = list(graph.evolutions)
    found: list[Clash] = []
    for place, second in enumerate(names):
        for first in names[:place] if len(before[second]) < place else ():
            fields = touched[first] & touched[second]
            if first in before[second] or not fields:
                continue
            for later in names[place + 1 :]:
                if {first, second} <= before[later]:
                    fields -= touched[later]
            if fields:
                found.append(Clash(first, second, tuple(sorted(fields))))
    return found


def _sorted(known: Mapping[str, Evolution]) -> dict[str, Evolution]:
    """Return the evolutions each after its parents, and by name where that leaves a choice."""
    left = {name: len(set(one.parents)) for name, one in known.items()}
    after: dict[str, list[str]] = {}
    for name, one in known.items():
        for parent in set(one.parents):
            after.setdefault(parent, []).append(name)
    ready = [name for name, count in left.items() if not count]
    heapq.heapify(ready)
    ordered: dict[str, Evolution] = {}
    while ready:
        name = heapq.heappop(ready)
        ordered[name] = known[name]
        for follower in after.get(name, ()):
            left[follower] -= 1
            if not left[follower]:
                heapq.heappush(ready, follower)
    return ordered
