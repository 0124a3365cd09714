"""Follows the database transactions of one engine and writes the log before each COMMIT.

SQLAlchemy announces a commit before it happens, but not its failure, and a savepoint before it has
a name. The dialect's transaction methods see both sides of each call, so they are wrapped, on the
one dialect instance of the one engine that was handed over; `remove` puts them back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import attrs
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import OperationalError

from taskstore._cache.bridge import BridgedConnection, driver_cursor, driver_of, give_up
from taskstore._cache.guard import GuardedConnection, permit_writes
from taskstore._cache.rows import Rows
from taskstore._cache.sqlite import WRITE_OPTION, before_begin, begin_as_writer
from taskstore._format.fingerprint import NOTHING_READ, Fingerprint
from taskstore._store.changes import Changes, Key
from taskstore._store.context import StoreContext
from taskstore._store.followers import follow, unfollow
from taskstore.errors import TransactionOpenError, UntrackedWriteError

if TYPE_CHECKING:
    from taskstore._store.mirror_below import Below

GATE_OPTION = "taskstore_gate"
"""The execution option under which a connection passes the gate before it begins."""

WRITER = {GATE_OPTION: True, WRITE_OPTION: True}
"""The execution options of a writer: through the gate, then BEGIN IMMEDIATE."""

_WRAPPED = (
    "do_begin_twophase",
    "do_commit",
    "do_release_savepoint",
    "do_rollback",
    "do_rollback_to_savepoint",
    "do_savepoint",
)


@attrs.define(eq=False)
class Unit:
    """What one database transaction holds until it ends.

    Attributes:
        changes: the lines that the log receives at commit.
        fingerprints: of the logs that were read or written in this transaction; None for one that
            is gone or must be looked at again.
        holds_gate: whether the gate is to be released at the end.
        locked: whether the database's write lock was taken.
        flushing: whether the statements of a flush run whose changes go to the log.
        mirroring: whether mirrored tables are being written below the unit of work.
        relations: association rows that the present flush has written, to be looked at after it.
        below: what the present flush makes the database change by itself, where one may.
        missing: for each mirrored collection that was looked at, how many rows stand beside a
            log that is not theirs.
        autocommit: whether it commits what it should not: there is no transaction around it.
    """

    changes: Changes = attrs.field(factory=Changes)
    fingerprints: dict[str, Fingerprint | None] = attrs.field(factory=dict)
    holds_gate: bool = False
    locked: bool = False
    flushing: bool = False
    mirroring: bool = False
    relations: list[Key] = attrs.field(factory=list)
    below: Below | None = None
    missing: dict[str, int] = attrs.field(factory=dict)
    autocommit: bool = False


def mark_pending(connection: Connection) -> None:
    """Note on a connection of our own that its transaction has something for the log."""
    driver: Any = connection.connection.dbapi_connection
    if isinstance(driver, GuardedConnection):
        driver.pending = True


class TransactionHook:
    """One engine's transactions, each with its `Unit`.

    Attributes:
        engine: the engine; that of the store unless another one for the same database is given.
    """

    def __init__(self, context: StoreContext, engine: Engine | None = None) -> None:
        self._context = context
        self.engine = engine if engine is not None else context.engine
        self._key = f"taskstore-unit-{id(self)}"
        self._originals: dict[str, Callable[..., Any]] = {}
        self._open: WeakSet[Unit] = WeakSet()
        self._removing = False

    def install(self) -> None:
        """Wrap the transaction methods of the engine's dialect; raises as `follow` does."""
        follow(self.engine, self._context)
        dialect = self.engine.dialect
        for name in _WRAPPED:
            self._originals[name] = getattr(dialect, name)
            setattr(dialect, name, getattr(self, f"_{name}"))
        # Who waits for the gate must not hold a database lock yet.
        before_begin(self.engine, self._begin)
        event.listen(self.engine, "invalidate", self._invalidate)
        event.listen(self.engine, "checkin", self._checkin)
        event.listen(self.engine, "detach", self._detach)

    def remove(self) -> None:
        """Put everything back as it was.

        Where a transaction is still open that has lines for the log, or holds the gate, its end is
        waited for: a commit that was none must raise, and the gate be released. An engine of the
        store's own keeps its hooks, for other threads may be in them, and is of no use without.
        """
        if self._context.own_engine:
            return
        unfollow(self.engine, self._context)
        event.remove(self.engine, "begin", self._begin)
        event.remove(self.engine, "invalidate", self._invalidate)
        event.remove(self.engine, "checkin", self._checkin)
        event.remove(self.engine, "detach", self._detach)
        self._removing = True
        self._unwrap_when_idle()

    def _unwrap_when_idle(self) -> None:
        if any(unit.changes or unit.holds_gate for unit in list(self._open)):
            return
        dialect = self.engine.dialect
        for name, original in self._originals.items():
            if vars(dialect).get(name) != getattr(self, f"_{name}"):
                # Somebody has wrapped ours since, which passes all on from now on.
                continue
            if original == getattr(type(dialect), name).__get__(dialect):
                delattr(dialect, name)
            else:
                setattr(dialect, name, original)

    def present(self, connection: Connection) -> Unit | None:
        """The unit of the transaction that is open on a connection; None if there is none yet."""
        unit: Unit | None = connection.info.get(self._key)
        return unit

    def unit(self, connection: Connection) -> Unit:
        """The unit of the transaction that is open on a connection."""
        unit = self.present(connection)
        return unit if unit is not None else self._new_unit(connection.info)

    def locked(self, connection: Connection) -> Unit:
        """The unit of a transaction, which holds the database's write lock from now on.

        Raises:
            UntrackedWriteError: there is no transaction, but AUTOCOMMIT.
            OperationalError: another connection holds the lock, or has written since this
                transaction first read.
        """
        unit = self.unit(connection)
        level = connection.get_execution_options().get("isolation_level")
        if unit.autocommit or level == "AUTOCOMMIT":
            raise UntrackedWriteError(
                statement="a write in AUTOCOMMIT, where nothing can be rolled back",
                remedy="use a session with transactions",
            )
        # A raw COMMIT may have ended the transaction that took the lock.
        if not unit.locked or not driver_of(connection.connection).in_transaction:
            with closing(driver_cursor(connection)) as cursor:
                try:
                    Rows(cursor, self._context.models).lock()
                except sqlite3.OperationalError as error:
                    raise OperationalError("BEGIN IMMEDIATE", None, error) from error
            unit.locked = True
        return unit

    def _new_unit(self, info: dict[str, Any]) -> Unit:
        unit: Unit = Unit()
        info[self._key] = unit
        self._open.add(unit)
        return unit

    def _begin(self, connection: Connection) -> None:
        self._context.check_open()
        self._discard(connection.info)
        unit = self._new_unit(connection.info)
        options = connection.get_execution_options()
        if options.get(GATE_OPTION):
            gate = self._context.gate
            if gate.held:
                # Another asyncio task of this thread: to wait for it here would be for ever.
                raise TransactionOpenError(
                    operation="begin a transaction (another task of this thread is in one, and "
                    "waiting for it here would stop both)"
                )
            gate.acquire(self._context.lock_timeout)
            unit.holds_gate = True
            if self._context.closed:
                # It was closed while we waited.
                self._discard(connection.info)
                self._context.check_open()
        unit.locked = bool(options.get(WRITE_OPTION))
        if unit.locked and not self._context.own_engine:
            try:
                begin_as_writer(connection.connection.dbapi_connection)
            except BaseException:
                self._discard(connection.info)
                raise

    def _do_commit(self, dbapi_connection: Any) -> None:
        info = _info(dbapi_connection)
        unit: Unit | None = info.get(self._key)
        try:
            if unit is not None and unit.changes:
                self._write_and_commit(unit, dbapi_connection)
            else:
                self._commit(dbapi_connection)
        except BaseException:
            # SQLAlchemy rolls nothing back here, and the pool would get the connection with
            # its transaction open.
            self._do_rollback(dbapi_connection)
            raise
        if unit is not None:
            self._finish(unit, info)

    def _commit(self, dbapi_connection: Any) -> None:
        driver = driver_of(dbapi_connection)
        if isinstance(driver, GuardedConnection):
            driver.pending = False
        self._originals["do_commit"](dbapi_connection)
        _check_committed(driver)

    def _write_and_commit(self, unit: Unit, dbapi_connection: Any) -> None:
        self._context.check_open()
        batch = unit.changes.batch()
        if not batch:
            self._commit(dbapi_connection)
            return
        driver = driver_of(dbapi_connection)
        if isinstance(driver, BridgedConnection):
            # The log lock is taken and given back by one thread, which is not the event loop's.
            driver.run(
                lambda inner: self._append(unit, batch, inner, _committing(inner), inner.rollback)
            )
            return
        self._append(
            unit,
            batch,
            dbapi_connection,
            lambda: self._commit(dbapi_connection),
            lambda: self._originals["do_rollback"](dbapi_connection),
        )

    def _append(
        self,
        unit: Unit,
        batch: dict[str, list[bytes]],
        driver: Any,
        commit: Callable[[], None],
        rollback: Callable[[], None],
    ) -> None:
        context = self._context
        with closing(driver.cursor()) as cursor, context.log_lock.hold(context.lock_timeout):
            rows = Rows(cursor, context.models)
            known = {name: rows.fingerprint(name) for name in batch}
            appended = context.writer.append(batch, known)
            try:
                for name, fingerprint in appended.fingerprints.items():
                    unit.fingerprints[name] = fingerprint
                    if fingerprint is None and known[name] is None:
                        # Rows without a trace of their log would outlive it.
                        fingerprint = NOTHING_READ
                    if fingerprint is not None:
                        rows.put_fingerprint(name, fingerprint, context.clock())
                    rows.unsettle_mirror(name, context.mirrors.digests.get(name, ""))
                commit()
            except BaseException as error:
                try:
                    rollback()
                finally:
                    # Whatever becomes of the database: the caller is told of a failure.
                    appended.take_back(f"{type(error).__name__}: {error}")
                raise
            appended.retire()

    def _do_rollback(self, dbapi_connection: Any) -> None:
        try:
            self._originals["do_rollback"](dbapi_connection)
        finally:
            self._discard(_info(dbapi_connection))

    def _do_savepoint(self, connection: Connection, name: str) -> None:
        driver = driver_of(connection.connection)
        if not driver.in_transaction:
            # The release of a savepoint without a transaction around it is a commit.
            if driver.isolation_level is None:
                self.unit(connection).autocommit = True
            else:
                # This driver would begin as late as with the first INSERT.
                driver.execute("BEGIN")
        self._originals["do_savepoint"](connection, name)
        self.unit(connection).changes.savepoint(name)

    def _do_release_savepoint(self, connection: Connection, name: str) -> None:
        self._originals["do_release_savepoint"](connection, name)
        self.unit(connection).changes.release(name)

    def _do_rollback_to_savepoint(self, connection: Connection, name: str) -> None:
        try:
            self._originals["do_rollback_to_savepoint"](connection, name)
        finally:
            unit = self.unit(connection)
            unit.changes.rollback_to(name)
            unit.flushing = False
            # A flush that failed did not come to the end at which it closes this again.
            permit_writes(connection, allowed=False)
            # What was read of the logs since then is rolled back too.
            unit.fingerprints.clear()

    def _do_begin_twophase(self, connection: Connection, xid: Any) -> None:
        if not self._removing:
            raise UntrackedWriteError(
                statement="a two-phase transaction",
                remedy="use a session without twophase=True: the log is written at one commit",
            )
        self._originals["do_begin_twophase"](connection, xid)

    def _invalidate(self, dbapi_connection: Any, record: Any, exception: Any) -> None:
        try:
            give_up(record, exception)
        finally:
            self._discard(record.info)

    def _checkin(self, driver: Any, record: Any) -> None:
        # An error at the wrong moment, as in a listener to the commit, has SQLAlchemy believe
        # that all is done.
        if driver is not None and driver_of(record).in_transaction:
            driver.rollback()
        self._discard(record.info)

    def _detach(self, driver: Any, record: Any) -> None:
        # It has taken a copy of this along, unless it is garbage.
        record.info.pop(self._key, None)

    def _finish(self, unit: Unit, info: dict[str, Any]) -> None:
        """The transaction is committed: what it learned is true for all."""
        for name, fingerprint in unit.fingerprints.items():
            if fingerprint is None:
                self._context.known.pop(name, None)
            else:
                self._context.known[name] = fingerprint
        self._release(unit, info)

    def _discard(self, info: dict[str, Any]) -> None:
        """The transaction is gone: give back what its records were given."""
        unit = info.get(self._key)
        if unit is not None:
            try:
                unit.changes.rollback()
            finally:
                self._release(unit, info)

    def _release(self, unit: Unit, info: dict[str, Any]) -> None:
        info.pop(self._key, None)
        self._open.discard(unit)
        if self._removing:
            self._unwrap_when_idle()
        if unit.holds_gate:
            unit.holds_gate = False
            self._context.gate.release()


def _committing(driver: Any) -> Callable[[], None]:
    def commit() -> None:
        driver.commit()
        _check_committed(driver)

    return commit


def _check_committed(driver: Any) -> None:
    if driver.in_transaction:
        raise UntrackedWriteError(
            statement="a commit that the driver did not carry out",
            remedy="create the engine without the driver's autocommit=True",
        )


def _info(dbapi_connection: Any) -> dict[str, Any]:
    """What the pool keeps beside a connection; nothing for one that is only being tried out."""
    try:
        info: dict[str, Any] = dbapi_connection.info
    except NotImplementedError:
        return {}
    return info
