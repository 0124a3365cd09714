"""The calls of a store that look after it: sync, verify, compact, history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, overload

import attrs

from taskstore._cache.rows import Rows
from taskstore._format.names import check_collection_name, check_id
from taskstore._format.problems import Problem
from taskstore._log.compaction import compact_log
from taskstore._log.recovery import recover, virtual_limits
from taskstore._query.conditions import Condition, all_of
from taskstore._store.cache_file import CacheFile
from taskstore._store.catalog import Catalog
from taskstore._store.context import StoreContext
from taskstore._store.inspection import Inspector, Version
from taskstore._store.refresh import Refresher
from taskstore._store.report import SyncReport
from taskstore._store.sessions import Sessions
from taskstore._store.sync import Progress
from taskstore._store.verification import Verification, VerifyReport
from taskstore.errors import RecordNotFoundError, StoreReadOnlyError, TransactionOpenError

T = TypeVar("T")
Row = dict[str, Any]

KEEP_TOMBSTONES_MS = 90 * 24 * 60 * 60 * 1000
"""How long a compaction keeps tombstones: 90 days, in milliseconds."""


@attrs.frozen
class CompactReport:
    """What a compaction did.

    Attributes:
        collection: the collection.
        bytes_before, bytes_after: the length of its log.
        lines_before, lines_after: its lines, blank ones and problems too.
        tombstones_dropped: how many tombstones were old enough to go.
    """

    collection: str
    bytes_before: int
    bytes_after: int
    lines_before: int
    lines_after: int
    tombstones_dropped: int


class UpkeepCalls:
    """What keeps a store in good order, and shows what is in its logs."""

    _cache: CacheFile
    _catalog: Catalog
    _context: StoreContext
    _refresher: Refresher
    _sessions: Sessions

    def is_stale(self) -> bool:
        """Whether any log says something that the cache does not know."""
        self._context.check_open()
        self._cache.check()
        return self._cache.retried(self._refresher.is_stale)

    def sync(self, *, force: bool = False, on_progress: Progress | None = None) -> SyncReport:
        """Bring the cache to what the logs say.

        Args:
            force: replay every log from its beginning, into an emptied cache.
            on_progress: called with a collection, the bytes read and the bytes to read.

        Returns:
            What was read and found, per collection, and the problems among the lines read.

        Raises:
            StoreAccessError: a log cannot be read.
            RecoveryError: a crash left what cannot be recovered.
            TransactionOpenError: the caller is within a transaction.
        """
        self._check_alone("sync")
        return self._cache.retried(
            lambda: self._refresher.sync(force=force, on_progress=on_progress, counted=True)
        )

    def verify(self, *, repair: bool = False) -> VerifyReport:
        """Compare the cache with the logs, row by row, and the index rows with the records.

        Args:
            repair: make the cache of each collection that differs anew from its log. The logs
                are never touched.

        Raises:
            StoreAccessError: a log cannot be read.
            TransactionOpenError: the caller is within a transaction.
        """
        self._check_alone("verify")
        if self._context.refresh:
            self._refresher.before_read(None)
        report = self._verified()
        if report.ok or not repair:
            return report
        self._refresher.sync(report.collections, force=True)
        return attrs.evolve(report, repaired=True)

    def compact(
        self,
        type: Any,
        /,
        *,
        keep_tombstones_ms: int = KEEP_TOMBSTONES_MS,
        on_progress: Progress | None = None,
    ) -> CompactReport:
        """Write a log anew with the newest line of each record only.

        The lines that stay keep their bytes and their order; lines that are no record stay too.

        Args:
            type: a record class, or a collection's name.
            keep_tombstones_ms: how long tombstones are kept, in milliseconds. As long as a branch
                or a clone may bring an older line of a dead record, its tombstone is needed.
            on_progress: called with the collection, the bytes read and the bytes to read.

        Raises:
            RecordNotFoundError: the collection has no log.
            LogWriteError: the disk refused; the old log is as it was.
            TransactionOpenError: the caller is within a transaction.
        """
        collection = self._collection(type)
        if self._context.read_only:
            raise StoreReadOnlyError(self._context.path, operation="compact a log")
        self._check_alone("compact a log")
        progress = on_progress
        context = self._context
        with self._refresher.rewriting([collection]) as (rows, unit):
            try:
                done = compact_log(
                    context.layout,
                    collection,
                    dead_before_us=(context.clock() - keep_tombstones_ms) * 1000,
                    lock_timeout=context.lock_timeout,
                    on_progress=None
                    if progress is None
                    else lambda now, whole: progress(collection, now, whole),
                )
            except FileNotFoundError:
                raise RecordNotFoundError(collection=collection, id="*") from None
            rows.forget(collection, *done.forgotten)
            unit.fingerprints[collection] = done.fingerprint
            if done.fingerprint is None:
                rows.drop_fingerprint(collection)
            else:
                rows.put_fingerprint(collection, done.fingerprint, context.clock())
        return CompactReport(
            collection,
            done.bytes_before,
            done.bytes_after,
            done.lines_before,
            done.lines_after,
            len(done.forgotten),
        )

    @overload
    def history(self, type: type[T], id: str, /) -> list[Version[T]]: ...
    @overload
    def history(self, type: str, id: str, /) -> list[Version[Row]]: ...
    def history(self, type: Any, id: str, /) -> Any:
        """Return every version of a record that its log has, oldest first.

        Lines that lost against a newer one are among them. A compaction removes them.
        """
        self._context.check_open()
        codec = self._catalog.codec(type)
        return Inspector(self._context).history(codec, check_id(id, codec.collection))

    @overload
    def list_tolerant(
        self, type: type[T], /, *filters: Condition
    ) -> tuple[list[T], list[Problem]]: ...
    @overload
    def list_tolerant(
        self, type: str, /, *filters: Condition
    ) -> tuple[list[Row], list[Problem]]: ...
    def list_tolerant(self, type: Any, /, *filters: Condition) -> Any:
        """Read the log itself: the records that fit, newest first, and what is wrong.

        A line that is no record, and a record that does not fit the class, is a problem with file
        and line number, where `list` would raise or say nothing.
        """
        self._context.check_open()
        codec = self._catalog.codec(type)
        return Inspector(self._context).records(codec, all_of(filters))

    def _verified(self) -> VerifyReport:
        context = self._context
        problems: list[Problem] = []
        limits: dict[str, int] = {}
        # Writers append and commit under the log lock: within it the two cannot differ.
        with context.log_lock.hold(context.lock_timeout), self._rows() as rows:
            if context.read_only:
                limits = virtual_limits(context.layout)
            else:
                problems += recover(context.layout, lock_timeout=context.lock_timeout)
            run = Verification(context, rows, problems)
            counts, differences = run.run(limits)
        return VerifyReport(counts, tuple(differences), tuple(run.problems))

    @contextmanager
    def _rows(self) -> Iterator[Rows]:
        """The cache in one snapshot."""
        connection = self._context.engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("BEGIN")
            yield Rows(cursor, self._context.models)
            cursor.close()
        finally:
            connection.close()

    def _collection(self, type: Any) -> str:
        if isinstance(type, str):
            return check_collection_name(type)
        return self._catalog.codec(type).collection

    def _check_alone(self, operation: str) -> None:
        self._context.check_open()
        if self._sessions.current() is not None:
            raise TransactionOpenError(operation=operation)
        self._cache.check()
