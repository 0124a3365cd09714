"""Update the cache from the logs.

The steps for one collection, cheapest first: if the stat is the same, nothing is done; if the bytes
are the same, the new stat is noted; if lines were appended, these are read; otherwise the whole log
is replayed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol

import attrs

from taskstore._cache.rows.rows import Rows
from taskstore._cache.schema.names import WRITTEN
from taskstore._format.fingerprint import Fingerprint
from taskstore._format.names import EVOLUTIONS
from taskstore._format.problems import Problem
from taskstore._log import files
from taskstore._log.digest import LogDigest
from taskstore._log.files import access
from taskstore._log.replay import LogChangedError, replay
from taskstore._store.log_context import LogContext
from taskstore._store.settings import settings_problems
from taskstore._store.shapes import evolution_problems, load_shapes
from taskstore._sync.report import CollectionReport, SyncReport
from taskstore._unit.changes import Changes
from taskstore.errors import StoreAccessError

if TYPE_CHECKING:
    from taskstore._sync.projection_port import Projection

Progress = Callable[[str, int, int], None]
"""Called with a collection, the bytes read so far and the bytes to read."""

_ATTEMPTS = 10
"""How often to read a log again that another program changes while it is read."""

_RECORDED = ("noted", "tail", "replayed")
"""The actions that record a fingerprint."""


class SyncUnit(Protocol):
    """The transaction of a sync, as far as the sync knows it.

    Attributes:
        changes: Records what a rollback must undo.
        fingerprints: The fingerprints of the logs that were read; None for one that is gone.
    """

    changes: Changes
    fingerprints: dict[str, Fingerprint | None]


@attrs.frozen
class _Log:
    """A log that is open for reading, and its stat from before it was read."""

    collection: str
    fd: int
    now_ns: int
    stat: os.stat_result
    limit: int | None

    @property
    def size(self) -> int:
        return self.stat.st_size if self.limit is None else min(self.limit, self.stat.st_size)


@attrs.define
class Sync:
    """One run over some collections, in an open write transaction and under the log lock.

    Attributes:
        context: The store.
        rows: On the connection of the transaction.
        unit: The transaction, which learns the new fingerprints.
        force: Whether to replay even what looks fresh, over an emptied cache.
        on_progress: Called while a log is read.
        mirrored: Brings mirrored tables along; None if there are none.
        counted: Whether the report is to say how many records there are, which costs a scan.
    """

    context: LogContext
    rows: Rows
    unit: SyncUnit
    force: bool = False
    on_progress: Progress | None = None
    counted: bool = False
    mirrored: Projection | None = None

    def run(self, collections: Iterable[str] | None) -> SyncReport:
        """Update the collections.

        Args:
            collections: Their names; None for all that are stale (with `force`, all there are).

        Raises:
            StoreAccessError: A log cannot be read.
            RecoveryError: A journal was left that can neither be applied nor put aside.
        """
        limits: dict[str, int] = {}
        if self.context.read_only:
            from taskstore._log.recovery import virtual_limits

            limits = virtual_limits(self.context.layout)
        else:
            self.context.recover()
        names, strays = self.context.layout.collections()
        reports = self._evolve(limits)
        if collections is None:
            collections = self._all(names)
        for name in collections:
            if name not in reports:
                reports[name] = self._collection(name, limits.get(name))
        if any(report.action in _RECORDED for report in reports.values()):
            self._settle_names()
        strays += settings_problems(self.context.layout)
        strays += evolution_problems(self.context.shapes, self.context.layout, names)
        unfit = self.mirrored.project() if self.mirrored is not None else ()
        return SyncReport(reports, tuple(strays), tuple(self.context.recovered), unfit)

    def _evolve(self, limits: Mapping[str, int]) -> dict[str, CollectionReport]:
        """Read the evolutions, and then read again what the cache holds in another shape."""
        context, reports = self.context, dict[str, CollectionReport]()
        recorded = self.rows.fingerprints()
        if EVOLUTIONS in recorded or context.layout.stat_log(EVOLUTIONS) is not None:
            reports[EVOLUTIONS] = self._collection(EVOLUTIONS, limits.get(EVOLUTIONS))
            recorded = self.rows.fingerprints()
        before: dict[str, dict[str, bytes]] = {}
        migrated = self._migrated()
        if migrated or not context.shapes.are_current(recorded):
            self.unit.changes.on_undo(partial(setattr, context, "shapes", context.shapes))
            context.shapes = load_shapes(self.rows, context.mirrors.by_collection)
            mirrored, self.mirrored = self.mirrored, None
            names = {*context.shapes.differ_from(recorded), *migrated & recorded.keys()}
            for name in sorted(names):
                if context.layout.stat_log(name) is not None:
                    if name in context.mirrors.by_collection:
                        before[name] = self._expected(name, recorded[name])
                    reports[name] = self._collection(name, limits.get(name))
            self.mirrored = mirrored
        if self.mirrored is not None:
            self.mirrored.catch_up(before)
        return reports

    def _migrated(self) -> set[str]:
        """Return the mirrored collections whose rows migrations may have written."""
        if self.mirrored is None:
            return set()
        states = self.rows.mirror_states()
        written = {name for name, state in states.items() if state in WRITTEN}
        return written & self.context.mirrors.by_collection.keys()

    def _expected(self, collection: str, known: Fingerprint) -> dict[str, bytes]:
        """Return a digest of what each record's line says in today's shape, if it is the same.

        Its version alone does not tell: the merge of two lines has that of the newer one.
        """
        shape = self.context.shapes.of(collection)
        expected: dict[str, bytes] = {}
        for id, stored in self.rows.in_order(collection):
            if stored.line is not None:
                stored = stored._replace(line=shape.moved(stored.line, known.shape))
            expected[id] = stored.digest
        return expected

    def _settle_names(self) -> None:
        """Make sure that the files that were read keep their names in a power cut.

        A program that replaces a file, such as git, syncs nothing. If the name of the new file is
        lost, so are the lines that are appended to it.
        """
        if not self.context.read_only:
            with access(self.context.path, "sync"):
                files.sync_directory(self.context.path)

    def _all(self, names: list[str]) -> list[str]:
        mirrored = self.context.mirrors.by_collection
        return sorted({*names, *self.rows.fingerprints(), *self.rows.collections(), *mirrored})

    def _collection(self, collection: str, limit: int | None) -> CollectionReport:
        for _ in range(_ATTEMPTS):
            self.rows.savepoint()
            if self.mirrored is not None:
                self.mirrored.begin(collection, force=self.force)
            try:
                report = self._look(collection, limit)
            except LogChangedError as changed:
                # Rows that were loaded by then may be in no log.
                self.rows.revert()
                last = changed
            else:
                if self.mirrored is not None and self.mirrored.is_missing(collection):
                    return self._missing(collection)
                self.rows.release()
                return report
        raise StoreAccessError(
            self.context.layout.log_path(collection),
            operation="read",
            reason=f"it changes faster than it can be read ({last})",
        )

    def _missing(self, collection: str) -> CollectionReport:
        """Report a log that has nothing about the rows of its table, and change nothing."""
        self.rows.revert()
        self.unit.fingerprints[collection] = None
        return CollectionReport(collection, "missing", 0, None, None)

    def _look(self, collection: str, limit: int | None) -> CollectionReport:
        path = self.context.layout.log_path(collection)
        if self.context.layout.stat_log(collection) is None:
            # Report anything that is not a regular file as a stray, and carry on.
            return self._removed(collection)
        with access(path):
            try:
                fd = files.open_log(path)
            except FileNotFoundError:
                return self._removed(collection)
            try:
                return self._compare(collection, fd, limit)
            finally:
                os.close(fd)

    def _removed(self, collection: str) -> CollectionReport:
        """Remove the rows of a log that is gone."""
        known = self.rows.fingerprint(collection)
        action = "removed" if known is not None or any(self.rows.counts(collection)) else "fresh"
        self.rows.drop_collection(collection)
        if action == "removed":
            self._unsettle(collection)
        self.unit.fingerprints[collection] = None
        return CollectionReport(collection, action, 0, 0, 0)

    def _compare(self, collection: str, fd: int, limit: int | None) -> CollectionReport:
        log = _Log(collection, fd, time.time_ns(), os.fstat(fd), limit)
        known = None if self.force else self.rows.fingerprint(collection)
        shape = self.context.shapes.of(collection).signature
        if known is None or log.size < known.size or known.shape != shape:
            return self._replay(log, None)
        if known.matches(log.stat) and not known.racy and limit is None:
            self.unit.fingerprints[collection] = known
            return self._report(collection, "fresh", known)
        digest = self._digest(fd, known.size)
        if digest.text() != known.digest:
            return self._replay(log, None)
        if log.size > known.size:
            return self._replay(log, known, digest) if known.ended else self._replay(log, None)
        # The same bytes under another stat.
        noted = known.renewed(log.stat, log.now_ns)
        self._record(log, noted)
        return self._report(collection, "noted", noted)

    def _digest(self, fd: int, stop: int) -> LogDigest:
        try:
            return self.context.digester.read(fd, stop)
        except EOFError as error:
            raise LogChangedError(str(error)) from None

    def _replay(
        self, log: _Log, base: Fingerprint | None, digest: LogDigest | None = None
    ) -> CollectionReport:
        """Read the log, or the part after `base`, and load its records."""
        shape = self.context.shapes.of(log.collection)
        start = base.size if base is not None else 0
        progress = self.on_progress or self.context.on_progress
        found = replay(
            log.fd,
            collection=log.collection,
            path=str(self.context.layout.log_path(log.collection)),
            start=start,
            digest=digest or self.context.digester.begin(),
            first_line=base.lines if base is not None else 0,
            problems_before=base.problems if base is not None else 0,
            limit=log.limit,
            lacks=shape.lacks,
            on_progress=None
            if progress is None
            else lambda done: progress(log.collection, done - start, log.size - start),
        )
        winners = shape.winners(found.winners(log.fd), marked=found.marked)
        if base is not None:
            self.rows.merge_tail(log.collection, winners)
        else:
            if self.force:
                # Another program may have written anything, so the cache is not trusted.
                self.rows.drop_collection(log.collection)
            self.rows.load(log.collection, winners)
        self._unsettle(log.collection)
        fingerprint = Fingerprint.of(log.stat, found, log.now_ns, shape.signature)
        self._record(log, fingerprint)
        return self._report(
            log.collection,
            "tail" if base is not None else "replayed",
            fingerprint,
            found.lines - found.first_line,
            tuple(found.problems),
        )

    def _unsettle(self, collection: str) -> None:
        self.rows.unsettle_mirror(collection, self.context.mirrors.digests.get(collection, ""))

    def _record(self, log: _Log, fingerprint: Fingerprint) -> None:
        after = os.fstat(log.fd)
        if not fingerprint.matches(after):
            raise LogChangedError(f"{log.collection} was written to while it was read")
        self.rows.put_fingerprint(log.collection, fingerprint, self.context.clock())
        self.unit.fingerprints[log.collection] = fingerprint

    def _report(
        self,
        collection: str,
        action: str,
        fingerprint: Fingerprint,
        lines: int = 0,
        problems: tuple[Problem, ...] = (),
    ) -> CollectionReport:
        records = tombstones = None
        if self.counted:
            records, tombstones = self.rows.counts(collection)
        return CollectionReport(
            collection, action, lines, records, tombstones, problems, fingerprint.problems
        )
