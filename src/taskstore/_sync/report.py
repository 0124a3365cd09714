"""The report of a sync."""

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
            lines were read), "replayed" (the whole log was read), "removed" (the log is gone) or
            "missing" (a mirrored table has rows, but the log is gone or belongs to other rows).
        lines: How many lines were read, including blank ones and problems.
        records: Live records in the cache afterwards; None if they were not counted.
        tombstones: Deleted records that the cache remembers; None if they were not counted.
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
    """The result of a sync.

    Attributes:
        collections: A report for each collection that was checked.
        strays: Unusable files: a `*.jsonl` with an invalid name or that is not a regular file;
            settings or a .gitignore that cannot be used.
        recovered: What recovery could not settle since the store was opened: lines of an
            interrupted transaction, and journals that another clone wrote.
        mirrored: Records that differ from their rows in mirrored tables, and why.
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
