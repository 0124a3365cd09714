"""Follow the database transactions of one engine, and write the log before each COMMIT.

SQLAlchemy announces a commit before it happens, but not its failure, and a savepoint before it has
a name. The dialect's transaction methods see both sides of each call. So they are wrapped, only on
the dialect instance of the given engine. `remove` restores them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import ReferenceType, WeakSet, ref

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from taskstore._cache.engine.bridge import (
    BridgedConnection,
    closing,
    driver_cursor,
    driver_of,
    give_up,
    on_driver,
)
from taskstore._cache.engine.functions import ensure_functions
from taskstore._cache.engine.guard import GuardedConnection
from taskstore._cache.engine.sqlite import (
    BEGUN_OPTION,
    WRITE_OPTION,
    before_begin,
    begin_as_writer,
)
from taskstore._log.mutex import Claim
from taskstore._store.context import StoreContext
from taskstore._unit.capturing import EngineCapture
from taskstore._unit.engine_claims import follow, unfollow
from taskstore._unit.log_port import AppendBeforeCommit, LogPort, check_committed, committing
from taskstore._unit.record_capture import lock
from taskstore._unit.unit import Owner, Unit, current_owner
from taskstore.errors import TransactionOpenError, UntrackedWriteError

GATE_OPTION = "taskstore_gate"
"""The execution option under which a connection passes the gate before it begins."""

WRITER = {GATE_OPTION: True, WRITE_OPTION: True}
"""The execution options of a writer: through the gate, then BEGIN IMMEDIATE."""

_EVENTS = ("begin", "invalidate", "checkin", "detach", "checkout")

_WRAPPED = (
    "do_begin_twophase",
    "do_commit",
    "do_release_savepoint",
    "do_rollback",
    "do_rollback_to_savepoint",
    "do_savepoint",
)


class _InGate(NamedTuple):
    """A transaction in the gate, or in front of it, and the connection that it is open on.

    It is the connection of the pool if the transaction was begun below SQLAlchemy.
    """

    unit: Unit
    connection: ReferenceType[Any]
    info: dict[str, Any]


class TransactionHook:
    """One engine's transactions, each with its `Unit`.

    Attributes:
        engine: The engine; that of the store unless another one for the same database is given.
        capture: What notes the rows that are changed, and collects them.
    """

    def __init__(self, context: StoreContext, engine: Engine | None = None) -> None:
        self._context = context
        self.engine = engine if engine is not None else context.engine
        self._key = f"taskstore-unit-{id(self)}"
        self._originals: dict[str, Callable[..., Any]] = {}
        self._open: WeakSet[Unit] = WeakSet()
        self._in_gate: dict[Owner, _InGate] = {}
        self._removing = False
        self._port: LogPort = AppendBeforeCommit(context)
        self.capture = EngineCapture(context, self.engine)

    def install(self) -> None:
        """Wrap the transaction methods of the engine's dialect; raises as `follow` does."""
        follow(self.engine, self._context)
        dialect = self.engine.dialect
        for name in _WRAPPED:
            self._originals[name] = getattr(dialect, name)
            setattr(dialect, name, getattr(self, f"_{name}"))
        # Never wait for the gate while holding a database lock.
        before_begin(self.engine, self._begin)
        for name in _EVENTS[1:]:
            event.listen(self.engine, name, getattr(self, f"_{name}"))
        if not self._context.own_engine:
            self.capture.install()

    def follow_own(self) -> None:
        """Note changes also if the engine is the store's own, once its tables exist."""
        if self._context.own_engine and not self._context.read_only:
            self.capture.install()

    def remove(self) -> None:
        """Restore everything.

        If an open transaction has lines for the log or holds the gate, wait for its end: a failed
        commit must raise, and the gate must be released. The store's own engine keeps its hooks,
        because other threads may be in them, and it is useless without them.
        """
        if self._context.own_engine:
            return
        unfollow(self.engine, self._context)
        for name in _EVENTS:
            # It may have been removed already, before an exception stopped the rest.
            if event.contains(self.engine, name, getattr(self, f"_{name}")):
                event.remove(self.engine, name, getattr(self, f"_{name}"))
        self.capture.remove()
        self._removing = True
        self._unwrap_when_idle()

    def _unwrap_when_idle(self) -> None:
        if any(unit.changes or unit.claim is not None for unit in list(self._open)):
            return
        dialect = self.engine.dialect
        for name, original in self._originals.items():
            if vars(dialect).get(name) != getattr(self, f"_{name}"):
                # Another library has wrapped our methods since then. From now on they only pass
                # calls on.
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
        """Take the database's write lock for a transaction, and return its unit.

        Raises:
            UntrackedWriteError: There is no transaction, but AUTOCOMMIT.
            OperationalError: Another connection holds the lock, or has written since this
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
                lock(self._context, unit, cursor)
        return unit

    def settle(self, connection: Connection) -> None:
        """Collect the records that the transaction on a connection has touched so far."""
        unit = self.present(connection)
        if unit is not None:
            self.capture.settle(unit, connection.connection)

    def _new_unit(self, info: dict[str, Any]) -> Unit:
        unit: Unit = Unit(reopenings=self._context.reopenings)
        info[self._key] = unit
        self._open.add(unit)
        return unit

    def _checkout(self, driver: Any, record: Any, proxy: Any) -> None:
        ensure_functions(record)

    def begin_below(self, unit: Unit, pooled: Any) -> None:
        """Begin a transaction of the store's own below SQLAlchemy; raises as `_begin` does.

        Args:
            unit: What the transaction will hold.
            pooled: A connection that the pool has given away.
        """
        info = pooled.info
        self._discard(info)
        unit.reopenings = self._context.reopenings
        info[self._key] = unit
        self._open.add(unit)
        self._pass_gate(unit, pooled, info)
        pooled.dbapi_connection.execute("BEGIN IMMEDIATE")
        unit.locked = True

    def adopt(self, unit: Unit, pooled: Any) -> Connection:
        """Return a SQLAlchemy connection in a transaction that was begun below it."""
        connection = Connection(self.engine, pooled).execution_options(**{BEGUN_OPTION: True})
        connection.begin()
        self.capture.begin(connection, unit)
        return connection

    def commit_below(self, pooled: Any) -> None:
        """Write the log and commit a transaction that was begun below SQLAlchemy."""
        self._do_commit(pooled)

    def roll_back_below(self, pooled: Any) -> None:
        """Roll back a transaction that was begun below SQLAlchemy, if it is still open."""
        self._do_rollback(pooled)

    def _begin(self, connection: Connection) -> None:
        if connection.get_execution_options().get(BEGUN_OPTION):
            return
        self._context.check_open()
        info = connection.info
        # It may have been checked out before the store was opened.
        ensure_functions(connection.connection)
        self._discard(info)
        try:
            unit = self._new_unit(info)
            options = connection.get_execution_options()
            if options.get(GATE_OPTION):
                self._pass_gate(unit, connection, info)
            unit.locked = bool(options.get(WRITE_OPTION))
            self.capture.begin(connection, unit)
            if unit.locked and not self._context.own_engine:
                begin_as_writer(connection.connection.dbapi_connection)
        except BaseException:
            self._discard(info)
            raise

    def _pass_gate(self, unit: Unit, connection: Any, info: dict[str, Any]) -> None:
        gate = self._context.gate
        if gate.held:
            # Another asyncio task of this thread has it: waiting for it here would never end.
            raise TransactionOpenError(
                operation="begin a transaction (another task of this thread is in one, and "
                "waiting for it here would stop both)"
            )
        unit.claim, unit.owner = Claim(), current_owner()
        # Noted first, because an exception can come as soon as we have the gate.
        self._in_gate[unit.owner] = _InGate(unit, ref(connection), info)
        gate.acquire(self._context.lock_timeout, unit.claim)
        # It may have been closed while we waited.
        self._context.check_open()

    def abandon(self, owner: Owner) -> None:
        """End the transaction in the gate that a caller has left open, if there is one.

        Nobody else can end it: an exception came between its begin and the code that ends it, or
        in the middle of that code.
        """
        left = self._in_gate.get(owner)
        if left is None:
            return
        connection = left.connection()
        try:
            if connection is not None:
                connection.close()
        finally:
            self._discard(left.info)
            self._release(left.unit, left.info)

    def _do_commit(self, dbapi_connection: Any) -> None:
        info = _info(dbapi_connection)
        unit: Unit | None = info.get(self._key)
        try:
            if unit is not None:
                self.capture.collect(unit, dbapi_connection)
            if unit is not None and unit.changes:
                self._write_and_commit(unit, dbapi_connection)
            else:
                self._commit(dbapi_connection)
            if unit is not None:
                self._finish(unit, info)
                self.capture.finished(unit, dbapi_connection)
        except BaseException:
            if unit is not None and unit.is_committed:
                # It came after COMMIT, for example from a signal handler.
                self._finish(unit, info)
            else:
                # SQLAlchemy rolls nothing back here, and the pool would get the connection with
                # its transaction open.
                self._do_rollback(dbapi_connection)
            raise

    def _commit(self, dbapi_connection: Any) -> None:
        driver = driver_of(dbapi_connection)
        if isinstance(driver, GuardedConnection):
            driver.pending = False
        self._originals["do_commit"](dbapi_connection)
        check_committed(driver)

    def _write_and_commit(self, unit: Unit, dbapi_connection: Any) -> None:
        self._context.check_open()
        batch = unit.changes.batch()
        if not batch:
            self._commit(dbapi_connection)
            return
        driver = driver_of(dbapi_connection)
        if isinstance(driver, BridgedConnection):
            # The log lock is taken and given back by one thread, which is not the event loop's.
            driver.run(lambda inner: self._append(unit, batch, inner, committing(inner)))
            return
        self._append(unit, batch, dbapi_connection, lambda: self._commit(dbapi_connection))

    def _append(
        self, unit: Unit, batch: dict[str, list[bytes]], driver: Any, commit: Callable[[], None]
    ) -> None:
        unit.handover = self._port.handover(batch, driver, commit, unit.fingerprints)
        unit.handover.run()

    def _do_rollback(self, dbapi_connection: Any) -> None:
        try:
            unit = _info(dbapi_connection).get(self._key)
            if unit is not None and self.capture.was_committed(unit, driver_of(dbapi_connection)):
                # By a raw COMMIT: there is nothing left to be rolled back.
                self._write_and_commit(unit, dbapi_connection)
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
                # This driver would begin only at the first INSERT.
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
            # The notes since then are as they were when they were last read, or before that.
            unit.seen = -1
            # Whatever was read from the logs since then is rolled back, too.
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
        try:
            self._clean(driver, record)
        except BaseException:
            # SQLAlchemy would never give its place in the pool back.
            record.invalidate()
            self.engine.pool._return_conn(record)
            raise

    def _clean(self, driver: Any, record: Any) -> None:
        # An error at the wrong moment, as in a listener to the commit, has SQLAlchemy believe
        # that all is done.
        if driver is not None and driver_of(record).in_transaction:
            driver.rollback()
        self._discard(record.info)
        if driver is not None:
            self.capture.log_left(driver, record, self._commit_left)

    def _commit_left(self, unit: Unit, record: Any) -> None:
        def commit(driver: Any) -> None:
            batch = unit.changes.batch()
            if batch:
                self._append(unit, batch, driver, committing(driver))
            else:
                driver.commit()

        on_driver(record, commit)
        self._finish(unit, record.info)

    def _detach(self, driver: Any, record: Any) -> None:
        # The detached connection keeps its own copy of this, unless it was garbage.
        record.info.pop(self._key, None)

    def _finish(self, unit: Unit, info: dict[str, Any]) -> None:
        """Share what a committed transaction has learned with all."""
        # If the cache was replaced meanwhile, the new one does not have these lines yet.
        is_same = unit.reopenings == self._context.reopenings
        for name, fingerprint in unit.fingerprints.items() if is_same else ():
            if fingerprint is None:
                self._context.known.pop(name, None)
            else:
                self._context.known[name] = fingerprint
        self._release(unit, info)

    def _discard(self, info: dict[str, Any]) -> None:
        """Undo what a rolled-back transaction has set on its records."""
        unit = info.get(self._key)
        if unit is not None:
            try:
                unit.changes.rollback()
            finally:
                self._release(unit, info)

    def _release(self, unit: Unit, info: dict[str, Any]) -> None:
        if unit.claim is not None:
            self._context.gate.release(unit.claim)
        info.pop(self._key, None)
        self._open.discard(unit)
        if unit.owner is not None:
            self._in_gate.pop(unit.owner, None)
        if self._removing:
            self._unwrap_when_idle()


def _info(dbapi_connection: Any) -> dict[str, Any]:
    """Return the pool's notes on a connection; none while it is only being tried out."""
    try:
        info: dict[str, Any] = dbapi_connection.info
    except NotImplementedError:
        return {}
    return info
