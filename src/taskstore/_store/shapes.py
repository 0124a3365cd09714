"""The shape in which a store reads and writes the lines of each collection.

The evolutions are records of a collection of their own, so they come into the cache like any other
log. Migrations and record classes record which of them the program has reached. If nothing is
recorded, all of them count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from taskstore._cache.evolution.fingerprint_rows import State
from taskstore._cache.rows.rows import Rows
from taskstore._cache.schema.names import CREATED
from taskstore._evolution.decoding import COLLECTION, decode_evolution
from taskstore._evolution.graph import Graph, Position, graphs_of
from taskstore._evolution.names import Names
from taskstore._evolution.shape import NO_SHAPE, Shape
from taskstore._format.fingerprint import Fingerprint
from taskstore._format.problems import Problem
from taskstore._log.layout import Layout


@attrs.frozen
class Shapes:
    """The shapes of a store's collections.

    Attributes:
        by_collection: The shape of each collection that has evolved.
        faults: Why evolutions cannot be used, by the ids of their records.
        pending: The lines of evolutions that are in the database but not in the log, by id.
        read: The fingerprint of the log of the evolutions; None if there is none.
        is_loaded: Whether the cache was read at all.
        names: The names of the collections.
    """

    by_collection: Mapping[str, Shape] = attrs.field(factory=dict)
    faults: Mapping[str, str] = attrs.field(factory=dict)
    pending: Mapping[str, bytes] = attrs.field(factory=dict)
    read: Fingerprint | None = None
    is_loaded: bool = False
    names: Names = attrs.field(init=False, eq=False)

    @names.default
    def _names(self) -> Names:
        return Names(self.by_collection)

    def of(self, collection: str) -> Shape:
        """Return the shape of a collection."""
        return self.by_collection.get(collection, NO_SHAPE)

    def differ_from(self, recorded: Mapping[str, Fingerprint]) -> list[str]:
        """Return the collections that the cache holds in another shape."""
        return [name for name, known in recorded.items() if known.shape != self.of(name).signature]

    def are_current(self, recorded: Mapping[str, Fingerprint]) -> bool:
        """Return whether the cache still has these shapes."""
        is_read = self.is_loaded and self.read == recorded.get(COLLECTION)
        return is_read and not self.differ_from(recorded)


def load_shapes(rows: Rows, mirrored: Mapping[str, object]) -> Shapes:
    """Return the shapes from the cache's evolutions and the recorded states.

    Args:
        rows: Of the cache.
        mirrored: The collections that have tables of the application.
    """
    stated = dict(rows.lines(COLLECTION))
    recorded = rows.evolutions()
    own = {
        f"{collection}@{state.revision}": state.line
        for collection, states in recorded.items()
        for state in states
        if state.revision
    }
    read = rows.fingerprint(COLLECTION)
    if not stated and not own:
        return Shapes(read=read, is_loaded=True)
    graphs, faults = graphs_of(sorted((own | stated).items()))
    known = rows.mirror_states()
    shapes = {
        name: _shape(
            graph,
            recorded.get(name),
            is_old=name in mirrored and known.get(name, CREATED) != CREATED,
        )
        for name, graph in graphs.items()
    }
    faults |= {
        id: "the database has been upgraded with other steps under this revision"
        for id in own.keys() & stated.keys()
        if id not in faults and _differ(own[id], stated[id])
    }
    pending = {id: line.encode() for id, line in own.items() if id not in stated}
    return Shapes(shapes, faults, pending, read, is_loaded=True)


def _differ(line: str, other: str) -> bool:
    return decode_evolution(line) != decode_evolution(other)


def _shape(graph: Graph, states: list[State] | None, *, is_old: bool) -> Shape:
    """Return the shape of a collection.

    Args:
        graph: Its evolutions.
        states: Their recorded states.
        is_old: Whether its table was there before anything was recorded.
    """
    if states is None:
        return Shape(graph, frozenset() if is_old else graph.whole)
    applied = [state.revision for state in states if state.applied]
    reverted = {state.revision for state in states if not state.applied}
    position: Position = frozenset()
    for name in applied:
        position |= graph.closure([name]) or frozenset()
    return Shape(graph, position, frozenset(reverted & graph.whole))


def evolution_problems(shapes: Shapes, layout: Layout, logs: Iterable[str]) -> list[Problem]:
    """Return why evolutions of a store cannot be used, and which collections are not found.

    Args:
        shapes: The shapes of its collections.
        layout: Where it is.
        logs: The names of its logs.
    """
    path = str(layout.log_path(COLLECTION))
    unused = [
        Problem(COLLECTION, path, None, f"no evolution: {reason}", id)
        for id, reason in sorted(shapes.faults.items())
    ]
    hidden = shapes.names.faults(logs)
    return unused + [
        Problem(log, str(layout.log_path(log)), None, reason) for log, reason in hidden.items()
    ]
