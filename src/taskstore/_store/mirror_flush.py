"""What a flush does to mirrored tables: stamped before, read back and collected after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs
from sqlalchemy import ClauseElement, inspect
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import (
    InstanceState,
    Mapper,
    RelationshipDirection,
    Session,
    UOWTransaction,
    attributes,
)

from taskstore._cache.bridge import driver_cursor
from taskstore._cache.rows import Rows, Stored
from taskstore._format.lines import raw_fields
from taskstore._mirror.shape import Mirror, Shape
from taskstore._store.changes import Changes, Key
from taskstore._store.context import StoreContext
from taskstore._store.mirror_below import Below
from taskstore._store.mirror_claims import carried_claim, expire_instances
from taskstore._store.mirror_guard import check_there, look_once
from taskstore._store.mirror_ids import check_found, given_id, id_now, stored_id
from taskstore._store.mirror_rows import Reconciler, stamp_for
from taskstore._store.transaction import Unit
from taskstore._store.versions import Version


@attrs.define(eq=False)
class MirrorPlan:
    """What is known of a flush before its SQL runs.

    Attributes:
        old_ids: the ids of rows in the session, as the database knows them.
        planned: the versions that rows were stamped with.
        late: those of rows whose key the database is to make.
        doomed: rows that are to be deleted.
    """

    old_ids: dict[InstanceState[Any], str] = attrs.field(factory=dict)
    planned: dict[Key, Version] = attrs.field(factory=dict)
    late: dict[InstanceState[Any], Version] = attrs.field(factory=dict)
    doomed: set[InstanceState[Any]] = attrs.field(factory=set)


class MirrorFlush:
    """The part of the session hook that is about mirrored models."""

    def __init__(self, context: StoreContext, dialect: Dialect) -> None:
        self._context = context
        self._dialect = dialect
        self._mirrors = context.mirrors

    def mapper_of(self, touched: Iterable[Any]) -> Mapper[Any] | None:
        """The mapper of a row that a flush touches, if it can have to do with mirrored tables."""
        mappers: list[Mapper[Any]] = [inspect(row).mapper for row in touched]
        mirrored = [mapper for mapper in mappers if self._mirrors.of(mapper) is not None]
        near = (mapper for mapper in mappers if self._is_near(mapper))
        return mirrored[0] if mirrored else next(near, None)

    def is_ours(self, connection: Connection, mapper: Mapper[Any] | None) -> bool:
        """Whether a flush concerns the store: a class that is not mirrored may live elsewhere."""
        if mapper is not None and self._mirrors.of(mapper) is not None:
            return True
        return connection.dialect is self._dialect

    def _is_near(self, mapper: Mapper[Any]) -> bool:
        """Whether rows of a class that is not mirrored may be parents of some that are."""
        return not self._mirrors.parents.isdisjoint(mapper.tables)

    def plan(
        self, session: Session, connection: Connection, unit: Unit, touched: Sequence[Any]
    ) -> MirrorPlan:
        """Stamp what the flush will write, and note what it may change besides.

        Raises:
            MissingLogError: the log of a row's collection is not there, and rows are.
            StaleRecordError: a row was changed since it was loaded.
        """
        look_once(self._context, connection, unit, self._mirrors)
        unit.relations.clear()
        plan = MirrorPlan(doomed={inspect(row) for row in session.deleted})
        found = [
            (inspect(row), *known)
            for row in touched
            if (known := self._mirrors.of(inspect(row).mapper)) is not None
        ]
        for state, mirror, shape in found:
            self._note(plan, state, mirror, shape, unit, connection)
        self._stamp_all(plan, connection, unit, found)
        unit.below = Below(connection, self._mirrors)
        return plan

    def _note(
        self,
        plan: MirrorPlan,
        state: InstanceState[Any],
        mirror: Mirror,
        shape: Shape,
        unit: Unit,
        connection: Connection,
    ) -> None:
        if state.key is not None:
            plan.old_ids[state] = stored_id(connection, state, mirror)
        if state.key is None or state in plan.doomed or _changes(state, shape, None):
            check_there(self._context, unit, mirror)

    def _stamp_all(
        self,
        plan: MirrorPlan,
        connection: Connection,
        unit: Unit,
        found: Sequence[tuple[InstanceState[Any], Mirror, Shape]],
    ) -> None:
        stored = self._stored(connection, plan, found)
        for state, mirror, shape in found:
            if state in plan.doomed:
                continue
            old = stored.get((mirror.collection, plan.old_ids.get(state, "")))
            is_changed = _changes(state, shape, old) or _claims(state, mirror)
            if state.key is not None and not is_changed:
                continue
            self._stamp(plan, connection, state, mirror, old, stored, unit.changes)

    def _stored(
        self,
        connection: Connection,
        plan: MirrorPlan,
        found: Sequence[tuple[InstanceState[Any], Mirror, Shape]],
    ) -> dict[Key, Stored]:
        wanted: dict[str, set[str]] = {}
        for state, mirror, _ in found:
            ids = wanted.setdefault(mirror.collection, set())
            if state in plan.old_ids:
                ids.add(plan.old_ids[state])
            new = given_id(state, mirror)
            if new is not None:
                ids.add(new)
        cursor = driver_cursor(connection)
        try:
            rows = Rows(cursor, self._context.models)
            return {
                (collection, id): stored
                for collection, ids in wanted.items()
                for id, stored in rows.stored(collection, sorted(ids)).items()
            }
        finally:
            cursor.close()

    def _stamp(
        self,
        plan: MirrorPlan,
        connection: Connection,
        state: InstanceState[Any],
        mirror: Mirror,
        old: Stored | None,
        stored: dict[Key, Stored],
        changes: Changes,
    ) -> None:
        old_id, new_id = plan.old_ids.get(state), given_id(state, mirror)
        claim = carried_claim(self._context, connection, state, mirror, old_id or new_id or "", old)
        before = old if new_id == old_id else stored.get((mirror.collection, new_id or ""))
        if old_id is not None and new_id != old_id:
            # What a moved row carries is the version that it had under its old key.
            carried = stamp_for(self._context, mirror, old_id, old, claim)
            claim = claim if carried.kept else None
        version = stamp_for(self._context, mirror, new_id or "", before, claim)
        if mirror.version is not None:
            _undo_later(changes, state, mirror.version.name)
            setattr(state.obj(), mirror.version.name, mirror.version_value(version.value))
        if new_id is not None:
            plan.planned[mirror.collection, new_id] = version
        else:
            plan.late[state] = version

    def collect(
        self,
        session: Session,
        context: UOWTransaction,
        connection: Connection,
        plan: MirrorPlan,
        unit: Unit,
    ) -> None:
        """Read back what the flush has written, and hand it over for the log."""
        keys: dict[Key, None] = {}
        origins: dict[Key, str] = {}
        states: dict[Key, InstanceState[Any]] = {}
        there: dict[Key, InstanceState[Any]] = {}
        for state, mirror, is_deleted in self._flushed(context, plan):
            old = plan.old_ids.get(state)
            if old is None and state.key is not None:
                old = stored_id(connection, state, mirror)
            new = id_now(connection, state, mirror, plan.planned)
            for id in (old, new):
                if id is not None:
                    keys[mirror.collection, id] = None
            if new is not None:
                states[mirror.collection, new] = state
                if not is_deleted:
                    there[mirror.collection, new] = state
                if old not in (None, new):
                    origins[mirror.collection, new] = str(old)
                if state in plan.late:
                    plan.planned[mirror.collection, new] = plan.late[state]
        keys.update(dict.fromkeys(unit.relations))
        if unit.below is not None:
            keys.update(unit.below.found)
            unit.below = None

        def on_stamp(mirror: Mirror, id: str, value: Any) -> None:
            self._told(session, states, mirror, id, value)

        run = Reconciler(self._context, connection, unit, plan.planned, origins, on_stamp)
        run.run(keys)
        for key in there.keys() & run.absent:
            check_found(connection, there[key], self._mirrors.by_collection[key[0]], key[1])

    def _flushed(
        self, context: UOWTransaction, plan: MirrorPlan
    ) -> Iterator[tuple[InstanceState[Any], Mirror, bool]]:
        """The mirrored rows of a flush, and whether it deleted them."""
        for state, (is_deleted, is_listed_only) in context.states.items():
            known = self._mirrors.of(state.mapper)
            if known is not None and (not is_listed_only or state in plan.old_ids):
                yield state, known[0], is_deleted

    def _told(
        self,
        session: Session,
        states: dict[Key, InstanceState[Any]],
        mirror: Mirror,
        id: str,
        value: Any,
    ) -> None:
        """Let an instance know the version that its row was given after it was written."""
        assert mirror.version is not None
        state = states.get((mirror.collection, id))
        if state is not None:
            attributes.set_committed_value(state.obj(), mirror.version.name, value)
            return
        expire_instances(session, mirror, id)


def _added(state: InstanceState[Any], name: str) -> Sequence[Any]:
    history = state.attrs[name].history
    return history.added if history.has_changes() and history.added else ()


def _claims(state: InstanceState[Any], mirror: Mirror) -> bool:
    """Whether a version was written into a row."""
    return mirror.version is not None and bool(_added(state, mirror.version.name))


def _changes(state: InstanceState[Any], shape: Shape, stored: Stored | None) -> bool:
    """Whether anything has been written into a row that its line would show."""
    previous = raw_fields(stored.line) if stored is not None and stored.line else {}
    for name, field in shape.fields.items():
        history = state.attrs[name].history
        if not history.has_changes():
            continue
        value = history.added[0] if history.added else None
        if isinstance(value, ClauseElement) or name not in previous:
            return True
        try:
            if field.codec.raw(value) != field.codec.canonical(previous[name]):
                return True
        except ValueError:
            return True
    return any(
        state.attrs[relation.key].history.has_changes()
        for relation in state.mapper.relationships
        if relation.direction is RelationshipDirection.MANYTOONE
    )


def _undo_later(changes: Changes, state: InstanceState[Any], name: str) -> None:
    """Have a new row lose its stamp with the transaction, or it would claim it ever after."""
    if state.key is not None:
        # It is expired by the rollback and says again what the database has.
        return
    row = state.obj()
    had, before = name in state.dict, state.dict.get(name)

    def restore() -> None:
        if had:
            setattr(row, name, before)
        else:
            state.dict.pop(name, None)

    changes.on_undo(restore)
