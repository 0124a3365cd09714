"""Follow the connections of one engine, and collect what was written on them.

The triggers are created when a connection is checked out, and again if the schema has changed. What
a connection has committed below SQLAlchemy is found and logged when the connection is returned.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

from taskstore._cache.capture.notes import Notes
from taskstore._cache.capture.record_notes import DERIVED, NotedRecord, RecordTables
from taskstore._cache.capture.triggers import REFUSAL, UNNUMBERED, Capture
from taskstore._cache.engine.bridge import BridgedConnection, closing, driver_of, on_driver
from taskstore._cache.engine.forks import is_keeping
from taskstore._cache.rows.rows import Rows
from taskstore._store.context import StoreContext
from taskstore._unit.capture_port import row_capture
from taskstore._unit.changes import Key
from taskstore._unit.record_capture import collect_records, expire_records
from taskstore._unit.unit import READ_ONLY, Unit
from taskstore.errors import TaskstoreError, UntrackedWriteError

_EVENTS = ("checkout", "handle_error")
_REFUSED = {
    UNNUMBERED: 'the key has ids="random", and the row has none: insert it with SQLAlchemy, or '
    "give it a number of its own, as random.getrandbits(53)",
    REFUSAL: "use a transaction: in AUTOCOMMIT nothing could be rolled back",
    DERIVED: "write StoredRecord rows, or call Store.rebuild_indexes or Store.sync",
}


class EngineCapture:
    """The capture of one engine.

    Args:
        context: The store.
        engine: The engine.

    Attributes:
        mirrors: What collects mirrored rows; None if nothing is mirrored.
    """

    def __init__(self, context: StoreContext, engine: Engine) -> None:
        self._context = context
        self._engine = engine
        self.mirrors = row_capture(context, engine)
        models = context.models
        # On the store's own engine, the authorizer protects these tables, at no cost for each row.
        derived = () if context.own_engine else models.derived_tables
        tables = RecordTables(models.record_table, models.index_table, derived)
        if self.mirrors is None:
            self._capture = Capture((), (), tables)
        else:
            self._capture = Capture(self.mirrors.tables, self.mirrors.owners, tables)
        self._key = f"taskstore-notes-{id(self)}"
        self._notes: WeakSet[Notes] = WeakSet()
        self._records: WeakSet[Any] = WeakSet()
        self._is_installed = False

    def install(self) -> None:
        """Listen to the engine."""
        for name in _EVENTS:
            event.listen(self._engine, name, getattr(self, f"_{name}"))
        self._is_installed = True

    def remove(self) -> None:
        """Remove the triggers: at once, or when a connection is returned."""
        self._is_installed = False
        for name in _EVENTS:
            if event.contains(self._engine, name, getattr(self, f"_{name}")):
                event.remove(self._engine, name, getattr(self, f"_{name}"))
        for notes in list(self._notes):
            # From here on they do nothing, wherever the connection is.
            notes.start("paused")
        for record in list(self._records):
            notes = record.info.get(self._key)
            if notes is None or record.dbapi_connection is None:
                continue
            driver = driver_of(record)
            is_idle = record.fairy_ref is None and not isinstance(driver, BridgedConnection)
            if not (is_idle and _removed(notes, driver)):
                record.finalize_callback.append(_Remover(notes))
            # Last, because an exception can come at any line, and then all this is done again.
            record.info.pop(self._key, None)

    def begin(self, connection: Connection, unit: Unit) -> None:
        """Note on a transaction's unit what its rows are noted by."""
        if not self._is_installed:
            return
        pooled = connection.connection
        level = connection.get_execution_options().get("isolation_level")
        notes = self._followed(pooled)
        # Nothing would announce the commit of a statement.
        is_refusing = level == "AUTOCOMMIT"
        notes.start("refusing" if is_refusing else "noting")
        if notes.is_guarded is not is_refusing:
            on_driver(pooled, partial(_guarded, notes, wanted=is_refusing))
        unit.notes = notes
        unit.seen = driver_of(pooled).total_changes

    def settle(self, unit: Unit, pooled: Any) -> None:
        """Collect the records that were touched so far, so that queries find them by index."""
        notes, driver = unit.notes, driver_of(pooled)
        if notes is None or driver.total_changes == unit.seen:
            return
        told = on_driver(pooled, lambda inner: self._settled(unit, notes, inner))
        unit.seen = driver.total_changes
        _tell(self._context, unit, told)

    def mark(self, unit: Unit, pooled: Any) -> None:
        """Leave a mark that tells whether a transaction in which the store wrote was committed."""
        notes = unit.notes
        if notes is None or self._context.own_engine:
            # There only SQLAlchemy can commit.
            return
        unit.mark()
        on_driver(pooled, partial(_marked, notes))

    def collect(self, unit: Unit, pooled: Any) -> None:
        """Collect the lines of the touched rows before COMMIT.

        Raises:
            MissingLogError, InvalidRecordError, InvalidDeclarationError, UntrackedWriteError: As
                the `Reconciler` does.
            OperationalError: Another connection holds the database's lock.
        """
        notes = unit.notes
        if notes is None:
            return
        told, stamped = on_driver(pooled, lambda driver: self._collected(unit, notes, driver))
        _tell(self._context, unit, told)
        if self.mirrors is not None and stamped:
            self.mirrors.tell(unit, stamped)

    def finished(self, unit: Unit, pooled: Any) -> None:
        """Note that all that was written on a connection so far is in the log."""
        if unit.notes is not None:
            unit.notes.seen = driver_of(pooled).total_changes

    def was_committed(self, unit: Unit, driver: Any) -> bool:
        """Return whether a transaction that was to be rolled back was committed instead."""
        notes = unit.notes
        if notes is None or not unit.changes or driver.in_transaction:
            return False
        if getattr(driver, "inherited", False):
            return False
        with closing(driver.cursor()) as cursor:
            return notes.any(cursor)

    def log_left(self, driver: Any, record: Any, commit: Callable[[Unit, Any], None]) -> None:
        """Log what a connection has committed without telling SQLAlchemy.

        Args:
            driver: The connection that is given back.
            record: What its pool knows of it.
            commit: Brings the lines of a unit into the log, and commits.
        """
        notes: Notes | None = record.info.get(self._key)
        inner = driver_of(record)
        if notes is None or getattr(inner, "inherited", False):
            # Leave alone what a parent process has begun.
            return
        if notes.seen == inner.total_changes:
            return
        if not on_driver(record, partial(_has_any, notes)):
            return
        unit = Unit(notes=notes)
        try:
            self.collect(unit, record)
            commit(unit, record)
        except BaseException as error:
            driver.rollback()
            if not isinstance(error, TaskstoreError | SQLAlchemyError | sqlite3.Error):
                raise
            # To raise here would take the connection out of its pool for good.
            warnings.warn(
                f"rows that were committed by a cursor of the driver are not in the log: {error}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _collected(self, unit: Unit, notes: Notes, driver: Any) -> tuple[Iterable[Key], list[Any]]:
        stamped: list[Any] = []
        with closing(driver.cursor()) as cursor:
            is_current = self._is_settled(notes) or notes.is_current(cursor)
            told = self._last_records(unit, notes, cursor)
            if self.mirrors is not None:
                stamped = self.mirrors.collected(unit, notes, cursor, is_current=is_current)
            if stamped:
                # A trigger of the application may have answered a stamp.
                told += self._last_records(unit, notes, cursor)
            if not is_current:
                self._forget_logs(unit, notes, cursor)
        return told, stamped

    def _settled(self, unit: Unit, notes: Notes, driver: Any) -> list[Key]:
        with closing(driver.cursor()) as cursor:
            noted = notes.records(cursor)
            if not noted:
                return []
            notes.mark_records(cursor)
            unit.mark()
            return self._records_of(unit, cursor, noted)

    def _last_records(self, unit: Unit, notes: Notes, cursor: Any) -> list[Key]:
        """Collect the records that were touched since they were last collected, if any were."""
        if cursor.connection.total_changes == unit.seen:
            if unit.marks:
                # Nothing else is among the notes.
                _check_marks(unit, notes.clear_marks(cursor))
                unit.marks = 0
            return []
        if unit.marks:
            _check_marks(unit, notes.marks(cursor))
        noted = notes.records(cursor)
        if noted or unit.marks:
            notes.clear_records(cursor)
            unit.marks = 0
        return self._records_of(unit, cursor, noted) if noted else []

    def _records_of(self, unit: Unit, cursor: Any, noted: Mapping[Key, NotedRecord]) -> list[Key]:
        if self._context.read_only or any(one.info.get(READ_ONLY) for one in unit.sessions):
            raise self._context.read_only_error("write through a session")
        return collect_records(self._context, cursor, unit, noted)

    def _forget_logs(self, unit: Unit, notes: Notes, cursor: Any) -> None:
        """Make all logs be read again if the table of records was rebuilt."""
        if notes.lost_records(cursor):
            rows = Rows(cursor, self._context.models)
            if not rows.has_fingerprints():
                # All tables were dropped. The next open creates ours again.
                return
            rows.forget_fingerprints()
            unit.fingerprints.update(dict.fromkeys(self._context.known))

    def _checkout(self, driver: Any, record: Any, proxy: Any) -> None:
        if is_keeping():
            # The triggers would take longer than an insert, and have nothing to note.
            return
        notes = self._followed(record)
        notes.start("noting")
        notes.seen = driver_of(record).total_changes

    def _followed(self, pooled: Any) -> Notes:
        """The notes of a connection, with triggers for the tables as they are."""
        notes: Notes | None = pooled.info.get(self._key)
        if notes is not None and self._is_settled(notes):
            return notes

        def follow(driver: Any) -> Notes:
            found = notes if notes is not None else Notes(self._capture, driver)
            # In a transaction that has read nothing yet it would fix what that can see.
            if notes is None or not driver.in_transaction:
                with closing(driver.cursor()) as cursor:
                    found.renew(cursor)
            return found

        followed = on_driver(pooled, follow)
        if notes is None:
            # First, because an exception can come at any line.
            self._notes.add(followed)
            # One that was checked out before the store was opened has had no event that tells it.
            record = getattr(pooled, "_connection_record", pooled)
            if record is not None:
                self._records.add(record)
        pooled.info[self._key] = followed
        return followed

    def _is_settled(self, notes: Notes) -> bool:
        """Return whether the schema is as it was. An own engine's is made when it is opened."""
        return self._context.own_engine and notes.is_settled

    def _handle_error(self, context: ExceptionContext) -> None:
        remedy = _REFUSED.get(str(context.original_exception))
        if remedy is not None:
            raise UntrackedWriteError(statement=context.statement or "a write", remedy=remedy)


class _Remover:
    """Removes the triggers from a connection that is returned."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def __call__(self, driver: Any) -> None:
        notes = self._notes
        bridged = BridgedConnection(driver) if hasattr(driver, "run_async") else None
        if bridged is None:
            _removed(notes, driver)
        else:
            bridged.run(lambda inner: _removed(notes, inner))


def _check_marks(unit: Unit, found: int) -> None:
    if found != unit.marks:
        raise UntrackedWriteError(
            statement="a raw ROLLBACK over changes that were collected for the log",
            remedy="use the rollback and begin_nested of the session",
        )


def _tell(context: StoreContext, unit: Unit, keys: Iterable[Key]) -> None:
    for session in list(unit.sessions) if keys else ():
        expire_records(context.models, session, keys)


def _has_any(notes: Notes, driver: Any) -> bool:
    with closing(driver.cursor()) as cursor:
        return notes.any(cursor)


def _guarded(notes: Notes, driver: Any, *, wanted: bool) -> None:
    with closing(driver.cursor()) as cursor:
        notes.guard(cursor, wanted=wanted)


def _marked(notes: Notes, driver: Any) -> None:
    with closing(driver.cursor()) as cursor:
        notes.mark_records(cursor)


def _removed(notes: Notes, driver: Any) -> bool:
    try:
        with closing(driver.cursor()) as cursor:
            notes.remove(cursor)
    except sqlite3.Error:
        # It is another thread's, or used at this moment.
        return False
    return True
