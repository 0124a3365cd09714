"""The hook on a SQLAlchemy session: what it flushes is collected for the log.

It listens on one session, sessionmaker or scoped session, by the user's own call, and nowhere
else. The lines are decided before the flush, under the database's write lock, from what is stored;
they are collected after it, in the transaction's present savepoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import attrs
from sqlalchemy import event, inspect
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, attributes

from taskstore._cache.bridge import driver_cursor
from taskstore._cache.rows import Rows, Stored
from taskstore._format.lines import raw_fields
from taskstore._store.changes import Changes, Key
from taskstore._store.collect import collect_graves, collect_lines
from taskstore._store.context import StoreContext
from taskstore._store.drafts import Draft, aligned, checked_line, draft_of, line_of
from taskstore._store.transaction import TransactionHook, Unit, mark_pending
from taskstore._store.versions import Version, next_version
from taskstore.errors import RecordExistsError, StoreReadOnlyError, UntrackedWriteError

if TYPE_CHECKING:
    from taskstore._store.mirror_flush import MirrorFlush, MirrorPlan

READ_ONLY = "taskstore_read_only"
"""The key of `Session.info` that makes a session one for reading."""

SESSION_EVENTS = (
    "before_flush",
    "after_flush",
    "after_flush_postexec",
    "deleted_to_persistent",
    "do_orm_execute",
)
"""What the hook listens to; it has a method for each."""


@attrs.define(eq=False)
class _Flush:
    """What one flush will write, decided before its SQL runs."""

    connection: Connection
    now_ms: int
    lines: dict[Key, bytes] = attrs.field(factory=dict)
    graves: dict[Key, Version] = attrs.field(factory=dict)
    new: set[Key] = attrs.field(factory=set)
    rows: set[int] = attrs.field(factory=set)
    mirrored: MirrorPlan | None = None


class SessionHook:
    """The listeners that one store puts on sessions."""

    def __init__(self, context: StoreContext, transactions: TransactionHook) -> None:
        self._context = context
        self._transactions = transactions
        self._flushes: WeakKeyDictionary[Session, _Flush] = WeakKeyDictionary()
        models = context.models
        self._tracked: type[Any] = models.StoredRecord
        self._mirrored = _mirror_flush(context, transactions.engine.dialect)
        self._derived = (
            models.RecordIndex,
            models.RecordIndexField,
            models.SyncMetadata,
            models.Tombstone,
            models.MirrorProblem,
            models.MirrorState,
        )

    def attach(self, target: Any) -> None:
        """Listen on a session, a sessionmaker or a scoped session; once, if called twice."""
        for name in SESSION_EVENTS:
            if not event.contains(target, name, getattr(self, name)):
                event.listen(target, name, getattr(self, name))

    def detach(self, target: Any) -> None:
        """Take the listeners off again."""
        for name in SESSION_EVENTS:
            if event.contains(target, name, getattr(self, name)):
                event.remove(target, name, getattr(self, name))

    def before_flush(self, session: Session, context: UOWTransaction, instances: Any) -> None:
        """Decide what the flush will write."""
        # A flush that failed has left its plan behind.
        self._flushes.pop(session, None)
        touched = [*session.new, *session.dirty, *session.deleted]
        self._refuse_derived(touched)
        tracked = [row for row in touched if isinstance(row, self._tracked)]
        self._refuse_mirrored(tracked)
        near = self._mirrored.mapper_of(touched) if self._mirrored is not None else None
        if not tracked and near is None:
            return
        self._context.check_open()
        if self._context.read_only or session.info.get(READ_ONLY):
            raise StoreReadOnlyError(self._context.path, operation="write through a session")
        connection = session.connection(bind_arguments={"mapper": near or self._tracked})
        if not tracked and not self._concerns(connection, near):
            return
        self._check_connection(connection)
        # A deferred transaction must hold the write lock before `stored` is read.
        unit = self._transactions.locked(connection)
        flush = _Flush(connection, self._context.clock())
        if self._mirrored is not None and near is not None:
            flush.mirrored = self._mirrored.plan(session, connection, unit, touched)
        with closing(driver_cursor(connection)) as cursor:
            self._plan(session, flush, Rows(cursor, self._context.models), unit)
        self._flushes[session] = flush
        _mark_execution(context, unit)

    def _concerns(self, connection: Connection, near: Any) -> bool:
        """Whether a flush without records is the store's business."""
        return self._mirrored is not None and self._mirrored.is_ours(connection, near)

    def _check_connection(self, connection: Connection) -> None:
        if connection.dialect is not self._transactions.engine.dialect:
            raise UntrackedWriteError(
                statement=f"a flush on {connection.engine!r}",
                remedy="bind the session to the store's engine (Store.engine)",
            )

    def _refuse_derived(self, touched: Iterable[Any]) -> None:
        for row in touched:
            if isinstance(row, self._derived):
                raise UntrackedWriteError(
                    statement=f"a change of {type(row).__name__}, which is derived from the log",
                    remedy="write StoredRecord rows, or call Store.rebuild_indexes or Store.sync",
                )

    def _refuse_mirrored(self, tracked: Iterable[Any]) -> None:
        for row in tracked:
            mirror = self._context.mirrors.by_collection.get(row.collection)
            if mirror is not None:
                raise UntrackedWriteError(
                    statement=f"a change of a StoredRecord of {row.collection!r}",
                    remedy=f"write the rows of {mirror.name} in an attached session",
                )

    def _plan(self, session: Session, flush: _Flush, rows: Rows, unit: Unit) -> None:
        drafts = [draft_of(row) for row in session.new if isinstance(row, self._tracked)]
        drafts += [
            draft_of(row)
            for row in session.dirty
            if isinstance(row, self._tracked) and session.is_modified(row)
        ]
        # By what they are in the database: a key that was changed before is not deleted.
        doomed: dict[Key, Any] = {
            inspect(row).identity: row for row in session.deleted if isinstance(row, self._tracked)
        }
        moved = [d.old_key for d in drafts if d.old_key is not None and d.old_key != d.key]
        keys = {draft.key for draft in drafts} | set(doomed) | set(moved)
        stored = _stored(rows, keys)
        for draft in drafts:
            replaces = draft.key in doomed or draft.key in moved
            self._plan_line(flush, draft, stored, unit, replaces=replaces)
        for key in [*doomed, *moved]:
            if key not in flush.lines:
                self._plan_grave(flush, key, stored.get(key))
        for collection, old in moved:
            # The index rows refer to the key that is about to change.
            rows.clear_index(collection, [old])
        flush.rows = {id(draft.row) for draft in drafts} | {id(row) for row in doomed.values()}

    def _plan_line(
        self,
        flush: _Flush,
        draft: Draft,
        stored: dict[Key, Stored],
        unit: Unit,
        *,
        replaces: bool,
    ) -> None:
        collection, id = draft.key
        before = stored.get(draft.key)
        live = before is not None and before.line is not None
        in_place = draft.old_key == draft.key
        if (live and not in_place and not replaces) or draft.key in flush.lines:
            raise RecordExistsError(collection=collection, id=id)
        origin = before if draft.old_key is None else stored.get(draft.old_key)
        previous = raw_fields(origin.line) if origin is not None and origin.line else None
        fields = draft.fields if previous is None else aligned(draft.fields, previous)
        version = _version(draft, before, origin, flush.now_ms)
        if (
            before is not None
            and previous is not None
            and in_place
            and not version.kept
            and fields == _without_version(previous)
        ):
            _settle(draft.row, before)
            return
        like = origin.line if origin is not None else None
        line = checked_line(line_of(fields, version, like), collection, id)
        _write(draft.row, draft.key, line, version, unit.changes)
        flush.lines[draft.key] = line
        if before is None:
            flush.new.add(draft.key)

    def _plan_grave(self, flush: _Flush, key: Key, before: Stored | None) -> None:
        version = next_version(
            None,
            before.order_us if before is not None else None,
            before.updated_at if before is not None else None,
            flush.now_ms,
            collection=key[0],
            id=key[1],
        )
        flush.graves[key] = version
        if before is None:
            flush.new.add(key)

    def after_flush(self, session: Session, context: UOWTransaction) -> None:
        """Collect for the log what the flush has written."""
        flush = self._flushes.get(session)
        self._check_planned(session, context, flush.rows if flush is not None else set())
        if flush is None:
            return
        unit = self._transactions.unit(flush.connection)
        with closing(driver_cursor(flush.connection)) as cursor:
            rows = Rows(cursor, self._context.models)
            _check_stored(rows, flush)
            unit.changes.mark_born(flush.new)
            for collection, written in flush.lines.keys() - flush.new:
                rows.exhume(collection, [written])
            collect_lines(rows, unit.changes, flush.lines, new=flush.new)
            collect_graves(rows, unit.changes, flush.graves)
        if self._mirrored is not None and flush.mirrored is not None:
            self._mirrored.collect(session, context, flush.connection, flush.mirrored, unit)
        mark_pending(flush.connection)

    def _check_planned(self, session: Session, context: UOWTransaction, planned: set[int]) -> None:
        """Refuse a flush that also wrote rows which were not in the session when it began."""
        for state, (is_delete, is_listed_only) in context.states.items():
            row = state.obj()
            if is_listed_only or not isinstance(row, self._tracked) or id(row) in planned:
                continue
            if is_delete or state.key is None or session.is_modified(row):
                raise UntrackedWriteError(
                    statement=f"a flush that also wrote {row!r}, as a listener or a cascade asked",
                    remedy="add, change or delete rows before the flush",
                )

    def after_flush_postexec(self, session: Session, context: UOWTransaction) -> None:
        """Forget the plan of a flush that is over."""
        self._flushes.pop(session, None)

    def deleted_to_persistent(self, session: Session, row: Any) -> None:
        """Have a row that a rollback brings back read what is stored.

        SQLAlchemy expires only what the session itself has changed since the savepoint. What the
        store's own calls have written is told to rows that are in the session, which this was not.
        """
        if isinstance(row, self._tracked) or self._context.mirrors.of(inspect(row).mapper):
            session.expire(row)

    def do_orm_execute(self, state: ORMExecuteState) -> None:
        """Refuse a bulk statement on our tables."""
        if not (state.is_insert or state.is_update or state.is_delete):
            return
        mapper = state.bind_mapper
        if mapper is not None and self._context.mirrors.of(mapper) is not None:
            raise UntrackedWriteError(
                statement=f"an ORM-enabled bulk statement on {mapper.class_.__name__}",
                remedy="use session.add, change loaded rows, or session.delete",
            )
        if mapper is not None and issubclass(mapper.class_, (self._tracked, *self._derived)):
            raise UntrackedWriteError(
                statement=f"an ORM-enabled bulk statement on {mapper.class_.__name__}",
                remedy="use session.add, change loaded rows, session.delete, or the store's "
                "create_many, save_many and delete_where",
            )


