"""The work under the log lock: drain the outbox, sync, verify, export."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import attrs
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from taskstore._cache.rows.records import Stored
from taskstore._format.names import EVOLUTIONS
from taskstore._format.problems import Problem
from taskstore._log.mutex import Claim
from taskstore._mirror.capture.missing_logs import missing_error
from taskstore._mirror.model.shape import Mirror
from taskstore._mirror.projection.verification import MirrorVerification
from taskstore._postgres.cache import CacheTables
from taskstore._postgres.context import PostgresContext
from taskstore._postgres.drain import BatchGrownError, Drain, Drained
from taskstore._postgres.incoming import Incoming, LogRead
from taskstore._postgres.lag import Lag, lag_on
from taskstore._postgres.outbox import has_waiting, last_waiting, note_all, retry_unknown
from taskstore._postgres.projection import (
    Projection,
    lock_records,
    lock_tables,
    refusals_of,
    share_tables,
)
from taskstore._postgres.records.sync import RecordSync
from taskstore._postgres.shaping import Shaping, rows_that_differ
from taskstore._store.shapes import evolution_problems
from taskstore._sync.freshness import looks_fresh
from taskstore._sync.report import SyncReport
from taskstore._sync.verification import Difference, VerifyReport
from taskstore.errors import LockTimeoutError

T = TypeVar("T")


class _TablesNeededError(Exception):
    """The tables have another shape, so that the work needs them all."""


_IN_THE_WAY = {"40001", "40P01", "55P03"}
"""SQLSTATEs that say that another transaction was in the way: serialization, deadlock, lock."""

_GLANCE = 0.02
"""How often a process that waits for the log looks whether its rows are there, in seconds."""


@attrs.frozen
class Work:
    """The work on the logs of one store."""

    context: PostgresContext

    def drain(self, *, in_turn: bool = True) -> int:
        """Write everything that is committed into the log, and return the number of lines.

        Args:
            in_turn: Whether to wait while another process has the log lock. Otherwise nothing is
                done then: that process probably drains.

        Raises:
            OutboxOwnerError: Another clone has the logs.
            LogWriteError, LockTimeoutError, MissingLogError: The log cannot be written.
        """
        end = self._last_waiting()
        written = 0
        while end is not None:
            drained = self._again(partial(self._drain_batch, end, in_turn=in_turn))
            written += drained.lines
            if not drained.more:
                break
        return written

    def _drain_batch(self, end: int, *, in_turn: bool) -> Drained:
        """Drain one batch, unless others have drained all rows up to a number meanwhile."""
        claim = Claim()
        try:
            if self._has_turn(claim, end, in_turn=in_turn):
                return self._once(lambda connection: Drain(self.context, connection).run())
            return Drained(0, more=False)
        finally:
            self.context.store.log_lock.release(claim)

    def _has_turn(self, claim: Claim, end: int, *, in_turn: bool) -> bool:
        """Take the log lock; return False if others have drained the rows, or to let them."""
        store = self.context.store
        lock, deadline = store.log_lock, time.monotonic() + store.lock_timeout
        if lock.try_acquire(claim):
            return True
        if not in_turn:
            return False
        while not lock.take(claim, _GLANCE):
            if not self._has_waiting(end):
                return False
            if time.monotonic() > deadline:
                raise LockTimeoutError(store.path, timeout=store.lock_timeout, lock="log lock")
        return self._has_waiting(end)

    def _last_waiting(self) -> int | None:
        """Return the number of the last row that is not in the log; None without one."""
        with self._looking() as connection:
            return last_waiting(connection, self.context.outbox)

    def _has_waiting(self, end: int) -> bool:
        with self._looking() as connection:
            return has_waiting(connection, self.context.outbox, end)

    def _looking(self) -> Connection:
        """Return a connection for one SELECT, which needs no transaction around it."""
        connection = self.context.engine.connect()
        return connection.execution_options(isolation_level="AUTOCOMMIT")

    def lag(self) -> Lag:
        """Return what waits for the log."""
        with self.context.engine.connect() as connection:
            return lag_on(connection, self.context.outbox)

    def begin(self) -> None:
        """Record, when the store is opened, which shape its tables have."""
        with self.context.engine.begin() as connection:
            Shaping(self.context, connection).begin()

    def is_stale(self) -> bool:
        """Return whether a log does not look as the database knows it, or has another shape."""
        store = self.context.store
        with self.context.engine.connect() as connection:
            shaping = Shaping(self.context, connection)
            if shaping.late() or shaping.shapes.pending:
                return True
            known = CacheTables(connection, store.models).fingerprints()
            own = self.context.own_collections(connection)
        names = [EVOLUTIONS, *self.context.mirrors, *own]
        return not all(looks_fresh(known.get(name), store.layout.stat_log(name)) for name in names)

    def sync(self, *, force: bool = False, prune: bool = False, strict: bool = True) -> SyncReport:
        """Update the tables from the logs.

        Args:
            force: Read every log, also one that looks as it did.
            prune: Take what the logs say also for rows that they never had.
            strict: Whether to raise where a log is missing.

        Raises:
            MissingLogError: Rows stand beside a log that is missing; the rest is synced.
        """
        missing: list[tuple[Mirror, int]] = []

        def work(connection: Connection) -> SyncReport:
            missing.clear()
            run = Projection(self.context, connection, force=force, prune=prune)
            own = RecordSync(self.context, connection)
            reports = run.run() | own.run(force=force)
            self._note_stated(connection)
            missing.extend(run.missing)
            # Changes that the database has made in return.
            self._drained(connection)
            tables = CacheTables(connection, self.context.store.models)
            names = [*self.context.mirrors, *own.names]
            unfit = tuple(refusals_of(self.context, tables, names))
            logs, strays = self.context.store.layout.collections()
            strays += evolution_problems(self.context.store.shapes, self.context.store.layout, logs)
            recovered = tuple(self.context.store.recovered)
            return SyncReport(reports, tuple(strays), recovered, unfit)

        report = self._holding_tables(work)
        if missing and strict:
            mirror, rows = missing[0]
            raise missing_error(self.context.store, mirror, rows)
        return report

    def export(self, mirror: Mirror) -> int:
        """Write the rows of a table that the log does not have; return how many lines."""

        def work(connection: Connection) -> int:
            tables = CacheTables(connection, self.context.store.models)
            incoming = Incoming(self.context.store, connection, mirror.collection)
            with incoming.loaded():
                if not incoming.has_own_log():
                    # Another log, or none: nothing that it had is in it.
                    tables.forget(mirror.collection)
            tables.put_refusals(mirror.collection, {})
            note_all(connection, self.context.outbox, mirror)
            return self._drained(connection)

        return self._holding_tables(work)

    def take_over(self) -> dict[str, int]:
        """Make this clone write the logs of the database from now on, instead of another one.

        The database has the newest line of each record. Those that the logs here lack, as the
        other clone had not pushed them, are appended: otherwise a sync would delete their rows.

        Returns:
            How many lines were appended to each log.
        """
        store = self.context.store

        def work(connection: Connection) -> dict[str, int]:
            self.context.put_owner(connection)
            behind = {}
            for name in [*self.context.mirrors, *self.context.own_collections(connection)]:
                incoming = Incoming(store, connection, name)
                with incoming.loaded():
                    behind[name] = incoming.behind()
            if any(behind.values()):
                store.writer.append(behind, {}).retire()
            return {name: len(lines) for name, lines in behind.items() if lines}

        return self._alone(work, is_owner=False)

    def verify(self) -> VerifyReport:
        """Compare logs, what is stored of them, and the mirrored tables."""
        return self._holding_tables(self._verified)

    def _verified(self, connection: Connection) -> VerifyReport:
        store = self.context.store
        tables = CacheTables(connection, store.models)
        logs, strays = store.layout.collections()
        problems: list[Problem] = [*strays, *store.recovered]
        problems += evolution_problems(store.shapes, store.layout, logs)
        differences: list[Difference] = []
        counts: dict[str, int] = {}

        def compare(incoming: Incoming, read: LogRead) -> None:
            counts[incoming.collection], _ = tables.count(incoming.collection)
            if read.replay is not None:
                problems.extend(read.replay.problems)
            differences.extend(_log_differences(incoming, tables))

        for name in self.context.mirrors:
            incoming = Incoming(store, connection, name)
            with incoming.loaded() as read:
                compare(incoming, read)
        own = RecordSync(self.context, connection)
        for name in own.names:
            with own.loaded(name) as (incoming, read):
                compare(incoming, read)
        problems += refusals_of(self.context, tables, own.names)
        rows = cast("Any", _VerifiedRows(tables))
        differences += MirrorVerification(store, connection, rows, problems).run()
        problems += [
            Problem(None, str(store.path), None, f"a row that no line can carry: {one}")
            for one in lag_on(connection, self.context.outbox).problems
        ]
        return VerifyReport(counts, tuple(differences), tuple(problems))

    def _reshape(self, connection: Connection, shaping: Shaping, late: Sequence[str]) -> None:
        """Bring the stored lines, and the rows, of some collections to the shape of their tables.

        Rows that wait for the log build on lines of the new shape, so these come first. The log is
        read after that: lines that were too new may be readable now. Last come rows to which DDL
        has given other values than the evolution says.
        """
        mirrors = [self.context.mirrors[name] for name in late if name in self.context.mirrors]
        for mirror in mirrors:
            shaping.move(mirror.collection)
        self._drained(connection, late)
        run = Projection(self.context, connection, again=late)
        run.run()
        RecordSync(self.context, connection).run(force=False, again=late)
        tables = CacheTables(connection, self.context.store.models)
        for mirror in mirrors:
            ids = run.untouched(mirror.collection, tables.ids(mirror.collection))
            for changes in rows_that_differ(connection, tables, mirror, ids):
                Drain(self.context, connection).write(mirror, changes)
        self._drained(connection)

    def _note_stated(self, connection: Connection) -> None:
        """Note what evolutions.jsonl looks like, after its content was used."""
        store = self.context.store
        tables = CacheTables(connection, store.models)
        if looks_fresh(tables.fingerprints().get(EVOLUTIONS), store.layout.stat_log(EVOLUTIONS)):
            return
        retry_unknown(connection, self.context.outbox)
        with Incoming(store, connection, EVOLUTIONS).loaded() as read:
            if read.fingerprint is None:
                tables.forget(EVOLUTIONS)
            else:
                tables.put_fingerprint(EVOLUTIONS, read.fingerprint, store.clock())

    def _drained(self, connection: Connection, reshaped: Collection[str] = ()) -> int:
        written, more = 0, True
        while more:
            drained = Drain(self.context, connection, reshaped).run()
            written += drained.lines
            more = drained.more
        return written

    def _holding_tables(self, work: Callable[[Connection], T]) -> T:
        """Do something while nobody writes mirrored tables, and nothing waits for the log."""

        def run(connection: Connection) -> T:
            self._drained(connection)
            return work(connection)

        return self._alone(run, locked=self.context.mirrors.values())

    def _alone(
        self,
        work: Callable[[Connection], T],
        locked: Iterable[Mirror] | None = None,
        *,
        is_owner: bool = True,
    ) -> T:
        """Do something in a transaction and under the log lock, and again if others are in the way.

        Args:
            work: What to do.
            locked: The models whose tables nobody may write meanwhile, and the store's own records
                with them; None for no lock.
            is_owner: Whether this clone has to be the one that writes the logs.

        Raises:
            LockTimeoutError: They were for longer than the store's `lock_timeout`.
        """
        store = self.context.store
        return self._again(
            lambda: store.log_lock.run(
                store.lock_timeout, lambda: self._once(work, locked, is_owner=is_owner)
            )
        )

    def _again(self, work: Callable[[], T]) -> T:
        """Do something, and again if others are in the way.

        Raises:
            LockTimeoutError: They were for longer than the store's `lock_timeout`.
        """
        store = self.context.store
        started = time.monotonic()
        while True:
            try:
                return work()
            except _TablesNeededError:
                # That alone brings them to their new shape.
                self._alone(lambda _: None, locked=self.context.mirrors.values())
                continue
            except BatchGrownError as error:
                self.context.shared = frozenset(error.collections)
                continue
            except DBAPIError as error:
                # It may have been a table that the next batch has no rows of.
                self.context.shared = frozenset()
                state = getattr(error.orig, "sqlstate", None)
                if state not in _IN_THE_WAY:
                    raise
                if time.monotonic() - started > store.lock_timeout:
                    raise LockTimeoutError(
                        store.path, timeout=store.lock_timeout, lock="lock of mirrored tables"
                    ) from error
            # Not in step with the transaction that was in the way.
            time.sleep(random.uniform(0.005, 0.05))  # noqa: S311

    def _once(
        self,
        work: Callable[[Connection], T],
        locked: Iterable[Mirror] | None = None,
        *,
        is_owner: bool = True,
    ) -> T:
        self.context.guard()
        self.context.store.recover()
        self.context.held = held = None if locked is not None else self.context.shared
        with self.context.transaction() as connection:
            # Before the first SELECT, so that the snapshot has all that writers have committed.
            if locked is not None:
                lock_tables(connection, locked)
                lock_records(connection, self.context.store.models)
            elif is_owner and held:
                mirrors = self.context.mirrors
                share_tables(connection, [mirrors[name] for name in held if name in mirrors])
            if is_owner:
                self.context.claim(connection)
            shaping = Shaping(self.context, connection)
            shaping.use()
            if is_owner:
                shaping.check_reached()
                late = shaping.late()
                if late and locked is None:
                    raise _TablesNeededError
                shaping.state_pending()
                if late:
                    self._reshape(connection, shaping, late)
            return work(connection)


@attrs.frozen
class _VerifiedRows:
    """The rows of the cache that the verification of mirrored tables needs."""

    tables: CacheTables

    def problems(self, collection: str) -> dict[str, str]:
        return self.tables.refusals(collection)

    def stored(self, collection: str, ids: list[str]) -> dict[str, Stored]:
        return self.tables.stored(collection, ids)

    def lines(self, collection: str) -> Iterator[tuple[str, str]]:
        for id, (line, _) in self.tables.lines(collection).items():
            yield id, line


def _log_differences(incoming: Incoming, tables: CacheTables) -> Iterator[Difference]:
    name = incoming.collection
    lines = tables.lines(name)
    for id, line, is_known in incoming.changed():
        stored = lines[id][0] if is_known else None
        yield Difference(name, id, "different" if is_known else "missing", line, stored)
    for id in incoming.gone():
        yield Difference(name, id, "extra", None, lines[id][0])
