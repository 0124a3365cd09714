"""Verifying the cache against the logs, row by row."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from taskstore._cache.rows import Rows, Stored
from taskstore._format.fingerprint import Fingerprint
from taskstore._format.lines import decode_envelope
from taskstore._format.problems import Problem
from taskstore._log import files
from taskstore._log.replay import Winner, replay
from taskstore._records.indexing import IndexField, index_rows
from taskstore._store.context import StoreContext


@attrs.frozen
class Difference:
    """Something that the cache says otherwise than the log.

    Attributes:
        collection: the collection.
        id: the record; None where the collection's fingerprint is meant.
        kind: "missing" (in the log only), "extra" (in the cache only), "different", "index" or
            "fingerprint".
        log: what the log says.
        cache: what the cache says.
    """

    collection: str
    id: str | None
    kind: str
    log: Any
    cache: Any

    def __str__(self) -> str:
        """Say it on one line."""
        name = f"{self.collection}/{self.id}" if self.id is not None else self.collection
        return f"{name}: {self.kind}: the log has {self.log!r}, the cache {self.cache!r}"


@attrs.frozen
class VerifyReport:
    """What a verification found.

    Attributes:
        records: how many records were compared, by collection.
        differences: between cache and logs.
        problems: lines that are no record, stray files, what a recovery left.
        repaired: whether the cache was made anew from the logs.
    """

    records: Mapping[str, int]
    differences: tuple[Difference, ...] = ()
    problems: tuple[Problem, ...] = ()
    repaired: bool = False

    @property
    def ok(self) -> bool:
        """Whether the cache is what the logs say. Problem lines do not count: it has none."""
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
            limits: where to stop reading a log, in bytes, for those that end in what a crash left.
        """
        names, strays = self.context.layout.collections()
        self.problems += strays
        recorded = self.rows.fingerprints()
        counts: dict[str, int] = {}
        differences: list[Difference] = []
        for name in sorted({*names, *recorded, *self.rows.collections()}):
            found = list(self._collection(name, recorded.get(name), limits.get(name), counts))
            differences += found
        return counts, differences

    def _collection(
        self,
        collection: str,
        known: Fingerprint | None,
        limit: int | None,
        counts: dict[str, int],
    ) -> Iterator[Difference]:
        path = self.context.layout.log_path(collection)
        try:
            fd = files.open_log(path)
        except FileNotFoundError:
            yield from self._compare(collection, iter(()), counts)
            if known is not None:
                yield Difference(collection, None, "fingerprint", None, known)
            return
        try:
            log = replay(fd, collection=collection, path=str(path), limit=limit)
            self.problems += log.problems
            yield from self._compare(collection, log.winners(fd), counts)
            read = Fingerprint.of(os.fstat(fd), log, 0)
        finally:
            os.close(fd)
        if known is None or (known.size, known.checksum) != (log.size, log.checksum):
            yield Difference(collection, None, "fingerprint", read, known)

    def _compare(
        self, collection: str, winners: Iterator[Winner], counts: dict[str, int]
    ) -> Iterator[Difference]:
        fields = list(self.rows.index_fields(collection).values())
        indexed = _Grouped(self.rows.index_values(collection))
        stored = self.rows.in_order(collection)
        known = next(stored, None)
        counts[collection] = 0
        for winner in winners:
            while known is not None and known[0] < winner.id:
                yield Difference(collection, known[0], "extra", None, known[1].line)
                known = next(stored, None)
            counts[collection] += not winner.deleted
            if known is None or known[0] != winner.id:
                yield Difference(collection, winner.id, "missing", winner.line, None)
                continue
            if known[1] != _as_stored(winner):
                yield Difference(collection, winner.id, "different", winner.line, known[1].line)
            known = next(stored, None)
            if not winner.deleted:
                yield from self._compare_index(collection, winner, fields, indexed)
        while known is not None:
            yield Difference(collection, known[0], "extra", None, known[1].line)
            known = next(stored, None)

    def _compare_index(
        self, collection: str, winner: Winner, fields: list[IndexField], indexed: _Grouped
    ) -> Iterator[Difference]:
        wanted = dict(index_rows(fields, winner.line))
        found = indexed.of(winner.id)
        if wanted != found:
            yield Difference(collection, winner.id, "index", wanted, found)


class _Grouped:
    """Index rows in the order of their ids, asked for one id after the other."""

    def __init__(self, rows: Iterator[tuple[str, str, Any]]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def of(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._next is not None and self._next[0] <= id:
            if self._next[0] == id:
                found[self._next[1]] = self._next[2]
            self._next = next(self._rows, None)
        return found


def _as_stored(winner: Winner) -> Stored:
    if not winner.deleted:
        return Stored(winner.line, winner.order_us)
    updated_at = decode_envelope(winner.line.encode()).updated_at
    return Stored(None, winner.order_us, updated_at if isinstance(updated_at, str) else None)