def _mirror_flush(context: StoreContext, dialect: Dialect) -> MirrorFlush | None:
    if not context.mirrors:
        return None
    from taskstore._store.mirror_flush import MirrorFlush  # most stores mirror nothing

    return MirrorFlush(context, dialect)


def _mark_execution(context: UOWTransaction, unit: Unit) -> None:
    """Have the unit know when the unit of work sends its statements.

    No event tells. Listeners to the flush run before and after that, and may call the session's
    bulk methods, whose statements look the same and whose rows are in no plan.
    """
    execute = context.execute

    def marked() -> None:
        unit.flushing = True
        try:
            execute()
        finally:
            unit.flushing = False

    context.execute = marked  # type: ignore[method-assign]


def _version(draft: Draft, before: Stored | None, origin: Stored | None, now_ms: int) -> Version:
    """The version of a line; `origin` is the row's old line, also under another key."""
    collection, id = draft.key
    previous = origin.updated_at if origin is not None else None
    claim = draft.claim
    if draft.old_key not in (None, draft.key):
        # What a moved row carries is the version that it had under its old key.
        stored_us = origin.order_us if origin is not None else None
        carried = next_version(claim, stored_us, previous, now_ms, collection=collection, id=id)
        claim = claim if carried.kept else None
    stored_us = before.order_us if before is not None else None
    return next_version(claim, stored_us, previous, now_ms, collection=collection, id=id)


