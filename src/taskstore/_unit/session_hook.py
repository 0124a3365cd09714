"""The hook on a SQLAlchemy session, which collects what it flushes for the log.

It listens only on the session, sessionmaker or scoped session that the user attached. The lines are
decided before the flush, under the database's write lock, from the stored records. They are
collected after the flush, in the transaction's present savepoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import attrs
from sqlalchemy import inspect
from sqlalchemy.engine import Connection
from sqlalchemy.orm import (
    InstanceState,
    LoaderCallableStatus,
    ORMExecuteState,
    Session,
    SessionTransaction,
    UOWTransaction,
    attributes,
)
from sqlalchemy.orm.attributes import instance_state

from taskstore._cache.engine.bridge import closing, driver_cursor
from taskstore._cache.engine.guard import mark_pending
from taskstore._cache.rows.records import Stored
from taskstore._cache.rows.rows import Rows
from taskstore._store.context import StoreContext
from taskstore._unit.changes import Changes, Key
from taskstore._unit.drafts import Draft, decide, draft_of
from taskstore._unit.listeners import SessionListeners
from taskstore._unit.record_capture import refuse_mirrored
from taskstore._unit.transaction import TransactionHook
from taskstore._unit.unit import READ_ONLY, Unit
from taskstore.errors import RecordExistsError, UntrackedWriteError

_COLUMNS = ("collection", "id", "data_json", "updated_at", "updated_at_us")
_PLAIN = (str, int)

SESSION_EVENTS = (
    "before_flush",
    "after_flush",
    "deleted_to_persistent",
    "do_orm_execute",
    "after_begin",
)
"""The events that the hook listens to. It has a method for each."""


@attrs.define(eq=False)
class _Flush:
    """The writes of one flush, decided before its SQL runs."""

    connection: Connection
    now_ms: int
    planned: dict[Key, tuple[tuple[str, int, int], bool]] = attrs.field(factory=dict)
    stamped: list[tuple[Any, tuple[Any, ...]]] = attrs.field(factory=list)
    listened: frozenset[str] = frozenset()


class SessionHook:
    """The listeners that one store puts on sessions."""

    def __init__(self, context: StoreContext, transactions: TransactionHook) -> None:
        self._context = context
        self._transactions = transactions
        self._listeners = SessionListeners({name: getattr(self, name) for name in SESSION_EVENTS})
        self._flushes: WeakKeyDictionary[Session, _Flush] = WeakKeyDictionary()
        self._connections: WeakKeyDictionary[Session, ReferenceType[Connection]]
        self._connections = WeakKeyDictionary()
        mirrors = transactions.capture.mirrors
        self._mirrored = mirrors.flush if mirrors is not None else None

    @cached_property
    def _tracked(self) -> type[Any]:
        return self._context.models.StoredRecord

    @cached_property
    def _derived(self) -> tuple[type[Any], ...]:
        models = self._context.models
        return (
            models.RecordIndex,
            models.RecordIndexField,
            models.SyncMetadata,
            models.Tombstone,
            models.MirrorProblem,
            models.MirrorState,
            models.MirrorKey,
        )

    def attach(self, target: Any) -> None:
        """Listen on a session, a sessionmaker or a scoped session; once, if called twice."""
        self._listeners.attach(target)

    def detach(self, target: Any) -> None:
        """Take the listeners off again."""
        self._listeners.detach(target)

    def before_flush(self, session: Session, context: UOWTransaction, instances: Any) -> None:
        """Decide what the flush will write."""
        # A flush that failed has left its plan behind.
        self._flushes.pop(session, None)
        touched = [*session.new, *session.dirty, *session.deleted]
        # Of many rows, few are of different classes.
        classes = set(map(type, touched))
        self._refuse_derived(classes)
        is_tracked = any(issubclass(one, self._tracked) for one in classes)
        tracked = [row for row in touched if isinstance(row, self._tracked)] if is_tracked else []
        for collection in {row.collection for row in tracked}:
            refuse_mirrored(self._context, collection)
        found = self._mirrored.among(touched) if self._mirrored is not None else []
        if not tracked and not found:
            return
        self._context.check_open()
        if self._context.read_only or session.info.get(READ_ONLY):
            raise self._context.read_only_error("write through a session")
        mapper = found[0].mapper if found else self._tracked
        connection = session.connection(bind_arguments={"mapper": mapper})
        self._check_connection(connection)
        # A deferred transaction must hold the write lock before `stored` is read.
        unit = self._transactions.locked(connection)
        if found:
            self._stamp(session, connection, unit, found)
        if not tracked:
            return
        flush = _Flush(connection, self._context.clock())
        with closing(driver_cursor(connection)) as cursor:
            self._plan(session, flush, Rows(cursor, self._context.models), unit)
        unit.planned = flush.planned
        self._flushes[session] = flush

    def _stamp(
        self, session: Session, connection: Connection, unit: Unit, found: list[InstanceState[Any]]
    ) -> None:
        assert self._mirrored is not None
        unit.sessions.add(session)
        self._mirrored.stamp(session, connection, unit, found)

    def after_begin(
        self, session: Session, transaction: SessionTransaction, connection: Connection
    ) -> None:
        """Note that a session takes part in a transaction and gets its stamps."""
        if connection.dialect is self._transactions.engine.dialect:
            self._connections[session] = ref(connection)
            unit = self._transactions.present(connection)
            if unit is not None:
                unit.sessions.add(session)

    def _check_connection(self, connection: Connection) -> None:
        if connection.dialect is not self._transactions.engine.dialect:
            raise UntrackedWriteError(
                statement=f"a flush on {connection.engine!r}",
                remedy="bind the session to the store's engine (Store.engine)",
            )

    def _refuse_derived(self, classes: Iterable[type[Any]]) -> None:
        for one in classes:
            if issubclass(one, self._derived):
                raise UntrackedWriteError(
                    statement=f"a change of {one.__name__}, which is derived from the log",
                    remedy="write StoredRecord rows, or call Store.rebuild_indexes or Store.sync",
                )

    def _plan(self, session: Session, flush: _Flush, rows: Rows, unit: Unit) -> None:
        written = [row for row in session.new if isinstance(row, self._tracked)]
        written += [
            row
            for row in session.dirty
            if isinstance(row, self._tracked) and _is_modified(session, row)
        ]
        drafts = [draft_of(row) for row in written]
        # By what they are in the database: a key that was changed before is not deleted.
        deleting = {
            inspect(row).identity for row in session.deleted if isinstance(row, self._tracked)
        }
        moved = {d.old_key for d in drafts if d.old_key is not None and d.old_key != d.key}
        stored = _stored(rows, {draft.key for draft in drafts} | moved)
        if written:
            _undo_later(unit.changes, flush.stamped)
            flush.listened = _listened(written)
        for row, draft in zip(written, drafts, strict=True):
            replaces = draft.key in deleting or draft.key in moved
            self._plan_line(flush, row, draft, stored, replaces=replaces)

    def _plan_line(
        self,
        flush: _Flush,
        row: Any,
        draft: Draft,
        stored: dict[Key, Stored],
        *,
        replaces: bool,
    ) -> None:
        collection, id = draft.key
        before = stored.get(draft.key)
        live = before is not None and before.line is not None
        in_place = draft.old_key == draft.key
        if (live and not in_place and not replaces) or draft.key in flush.planned:
            raise RecordExistsError(collection=collection, id=id)
        origin = before if draft.old_key is None else stored.get(draft.old_key)
        line, version = decide(draft, before, origin, flush.now_ms)
        if line is None:
            assert before is not None
            _settle(row, before)
            return
        planned = line.decode(), version.ms, version.order_us
        _write(flush, row, draft.key, planned)
        flush.planned[draft.key] = planned, before is None

    def after_flush(self, session: Session, context: UOWTransaction) -> None:
        """Collect what the flush has written, so that the next query finds it by index."""
        flush = self._flushes.pop(session, None)
        if flush is None:
            return
        self._transactions.settle(flush.connection)
        self._transactions.unit(flush.connection).planned = {}
        mark_pending(flush.connection)

    def deleted_to_persistent(self, session: Session, row: Any) -> None:
        """Expire a row that a rollback restores, so that it is reloaded.

        SQLAlchemy expires only what the session itself has changed since the savepoint. What the
        store's own calls have written is told to rows that are in the session, which this was not.
        """
        if isinstance(row, self._tracked) or self._context.mirrors.of(inspect(row).mapper):
            session.expire(row)

    def do_orm_execute(self, state: ORMExecuteState) -> None:
        """Collect what bulk statements have written before a query may ask for it."""
        if state.is_select:
            known = self._connections.get(state.session)
            connection = known() if known is not None else None
            if connection is not None and not connection.closed:
                self._transactions.settle(connection)
            return
        mapper = state.bind_mapper
        if not state.session.info.get(READ_ONLY) or mapper is None:
            return
        if issubclass(mapper.class_, self._tracked):
            raise self._context.read_only_error("write through a session")


def _stored(rows: Rows, keys: Iterable[Key]) -> dict[Key, Stored]:
    """Return what the cache has of some keys, live or deleted."""
    wanted: dict[str, list[str]] = {}
    for collection, id in keys:
        wanted.setdefault(collection, []).append(id)
    return {
        (collection, id): stored
        for collection, ids in wanted.items()
        for id, stored in rows.stored(collection, ids).items()
    }


def _is_modified(session: Session, row: Any) -> bool:
    """As `Session.is_modified`, which looks at every attribute where one tells already."""
    state: InstanceState[Any] = instance_state(row)
    values = state.dict
    for name, old in state.committed_state.items():
        if type(old) in _PLAIN and type(values.get(name)) is type(old) and values[name] != old:
            return True
    return session.is_modified(row)


def _listened(rows: Iterable[Any]) -> frozenset[str]:
    """The columns of some rows that something listens to."""
    managers = {instance_state(row).manager for row in rows}
    return frozenset(name for one in managers for name in _COLUMNS if one[name].dispatch.set)


def _write(flush: _Flush, row: Any, key: Key, planned: tuple[str, int, int]) -> None:
    """Give a row what was decided for it, and note what it had."""
    state: InstanceState[Any] = instance_state(row)
    values = state.dict
    pairs = zip(_COLUMNS, (*key, *planned), strict=True)
    # Setting an equal value costs as much as setting another.
    other = {name: value for name, value in pairs if values.get(name) != value}
    if not other:
        return
    flush.stamped.append((row, (row.data_json, row.updated_at, row.updated_at_us)))
    if state.key is None:
        # An INSERT takes all values as they are.
        values.update(other)
        return
    for name, value in other.items():
        if name in flush.listened:
            setattr(row, name, value)
            continue
        # The row is among the changed ones already, so that this is all that to set it does.
        state.committed_state.setdefault(name, values.get(name, LoaderCallableStatus.NO_VALUE))
        values[name] = value


def _settle(row: Any, stored: Stored) -> None:
    """Make a row that asks for nothing new look as it is stored, so that no UPDATE is sent."""
    attributes.set_committed_value(row, "data_json", stored.line)
    attributes.set_committed_value(row, "updated_at", stored.order_us // 1000)
    attributes.set_committed_value(row, "updated_at_us", stored.order_us)


def _undo_later(changes: Changes, stamped: Sequence[tuple[Any, tuple[Any, ...]]]) -> None:
    """Remove the stamps of new rows at a rollback, so that they do not claim them later."""

    def restore() -> None:
        # One that fails, in a setter of the user's own, must not keep the others from theirs.
        with ExitStack() as restored:
            for row, before in stamped:
                restored.callback(_restore, row, before)

    changes.on_undo(restore)


def _restore(row: Any, before: tuple[Any, ...]) -> None:
    # A persistent row is expired by the rollback and says again what the cache has.
    if not inspect(row).persistent:
        row.data_json, row.updated_at, row.updated_at_us = before
