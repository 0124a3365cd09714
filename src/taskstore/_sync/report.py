"""What a sync found and did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from taskstore._format.problems import Problem


@attrs.frozen
class CollectionReport:
    """One collection's part of a sync.

    Attributes:
        collection: Its name.
        action: "fresh" (nothing to do), "noted" (other times, same bytes), "tail" (only new
            lines were read), "replayed" (the whole log was read) "removed" (the log is gone) or
            "missing" (so it is, or another one, and rows of a mirrored table stand beside it).
        lines: How many lines were read, blank ones and problems included.
        records: Live records in the cache afterwards; None if they were not counted.
        tombstones: Dead ones that the cache remembers; None if they were not counted.
        problems: The unusable lines among those that were read.
        problem_count: The unusable lines of the whole log.
    """

    collection: str
    action: str
    lines: int
    records: int | None
    tombstones: int | None
    problems: tuple[Problem, ...] = ()
    problem_count: int = 0


@attrs.frozen
class SyncReport:
    """What a sync found, by collection.

    Attributes:
        collections: A report for each collection that was looked at.
        strays: Files that are not what they should be: a `*.jsonl` with an invalid name, or no
            regular file; settings, or a .gitignore, that cannot be used.
        recovered: What recovery could not settle since the store was opened: logs that an
            interrupted transaction left, and journals of others.
        mirrored: Records that mirrored tables do not hold as the log has them, and why.
    """

    collections: Mapping[str, CollectionReport]
    strays: tuple[Problem, ...] = ()
    recovered: tuple[Problem, ...] = ()
    mirrored: tuple[Problem, ...] = ()

    @property
    def problems(self) -> list[Problem]:
        """All problems: unusable lines, stray files, journals and rows that do not fit."""
        found = [problem for report in self for problem in report.problems]
        return [*found, *self.strays, *self.recovered, *self.mirrored]

    @property
    def lines(self) -> int:
        """How many lines were read."""
        return sum(report.lines for report in self)

    @property
    def changed(self) -> list[str]:
        """The collections whose records may have changed."""
        return [r.collection for r in self if r.action in {"tail", "replayed", "removed"}]

    def to_dict(self) -> dict[str, Any]:
        """The report in plain values, for JSON."""
        return attrs.asdict(self)

    def __iter__(self) -> Iterator[CollectionReport]:
        return iter(self.collections.values())
