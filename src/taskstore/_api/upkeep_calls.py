"""The maintenance calls of a store: sync, verify, compact, history."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

import attrs

from taskstore._api.sessions import Sessions
from taskstore._format.names import check_id
from taskstore._format.problems import Problem
from taskstore._log.recovery import virtual_limits
from taskstore._query.conditions import Condition, all_of
from taskstore._store.catalog import Catalog
from taskstore._store.context import StoreContext
from taskstore._sync import projection_port
from taskstore._sync.cache_file import CacheFile
from taskstore._sync.refresh import Refresher
from taskstore._sync.report import SyncReport
from taskstore._sync.sync import Progress
from taskstore.errors import RecordNotFoundError, TransactionOpenError

if TYPE_CHECKING:  # rarely called, so imported late
    from taskstore._log.compaction import Compacted
    from taskstore._sync.inspection import Version
    from taskstore._sync.verification import VerifyReport

T = TypeVar("T")
R = TypeVar("R")
Row = dict[str, Any]

KEEP_TOMBSTONES_MS = 90 * 24 * 60 * 60 * 1000
"""How long a compaction keeps tombstones: 90 days, in milliseconds."""


@attrs.frozen
class CompactReport:
    """What a compaction did.

    Attributes:
        collection: The collection.
        bytes_before, bytes_after: The length of its log.
        lines_before, lines_after: The number of its lines, including blank ones and problems.
        tombstones_dropped: How many old tombstones were dropped.
    """

    collection: str
    bytes_before: int
    bytes_after: int
    lines_before: int
    lines_after: int
    tombstones_dropped: int


class UpkeepCalls:
    """The calls that maintain a store and show what is in its logs."""

    _cache: CacheFile
    _catalog: Catalog
    _context: StoreContext
    _refresher: Refresher
    _sessions: Sessions

    def is_stale(self) -> bool:
        """Return whether any log has changed since the cache was synced."""
        self._context.check_open()
        self._cache.check()
        return self._retried(self._refresher.is_stale)

    def sync(
        self, *, force: bool = False, prune: bool = False, on_progress: Progress | None = None
    ) -> SyncReport:
        """Update the cache from the logs.

        Args:
            force: Replay every log from the start, into an empty cache.
            prune: Make mirrored tables equal to the logs: delete rows that the logs do not have,
                also those that were never logged.
            on_progress: Called with a collection, the bytes read and the bytes to read.

        Returns:
            What was read and found, per collection, and the problems among the lines read.

        Raises:
            StoreAccessError: A log cannot be read.
            RecoveryError: A crash left something that cannot be recovered.
            MissingLogError: A mirrored table has rows, but its log is missing, empty, or belongs
                to other rows. Its rows stay, and everything else is synced.
            TransactionOpenError: The caller is inside a transaction.
        """
        self._check_alone("sync")
        return self._checked(
            lambda: self._refresher.sync(
                force=force, on_progress=on_progress, counted=True, prune=prune
            )
        )

    def verify(self, *, repair: bool = False) -> VerifyReport:
        """Compare the cache with the logs, row by row, and the index rows with the records.

        Args:
            repair: Rebuild the cache of each collection that differs from its log. The logs
                are never changed.

        Raises:
            StoreAccessError: A log cannot be read.
            TransactionOpenError: The caller is inside a transaction.
        """
        self._check_alone("verify")
        report = self._retried(self._verified)
        if report.ok or not repair:
            return report
        self._checked(lambda: self._refresher.sync(report.collections, force=True))
        return attrs.evolve(report, repaired=True)

    def compact(
        self,
        type: Any,
        /,
        *,
        keep_tombstones_ms: int = KEEP_TOMBSTONES_MS,
        rewrite: bool = False,
        on_progress: Progress | None = None,
    ) -> CompactReport:
        """Rewrite a log with the newest line of each record only.

        Lines that stay keep their bytes and order. Lines that are not records stay too.
        With `rewrite`, those of live records are written in today's shape instead.

        Args:
            type: A record class, or a collection's name.
            keep_tombstones_ms: How long to keep tombstones, in milliseconds. A tombstone is needed
                as long as a branch or a clone may bring an older line of the deleted record.
            rewrite: Write lines of older shapes in today's shape. Programs that do not know this
                shape keep the lines, but do not serve their records.
            on_progress: Called with the collection, the bytes read and the bytes to read.

        Raises:
            RecordNotFoundError: The collection has no log.
            LogWriteError: Writing failed; the old log is unchanged.
            TransactionOpenError: The caller is inside a transaction.
        """
        collection = self._catalog.codec(type).collection
        if self._context.read_only:
            raise self._context.read_only_error("compact a log")
        self._check_alone("compact a log")
        progress = None if on_progress is None else partial(on_progress, collection)
        done = self._retried(
            lambda: self._compacted(collection, keep_tombstones_ms, rewrite, progress)
        )
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

        Lines that lost to a newer one are included. A compaction removes them.
        """
        from taskstore._sync.inspection import Inspector

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
        """Read the log itself: return the records that fit, newest first, and the problems.

        A problem is a line that is not a record, or a record that does not fit the class. It has
        the file and the line number. For the same, `list` would raise or return nothing.
        """
        from taskstore._sync.inspection import Inspector

        self._context.check_open()
        codec = self._catalog.codec(type)
        return Inspector(self._context).records(codec, all_of(filters))

    def _checked(self, sync: Callable[[], SyncReport]) -> SyncReport:
        report = self._retried(sync)
        if any(found.action == "missing" for found in report):
            with self._context.engine.connect() as connection:
                projection_port.check_logs(self._context, connection, report)
        return report

    def _verified(self) -> VerifyReport:
        from taskstore._sync.verification import Verification, VerifyReport

        context = self._context
        names = None if context.refresh else ()
        # As a writer: another writer between its append and its COMMIT would look like a
        # difference.
        with self._refresher.rewriting(names) as (connection, rows, _, synced):
            limits = virtual_limits(context.layout) if context.read_only else {}
            run = Verification(context, rows, list(synced.recovered))
            counts, differences = run.run(limits)
            if context.mirrors:
                differences += projection_port.differences(context, connection, rows, run.problems)
        return VerifyReport(counts, tuple(differences), tuple(run.problems))

    def _compacted(
        self,
        collection: str,
        keep_tombstones_ms: int,
        rewrite: bool,
        on_progress: Callable[[int, int], None] | None,
    ) -> Compacted:
        from taskstore._log.compaction import compact_log

        context = self._context
        with self._refresher.rewriting([collection]) as (_, rows, unit, _):
            known = rows.fingerprint(collection)
            shape = context.shapes.of(collection)
            try:
                done = compact_log(
                    context.layout,
                    collection,
                    dead_before_us=(context.clock() - keep_tombstones_ms) * 1000,
                    lock_timeout=context.lock_timeout,
                    lacks=shape.lacks,
                    reshape=shape.rewritten if rewrite else None,
                    on_progress=on_progress,
                )
            except FileNotFoundError:
                raise RecordNotFoundError(collection=collection, id="*") from None
            unit.fingerprints[collection] = None
            if known is None or known.digest != done.digest_before or not done.fingerprint:
                # A program without a lock has written. The recorded fingerprint makes the next
                # look find another file.
                return done
            rows.forget(collection, *done.forgotten)
            fingerprint = done.fingerprint._replace(shape=known.shape)
            rows.put_fingerprint(collection, fingerprint, context.clock())
            unit.fingerprints[collection] = fingerprint
        return done

    def _retried(self, call: Callable[[], R]) -> R:
        """Call a function. If the cache turns out to be unusable, rebuild it and call again."""
        return self._sessions.run(lambda: self._cache.retried(call))

    def _check_alone(self, operation: str) -> None:
        self._context.check_open()
        if self._sessions.current() is not None:
            raise TransactionOpenError(operation=operation)
        self._cache.check()
