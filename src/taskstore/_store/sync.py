"""Bringing the cache to what the logs say.

The steps for one collection, cheapest first: the same stat needs nothing; the same bytes only a
note of the new stat; new lines after old ones only those lines; anything else a replay.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs

from taskstore._cache.rows import Rows
from taskstore._format.fingerprint import Fingerprint
from taskstore._format.problems import Problem
from taskstore._log import files
from taskstore._log.fingerprint import checksum
from taskstore._log.recovery import recover, virtual_limits
from taskstore._log.replay import LogChangedError, replay
from taskstore._store.access import access
from taskstore._store.context import StoreContext
from taskstore._store.freshness import stat_log
from taskstore._store.report import CollectionReport, SyncReport
from taskstore._store.settings import read_indexes
from taskstore._store.transaction import Unit
from taskstore.errors import StoreAccessError

if TYPE_CHECKING:
    from taskstore._store.mirror_sync import MirrorSync

Progress = Callable[[str, int, int], None]
"""Called with a collection, the bytes read so far and the bytes to read."""

_ATTEMPTS = 10
"""How often a log is read again that somebody changes while it is read, without our lock."""

_RECORDED = ("noted", "tail", "replayed")
"""The actions that record a fingerprint."""


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
        context: the store.
        rows: on the connection of the transaction.
        unit: the transaction, which learns the new fingerprints.
        force: whether to replay even what looks fresh, over an emptied cache.
        on_progress: called while a log is read.
        mirrored: brings mirrored tables along; None where there are none.
        counted: whether the report is to say how many records there are, which costs a scan.
    """

    context: StoreContext
    rows: Rows
    unit: Unit
    force: bool = False
    on_progress: Progress | None = None
    counted: bool = False
    mirrored: MirrorSync | None = None

    def run(self, collections: Iterable[str] | None) -> SyncReport:
        """Bring the collections up to date.

        Args:
            collections: their names; None for all that are stale (with `force`, all there are).

        Raises:
            StoreAccessError: a log cannot be read.
            RecoveryError: a journal was left that can neither be applied nor put aside.
        """
        recovered: list[Problem] = []
        limits: dict[str, int] = {}
        if self.context.read_only:
            limits = virtual_limits(self.context.layout)
        else:
            recovered = recover(self.context.layout, lock_timeout=self.context.lock_timeout)
        if self.mirrored is not None:
            self.mirrored.catch_up()
        names, strays = self.context.layout.collections()
        if collections is None:
            collections = self._all(names)
        reports = {name: self._collection(name, limits.get(name)) for name in collections}
        if any(report.action in _RECORDED for report in reports.values()):
            self._settle_names()
        settings = read_indexes(self.context.layout)
        if settings.problem is not None:
            strays.append(settings.problem)
        unfit = self.mirrored.project() if self.mirrored is not None else ()
        return SyncReport(reports, tuple(strays), tuple(recovered), unfit)

    def _settle_names(self) -> None:
        """See to it that the files that were read keep their names in a power cut.

        Who replaces a file, as git does, syncs nothing. What is appended to the new one, once it
        is in the cache, would be lost with its name.
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
                # What was loaded by then may be in no log.
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
        """The log says nothing of the rows that stand beside it: all stays as it was."""
        self.rows.revert()
        self.unit.fingerprints[collection] = None
        return CollectionReport(collection, "missing", 0, None, None)

    def _look(self, collection: str, limit: int | None) -> CollectionReport:
        path = self.context.layout.log_path(collection)
        if stat_log(self.context, collection) is None:
            # What is no regular file is reported as a stray, and must not stop the others.
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
        """The log is gone, and with it what it said."""
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
        if known is None or log.size < known.size:
            return self._replay(log, None)
        if known.matches(log.stat) and not known.racy and limit is None:
            self.unit.fingerprints[collection] = known
            return self._report(collection, "fresh", known)
        if _checksum(fd, known.size) != known.checksum:
            return self._replay(log, None)
        if log.size > known.size:
            return self._replay(log, known if known.ended else None)
        # The same bytes under another stat.
        noted = known.renewed(log.stat, log.now_ns)
        self._record(log, noted)
        return self._report(collection, "noted", noted)

    def _replay(self, log: _Log, base: Fingerprint | None) -> CollectionReport:
        """Read the log, or what follows `base` in it, and load what it says."""
        start = base.size if base is not None else 0
        progress = self.on_progress or self.context.on_progress
        found = replay(
            log.fd,
            collection=log.collection,
            path=str(self.context.layout.log_path(log.collection)),
            start=start,
            checksum=base.checksum if base is not None else 0,
            first_line=base.lines if base is not None else 0,
            problems_before=base.problems if base is not None else 0,
            limit=log.limit,
            on_progress=None
            if progress is None
            else lambda done: progress(log.collection, done - start, log.size - start),
        )
        winners = found.winners(log.fd)
        if base is not None:
            self.rows.merge_tail(log.collection, winners)
        else:
            if self.force:
                # A foreign program may have written anything: the cache is not believed.
                self.rows.drop_collection(log.collection)
            self.rows.load(log.collection, winners)
        self._unsettle(log.collection)
        fingerprint = Fingerprint.of(log.stat, found, log.now_ns)
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


def _checksum(fd: int, stop: int) -> int:
    try:
        return checksum(fd, stop)
    except EOFError as error:
        raise LogChangedError(str(error)) from None