def _check_stored(rows: Rows, flush: _Flush) -> None:
    """Refuse a flush that has stored something else than what the log is about to receive."""
    stored = _stored(rows, [*flush.lines, *flush.graves])
    wrong = [
        key
        for key, line in flush.lines.items()
        if key not in stored or stored[key].line != line.decode()
    ]
    wrong += [key for key in flush.graves if key in stored and stored[key].line is not None]
    if wrong:
        raise UntrackedWriteError(
            statement=f"a flush that stored {wrong[0]} otherwise than it was when the flush began",
            remedy="change rows before the flush, or in before_flush listeners that were there "
            "before the store's",
        )


def _stored(rows: Rows, keys: Iterable[Key]) -> dict[Key, Stored]:
    """What the cache has of some keys, live or dead."""
    wanted: dict[str, list[str]] = {}
    for collection, id in keys:
        wanted.setdefault(collection, []).append(id)
    return {
        (collection, id): stored
        for collection, ids in wanted.items()
        for id, stored in rows.stored(collection, ids).items()
    }


def _without_version(fields: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in fields.items() if key != "updated_at"}


def _write(row: Any, key: Key, line: bytes, version: Version, changes: Changes) -> None:
    """Give a row what was decided for it."""
    new = {
        "collection": key[0],
        "id": key[1],
        "data_json": line.decode(),
        "updated_at": version.ms,
        "updated_at_us": version.order_us,
    }
    # To set what is there already costs as much as to set something else.
    other = {name: value for name, value in new.items() if getattr(row, name) != value}
    if other:
        _undo_later(changes, row)
        for name, value in other.items():
            setattr(row, name, value)


def _settle(row: Any, stored: Stored) -> None:
    """Make a row that asks for nothing new look as it is stored, so that no UPDATE is sent."""
    attributes.set_committed_value(row, "data_json", stored.line)
    attributes.set_committed_value(row, "updated_at", stored.order_us // 1000)
    attributes.set_committed_value(row, "updated_at_us", stored.order_us)


def _undo_later(changes: Changes, row: Any) -> None:
    """Have a new row lose its stamp with the transaction, or it would claim it ever after."""
    before = (row.data_json, row.updated_at, row.updated_at_us)

    def restore() -> None:
        # A persistent row is expired by the rollback and says again what the cache has.
        if not inspect(row).persistent:
            row.data_json, row.updated_at, row.updated_at_us = before

    changes.on_undo(restore)
