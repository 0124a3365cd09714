"""The names that collections have had.

A log keeps its first name, whatever its collection is called later. So all branches
and clones write to one file, and git merges it as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

import attrs

from taskstore._evolution.graph import Graph
from taskstore._evolution.shape import Shape
from taskstore._evolution.steps import RenameCollection


@attrs.frozen(slots=False)
class Names:
    """The names of the collections of a store, present and past.

    Attributes:
        shapes: The shape of each collection that has evolved, by the name of its log.
    """

    shapes: Mapping[str, Shape] = attrs.field(factory=dict)

    @cached_property
    def newest(self) -> Mapping[str, str]:
        """The name that a renamed collection has now, by the name of its log."""
        return {
            log: name
            for log, shape in sorted(self.shapes.items())
            for revision, name in names_given(shape.graph)
            if revision in shape.position
        }

    @cached_property
    def logs(self) -> Mapping[str, str]:
        """The name of the log, by each other name that its collection has or had."""
        shapes = sorted(self.shapes.items())
        found = {name: log for log, shape in shapes for _, name in names_given(shape.graph)}
        found |= {name: log for log, name in self.newest.items()}
        return {name: log for name, log in found.items() if name != log}

    def log_of(self, name: str) -> str:
        """Return the name of the log of a collection."""
        return self.logs.get(name, name)

    def name_of(self, log: str) -> str:
        """Return the name that the collection of a log has now."""
        return self.newest.get(log, log)

    def history(self, log: str) -> list[str]:
        """Return the names that the collection of a log has had, oldest first."""
        shape = self.shapes.get(log)
        return [log, *(name for _, name in names_given(shape.graph))] if shape else [log]

    def is_taken(self, log: str) -> bool:
        """Say whether a collection with another log has the name of this one."""
        return log in self.logs and log not in self.newest

    def faults(self, logs: Iterable[str]) -> dict[str, str]:
        """Return why the collection of a log is not found under its name, by log.

        Args:
            logs: The names of the logs that there are.
        """
        found: dict[str, str] = {}
        for log in sorted({*logs, *self.newest}):
            name = self.name_of(log)
            other = self.log_of(name)
            if other != log:
                found[log] = (
                    f"its collection would be {name!r}, which is in {other}.jsonl: append its "
                    "lines to that file and delete it, or rename it"
                )
        return found


def names_given(graph: Graph | None) -> list[tuple[str, str]]:
    """Return the names that evolutions give to a collection, with their revisions, in order."""
    return [
        (evolution.revision, step.to)
        for evolution in ([] if graph is None else graph.evolutions.values())
        for step in evolution.steps
        if isinstance(step, RenameCollection)
    ]
