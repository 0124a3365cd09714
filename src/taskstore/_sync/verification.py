"""Verifying the cache against the logs, row by row."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from taskstore._cache.rows.records import Stored
from taskstore._cache.rows.rows import Rows
from taskstore._evolution.shape import Shape, mark_of
from taskstore._format.fingerprint import Fingerprint
from taskstore._format.lines import decode_envelope
from taskstore._format.problems import Problem
from taskstore._log import files
from taskstore._log.digest import Digester
from taskstore._log.files import access
from taskstore._log.replay import LogChangedError, Winner, replay
from taskstore._records.indexing import index_rows
from taskstore._store.context import StoreContext
from taskstore._store.settings import settings_problems
from taskstore._text import visible
from taskstore.errors import StoreAccessError

_ATTEMPTS = 10
"""How often to read a log again that another program shortens while it is read."""


@attrs.frozen
class Difference:
    """A difference between the cache and a log.

    Attributes:
        collection: The collection.
        id: The record; None for the fingerprint of the collection.
        kind: "missing" (in the log only), "extra" (in the cache only), "different", "index",
            "fingerprint" or "row" (a mirrored table differs from the cache).
        log: The value in the log.
        cache: The value in the cache.
    """

    collection: str
    id: str | None
    kind: str
    log: Any
    cache: Any

    def __str__(self) -> str:
        """Return the difference on one line, with control characters as escapes."""
        name = f"{self.collection}/{self.id}" if self.id is not None else self.collection
        return visible(f"{name}: {self.kind}: the log has {self.log!r}, the cache {self.cache!r}")


@attrs.frozen
class VerifyReport:
    """The result of a verification.

    Attributes:
        records: How many records were compared, by collection.
        differences: The differences between cache and logs.
        problems: Lines that are not records, stray files, and what a recovery left.
        repaired: Whether the cache was rebuilt from the logs.
    """

    records: Mapping[str, int]
    differences: tuple[Difference, ...] = ()
    problems: tuple[Problem, ...] = ()
    repaired: bool = False

    @property
    def ok(self) -> bool:
        """Whether the cache equals the logs. Problem lines are ignored: they are in no cache."""
        return not self.differences

    @property
    def collections(self) -> list[str]:
        """The collections in which something differs."""
        return sorted({difference.collection for difference in self.differences})


@attrs.define
class Verification:
    """One comparison, under the log lock and in one snapshot of the cache."""

    context: StoreContext
    rows: Rows
    problems: list[Problem] = attrs.field(factory=list)

    def run(self, limits: Mapping[str, int]) -> tuple[dict[str, int], list[Difference]]:
        """Compare all collections.

        Args:
            limits: Where to stop reading a log, in bytes, for those that end in what a crash left.
        """
        names, strays = self.context.layout.collections()
        self.problems += [*strays, *settings_problems(self.context.layout)]
        recorded = self.rows.fingerprints()
        counts: dict[str, int] = {}
        differences: list[Difference] = []
        for name in sorted(
            {*names, *recorded, *self.rows.collections(), *self.rows.indexed_collections()}
        ):
            counts[name], found = self._looked_at(name, recorded.get(name), limits.get(name))
            differences += found
        return counts, differences

    def _looked_at(
        self, collection: str, known: Fingerprint | None, limit: int | None
    ) -> tuple[int, list[Difference]]:
        path = self.context.layout.log_path(collection)
        for _ in range(_ATTEMPTS):
            shape = self.context.shapes.of(collection)
            found = _Comparison(self.rows, self.context.digester, collection, path, shape)
            try:
                with access(path):
                    differences = list(found.run(known, limit))
            except LogChangedError:
                continue
            self.problems += found.problems
            return found.records, differences
        raise StoreAccessError(path, operation="read", reason="another program keeps changing it")


@attrs.define
class _Comparison:
    """One collection: its log and its rows, side by side."""

    rows: Rows
    digester: Digester
    collection: str
    path: Path
    shape: Shape
    records: int = 0
    problems: list[Problem] = attrs.field(factory=list)

    def run(self, known: Fingerprint | None, limit: int | None) -> Iterator[Difference]:
        try:
            fd = files.open_log(self.path)
        except FileNotFoundError:
            yield from self._compare(iter(()))
            if known is not None:
                yield Difference(self.collection, None, "fingerprint", None, known)
            return
        try:
            log = replay(
                fd,
                collection=self.collection,
                path=str(self.path),
                limit=limit,
                digest=self.digester.begin(),
                lacks=self.shape.lacks,
            )
            self.problems += log.problems
            winners = self.shape.winners(log.winners(fd), marked=log.marked)
            yield from self._compare(map(Winner._make, winners))
            read = Fingerprint.of(os.fstat(fd), log, 0)
        finally:
            os.close(fd)
        # If a log ends with a transaction that was cut off, the size of the whole log is recorded.
        size = log.size if limit is None else read.size
        if known is None or _facts(known) != (size, *_facts(read)[1:]):
            yield Difference(self.collection, None, "fingerprint", read, known)

    def _compare(self, winners: Iterator[Winner]) -> Iterator[Difference]:
        fields = list(self.rows.index_fields(self.collection).values())
        indexed = _Grouped(self.rows.index_values(self.collection))
        strange = self.rows.contradictions(self.collection)
        stored = self.rows.in_order(self.collection)
        known = next(stored, None)
        for winner in winners:
            while known is not None and known[0] < winner.id:
                yield Difference(self.collection, known[0], "extra", None, known[1].line)
                known = next(stored, None)
            self.records += not winner.deleted
            here = known is not None and known[0] == winner.id
            if known is None or not here:
                yield Difference(self.collection, winner.id, "missing", winner.line, None)
            elif known[1] != _as_stored(winner):
                yield Difference(
                    self.collection, winner.id, "different", winner.line, known[1].line
                )
            elif winner.id in strange:
                yield Difference(
                    self.collection, winner.id, "different", winner.line, strange[winner.id]
                )
            if here:
                known = next(stored, None)
            wanted = dict(index_rows(fields, winner.line)) if here and not winner.deleted else {}
            yield from self._compare_index(winner.id, wanted, indexed)
        while known is not None:
            yield Difference(self.collection, known[0], "extra", None, known[1].line)
            known = next(stored, None)
        for id, found in indexed.before(None):
            yield Difference(self.collection, id, "index", {}, found)

    def _compare_index(
        self, id: str, wanted: dict[str, Any], indexed: _Grouped
    ) -> Iterator[Difference]:
        for orphan, found in indexed.before(id):
            yield Difference(self.collection, orphan, "index", {}, found)
        found = indexed.of(id)
        if wanted != found:
            yield Difference(self.collection, id, "index", wanted, found)


class _Grouped:
    """Index rows in the order of their ids, taken one id after the other."""

    def __init__(self, rows: Iterator[tuple[str, str, Any]]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def before(self, id: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Take the ids before this one; all that are left for None."""
        while self._next is not None and (id is None or self._next[0] < id):
            yield self._next[0], self.of(self._next[0])

    def of(self, id: str) -> dict[str, Any]:
        """Take the rows of an id, if it is next."""
        found: dict[str, Any] = {}
        while self._next is not None and self._next[0] == id:
            found[self._next[1]] = self._next[2]
            self._next = next(self._rows, None)
        return found


def _facts(fingerprint: Fingerprint) -> tuple[int, str, int, int, bool]:
    """Return what a fingerprint says of the bytes, without the times of the file."""
    return (
        fingerprint.size,
        fingerprint.digest,
        fingerprint.lines,
        fingerprint.problems,
        fingerprint.ended,
    )


def _as_stored(winner: Winner) -> Stored:
    if not winner.deleted:
        return Stored(winner.line, winner.order_us)
    raw = winner.line.encode()
    found = decode_envelope(raw)
    text = found.updated_at if isinstance(found.updated_at, str) else None
    return Stored(None, winner.order_us, text, None if found.deleted else mark_of(raw))
