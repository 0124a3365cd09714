"""Loads what the replay of a log found: a whole collection, or what was appended to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, TypeAlias

import attrs

from taskstore._cache.rows.driver import CHUNK_BYTES, CHUNK_ROWS, chunked, peeked
from taskstore._cache.rows.records import Hidden, RecordRows, Stored
from taskstore._evolution.shape import mark_of
from taskstore._format.lines import decode_envelope

Winner: TypeAlias = tuple[str, int, bool, str]
"""Id, version in microseconds, whether it is not served, and the line.

What is not served is a tombstone, or was written under a revision that is not known here.
"""


@attrs.define
class LoadCounts:
    """What a load changed.

    Attributes:
        written: Live records inserted or updated.
        tombstones: Tombstones set or changed.
        removed: Records and tombstones that are in the log no more.
    """

    written: int = 0
    tombstones: int = 0
    removed: int = 0


@attrs.define
class _Batch:
    """Changes that wait to be written together."""

    written: list[tuple[str, str, int, int]] = attrs.field(factory=list)
    tombstones: list[Hidden] = attrs.field(factory=list)
    removed: list[str] = attrs.field(factory=list)
    length: int = 0

    def put(self, id: str, order_us: int, line: str) -> None:
        self.written.append((id, line, order_us // 1000, order_us))
        self.length += len(line)

    def is_full(self) -> bool:
        count = len(self.written) + len(self.tombstones) + len(self.removed)
        return count >= CHUNK_ROWS or self.length >= CHUNK_BYTES


class Rows(RecordRows):
    """All that is done to the cache's tables below SQLAlchemy, on one driver's cursor.

    Transactions are the caller's, and so are the log and its locks.

    Args:
        cursor: A cursor of the driver, in the transaction that is meant.
        models: Whose tables are meant.
    """

    on_change: Callable[[str, Iterable[str], Iterable[str]], None] | None = None
    """Told a collection, the ids that a load writes or buries, and those that it removes."""

    def load(self, collection: str, winners: Iterable[Winner]) -> LoadCounts:
        """Make a collection what the replay of its log found.

        An empty collection is filled; of another one only what differs is written. Memory stays
        bounded whatever the number of records. Index rows without a fingerprint, as
        those of an older layout, are rewritten.

        Args:
            collection: The collection.
            winners: The newest line of each id, in the order of the ids.
        """
        counts = LoadCounts()
        if not any(self._has_rows(collection, table) for table in self._tables()):
            self._fill(collection, iter(winners), counts)
            return counts
        trusted = self.fingerprint(collection) is not None
        self._compare(collection, winners, counts, index=trusted)
        if not trusted:
            self.rebuild_index(collection)
        return counts

    def merge_tail(self, collection: str, winners: Iterable[Winner]) -> LoadCounts:
        """Add what was appended to a log: the newer version counts, and the tail on a tie.

        Args:
            collection: The collection.
            winners: The newest line of each id that occurs in the tail.
        """
        counts = LoadCounts()
        for chunk in chunked(winners, 3):
            stored = self.stored(collection, [id for id, *_ in chunk])
            batch = _Batch()
            for id, order_us, deleted, line in chunk:
                known = stored.get(id)
                if known is None or known.order_us <= order_us:
                    _note(batch, known, (id, order_us, deleted, line))
            self._flush(collection, batch, counts, index=True)
        return counts

    def _tables(self) -> tuple[str, ...]:
        return self._records, self._indexes, self._tombstones

    def _has_rows(self, collection: str, table: str) -> bool:
        return bool(self._read(f"SELECT 1 FROM {table} WHERE collection = ? LIMIT 1", [collection]))

    def _fill(self, collection: str, winners: Iterator[Winner], counts: LoadCounts) -> None:
        first, big = peeked(winners, 3)
        [(others,)] = self._read(
            f"SELECT count(*) FROM (SELECT 1 FROM {self._records} LIMIT ?)", (len(first) + 1,)
        )
        # The indexes cover all collections. Evolutions, which are few, are there before the rest.
        with self._in_bulk(self._records, worth=big and others <= len(first)):
            self._write_many(
                f"INSERT INTO {self._records} "
                "(collection, id, data_json, updated_at, updated_at_us) VALUES (?, ?, ?, ?, ?)",
                self._living(collection, chain(first, winners), counts),
            )
        self.rebuild_index(collection)

    def _reported(self, collection: str, winners: Iterable[Winner]) -> Iterable[Winner]:
        """Yield the winners, and tell `on_change` of them."""
        if self.on_change is None:
            yield from winners
            return
        for chunk in chunked(winners, 3):
            self.on_change(collection, [id for id, *_ in chunk], ())
            yield from chunk

    def _living(
        self, collection: str, winners: Iterable[Winner], counts: LoadCounts
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of live records, and write the tombstones between them."""
        tombstones = self._driver.cursor()
        batch = _Batch()
        sql = (
            f"INSERT INTO {self._tombstones} "
            "(collection, id, updated_at, updated_at_us, updated_at_text, revision) "
            "VALUES (?, ?, ?, ?, ?, ?)"
        )
        for id, order_us, deleted, line in self._reported(collection, winners):
            if not deleted:
                counts.written += 1
                yield collection, id, line, order_us // 1000, order_us
                continue
            batch.tombstones.append(_tombstone(id, order_us, line))
            if batch.is_full():
                counts.tombstones += len(batch.tombstones)
                tombstones.executemany(
                    sql, [(collection, *tombstone) for tombstone in batch.tombstones]
                )
                batch.tombstones.clear()
        counts.tombstones += len(batch.tombstones)
        tombstones.executemany(sql, [(collection, *tombstone) for tombstone in batch.tombstones])
        tombstones.close()

    def _compare(
        self, collection: str, winners: Iterable[Winner], counts: LoadCounts, *, index: bool
    ) -> None:
        """Walk through the log's winners and the cache's rows side by side."""
        stored = self.in_order(collection)
        batch = _Batch()
        known = next(stored, None)
        for winner in winners:
            while known is not None and known[0] < winner[0]:
                batch.removed.append(known[0])
                known = next(stored, None)
                self._flush_full(collection, batch, counts, index=index)
            if known is not None and known[0] == winner[0]:
                _note(batch, known[1], winner)
                known = next(stored, None)
            else:
                _note(batch, None, winner)
            self._flush_full(collection, batch, counts, index=index)
        while known is not None:
            batch.removed.append(known[0])
            known = next(stored, None)
            self._flush_full(collection, batch, counts, index=index)
        self._flush(collection, batch, counts, index=index)

    def in_order(self, collection: str) -> Iterator[tuple[str, Stored]]:
        """Yield what the cache has, live and dead, in the order of the ids."""
        last = None
        for page in self._pages(
            # Each half says where it begins, or every page would sort the whole collection.
            f"SELECT id, data_json, updated_at_us, NULL, NULL FROM {self._records} "
            "WHERE collection = ?1 AND id > ?2 UNION ALL "
            f"SELECT id, NULL, updated_at_us, updated_at_text, revision FROM {self._tombstones} "
            "WHERE collection = ?1 AND id > ?2 ORDER BY id",
            collection,
        ):
            for id, *known in page:
                if id != last:
                    yield id, Stored(*known)
                last = id

    def _flush_full(
        self, collection: str, batch: _Batch, counts: LoadCounts, *, index: bool
    ) -> None:
        if batch.is_full():
            self._flush(collection, batch, counts, index=index)

    def _flush(self, collection: str, batch: _Batch, counts: LoadCounts, *, index: bool) -> None:
        """Write a batch, and empty it."""
        if self.on_change is not None:
            changed = [row[0] for row in batch.written] + [row[0] for row in batch.tombstones]
            self.on_change(collection, changed, batch.removed)
        if batch.removed:
            self.forget(collection, *batch.removed)
        if batch.tombstones:
            self.hide(collection, batch.tombstones)
        if batch.written:
            self.replace(collection, batch.written, loading=True)
            if index:
                self.write_index(collection, [(id, line) for id, line, _, _ in batch.written])
        counts.written += len(batch.written)
        counts.tombstones += len(batch.tombstones)
        counts.removed += len(batch.removed)
        batch.written, batch.tombstones, batch.removed, batch.length = [], [], [], 0


def _note(batch: _Batch, known: Stored | None, winner: Winner) -> None:
    """Note a winner in the batch if the cache holds something else."""
    id, order_us, deleted, line = winner
    if not deleted:
        if known is None or known.line != line or known.order_us != order_us:
            batch.put(id, order_us, line)
        return
    tombstone = _tombstone(id, order_us, line)
    if known is None or known != Stored(None, order_us, *tombstone[3:]):
        batch.tombstones.append(tombstone)


def _tombstone(id: str, order_us: int, line: str) -> Hidden:
    """Return what is kept of a tombstone, or of a line of a revision that is not known."""
    raw = line.encode()
    found = decode_envelope(raw)
    text = found.updated_at if isinstance(found.updated_at, str) else None
    return id, order_us // 1000, order_us, text, None if found.deleted else mark_of(raw)
