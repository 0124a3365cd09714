"""Stamps rows of mirrored classes before a flush writes them, so that instances know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ClauseElement
from sqlalchemy.engine import Connection
from sqlalchemy.orm import (
    InstanceState,
    LoaderCallableStatus,
    Mapper,
    RelationshipDirection,
    Session,
)
from sqlalchemy.orm.attributes import instance_state

from taskstore._cache.engine.bridge import closing, driver_cursor
from taskstore._cache.rows.records import Stored
from taskstore._cache.rows.rows import Rows
from taskstore._format.instants import MAX_MS
from taskstore._format.lines import raw_fields
from taskstore._format.names import is_usual_id
from taskstore._mirror.capture.claims import carried_claim
from taskstore._mirror.capture.names import Names
from taskstore._mirror.capture.versions import NOT_PLAIN, plain_order, plain_value, stamp_for
from taskstore._mirror.model.registry import registry
from taskstore._mirror.model.shape import Mirror, Shape, primary_names
from taskstore._mirror.tables.stored_rows import StoredRows
from taskstore._store.context import StoreContext
from taskstore._unit.changes import Changes, Key
from taskstore._unit.unit import Unit
from taskstore.errors import InvalidRecordError

_PLAIN = frozenset({str, int, float, bool, bytes, Decimal, UUID, date, datetime})
"""Types whose values are compared as they are."""

_VERSIONS = (int, datetime)


class _Kind(NamedTuple):
    """A class whose rows a flush is about to write.

    Attributes:
        mirror: Its mirror, which has a version column.
        shape: How its rows look.
        table: They, in the database.
        version: The attribute that holds the version.
        plain: The type of a plain version.
        listens: Whether something listens to how the version is set.
        is_keyed: Whether its primary key is what makes the id.
        text: The attribute that is the id, if it is a plain text; None in other cases.
    """

    mirror: Mirror
    shape: Shape
    table: StoredRows
    version: str
    plain: type | None
    listens: bool
    is_keyed: bool
    text: str | None


class _Row(NamedTuple):
    """A row that a flush is about to write.

    Attributes:
        state: Of its instance.
        kind: Its class.
        old_id: Its id in the database; None for a new row.
        new_id: The id that it will have; None if the database decides.
    """

    state: InstanceState[Any]
    kind: _Kind
    old_id: str | None
    new_id: str | None


class MirrorFlush:
    """The part of the session hook that is about mirrored models.

    Args:
        context: The store.
        tables: The mirrored tables by collection.
    """

    def __init__(self, context: StoreContext, tables: Mapping[str, StoredRows]) -> None:
        self._context = context
        self._mirrors = registry(context)
        self._tables = tables

    def among(self, touched: Iterable[Any]) -> list[InstanceState[Any]]:
        """Return the states of what of the instances that a flush touches is mirrored."""
        states: Iterable[InstanceState[Any]] = map(instance_state, touched)
        return [state for state in states if self._mirrors.of(state.mapper) is not None]

    def stamp(
        self,
        session: Session,
        connection: Connection,
        unit: Unit,
        found: Sequence[InstanceState[Any]],
    ) -> None:
        """Stamp the rows that the flush will write, if a column has the version.

        Raises:
            StaleRecordError: A row was changed since it was loaded.
        """
        deleted = set(map(instance_state, session.deleted))
        written = [
            state
            for state in found
            if state not in deleted and (state.key is None or state.modified)
        ]
        names = self._names(connection, written)
        mappers = {state.mapper for state in written}
        kinds = {mapper: kind for mapper in mappers if (kind := self._kind(mapper)) is not None}
        rows = [
            self._row(names, kind, state)
            for state in written
            if (kind := kinds.get(state.mapper)) is not None
        ]
        if not rows:
            return
        undone: list[tuple[InstanceState[Any], str, bool, Any]] = []
        now_ms = self._context.clock()
        orders = self._orders(connection, rows)
        stamps = _Stamps(now_ms)
        others = [row for row in rows if not _stamp_plainly(row, orders, undone, stamps)]
        stored = self._stored(connection, others) if others else {}
        for row in others:
            old = stored.get((row.kind.mirror.collection, row.old_id or ""))
            if row.state.key is None or _changes(row, old, names):
                self._stamp(connection, row, old, stored, undone, now_ms)
        _undo_later(unit.changes, undone)

    def _names(self, connection: Connection, states: Sequence[InstanceState[Any]]) -> Names:
        """The ids of rows that are there, found at once."""
        names = Names(self._context, connection)
        mappers = {state.mapper for state in states}
        found = [one[0] for mapper in mappers if (one := self._mirrors.of(mapper)) is not None]
        if not any(mirror.is_translated for mirror in found):
            return names
        known = [(self._mirrors.of(state.mapper), state) for state in states if state.key]
        names.learn(
            (one[0], _old_key(state, one[0]))
            for one, state in known
            if one is not None and one[0].is_translated and one[0].version is not None
        )
        return names

    def _kind(self, mapper: Mapper[Any]) -> _Kind | None:
        known = self._mirrors.of(mapper)
        if known is None or known[0].version is None:
            return None
        mirror, shape = known
        field, table = mirror.version, self._tables[mirror.collection]
        assert field is not None
        is_keyed = primary_names(mapper) == mirror.key
        return _Kind(
            mirror,
            shape,
            table,
            field.name,
            field.codec.plain,
            mirror.listens(mapper, field.name),
            is_keyed,
            mirror.key[0] if is_keyed and table.is_text else None,
        )

    def _row(self, names: Names, kind: _Kind, state: InstanceState[Any]) -> _Row:
        if kind.text is not None and kind.text not in state.committed_state:
            id = state.dict.get(kind.text) if state.key is None else state.key[1][0]
            if type(id) is str and is_usual_id(id):
                return _Row(state, kind, None if state.key is None else id, id)
        mirror, table = kind.mirror, kind.table
        old_id = None
        if state.key is not None:
            try:
                known = state.key[1] if kind.is_keyed else _old_key(state, mirror)
                values = names.named(mirror, known)
                is_new = mirror.is_translated and None in values
                old_id = "" if is_new else table.id_as_stored(values)
            except ValueError:
                # Reading it back raises the error.
                old_id = ""
            # A counted row keeps its id under another number.
            if mirror.is_counted or state.committed_state.keys().isdisjoint(mirror.key):
                return _Row(state, kind, old_id, old_id)
        return _Row(state, kind, old_id, _given_id(state, table, names))

    def _orders(self, connection: Connection, rows: Sequence[_Row]) -> dict[str, dict[str, int]]:
        with closing(driver_cursor(connection)) as cursor:
            cache = Rows(cursor, self._context.models)
            return {name: cache.orders(name, ids) for name, ids in _ids(rows).items()}

    def _stored(self, connection: Connection, rows: Sequence[_Row]) -> dict[Key, Stored]:
        with closing(driver_cursor(connection)) as cursor:
            cache = Rows(cursor, self._context.models)
            return {
                (collection, id): stored
                for collection, ids in _ids(rows).items()
                for id, stored in cache.stored(collection, ids).items()
            }

    def _stamp(
        self,
        connection: Connection,
        row: _Row,
        old: Stored | None,
        stored: Mapping[Key, Stored],
        undone: list[tuple[InstanceState[Any], str, bool, Any]],
        now_ms: int,
    ) -> None:
        mirror, state = row.kind.mirror, row.state
        assert mirror.version is not None
        known_id = row.old_id or row.new_id or ""
        claim = carried_claim(self._context, connection, state, mirror, known_id, old)
        before = old
        if row.new_id != row.old_id:
            before = stored.get((mirror.collection, row.new_id or ""))
            if row.old_id is not None:
                # A moved row carries the version that it had under its old key.
                carried = stamp_for(mirror, row.old_id, old, claim, now_ms)
                claim = claim if carried.kept else None
        version = stamp_for(mirror, row.new_id or "", before, claim, now_ms)
        name, value = mirror.version.name, mirror.version_value(version.value)
        had, given = name in state.dict, state.dict.get(name)
        if had and type(given) is type(value) and given == value:
            return
        if state.key is None:
            undone.append((state, name, had, given))
        setattr(state.obj(), name, value)


def _old_key(state: InstanceState[Any], mirror: Mirror) -> list[Any]:
    """The values of a row's key as the database has them, if they read back as they were bound."""
    if state.key is not None and primary_names(state.mapper) == mirror.key:
        return list(state.key[1])
    values = []
    for name in mirror.key:
        history = state.attrs[name].load_history()
        known = history.deleted or history.unchanged or history.added or [None]
        values.append(known[0])
    return values


def _given_id(state: InstanceState[Any], table: StoredRows, names: Names) -> str | None:
    """The id that a row will have; None if the database or a default decides."""
    mirror = table.mirror
    if mirror.is_counted:
        return None
    values = names.named(mirror, [state.dict.get(name) for name in mirror.key])
    if any(value is None or isinstance(value, ClauseElement) for value in values):
        return None
    try:
        return table.id_as_stored(values)
    except ValueError as error:
        raise InvalidRecordError(
            collection=mirror.collection, id=None, field=mirror.key[0], reason=str(error)
        ) from error


def _ids(rows: Sequence[_Row]) -> dict[str, list[str]]:
    wanted: dict[str, set[str]] = {}
    for row in rows:
        some = wanted.setdefault(row.kind.mirror.collection, set())
        if row.old_id:
            some.add(row.old_id)
        if row.new_id:
            some.add(row.new_id)
    return {collection: sorted(ids) for collection, ids in wanted.items()}


class _Stamps:
    """The values of stamps, nearly all of which are the present time.

    Args:
        now_ms: That time, in milliseconds since the epoch.
    """

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self._known: dict[tuple[type | None, int], int | datetime] = {}
        self._last: tuple[type | None, Any, int] = None, None, 0

    def value(self, plain: type | None, ms: int) -> int | datetime:
        """Return a stamp as a column of a type holds it."""
        known = self._known.get((plain, ms))
        if known is None:
            known = self._known[plain, ms] = plain_value(plain, ms)
        return known

    def order(self, plain: type | None, given: Any) -> int:
        """Return what `plain_order` does. Rows that were written together have one version."""
        last = self._last
        is_known = given is not None and type(given) is type(last[1]) and plain is last[0]
        if is_known and given == last[1]:
            return last[2]
        order_us = plain_order(plain, given)
        self._last = plain, given, order_us
        return order_us


def _stamp_plainly(
    row: _Row,
    orders: Mapping[str, Mapping[str, int]],
    undone: list[tuple[InstanceState[Any], str, bool, Any]],
    stamps: _Stamps,
) -> bool:
    """Stamp a row whose version is plain, where that is simple; return whether it was."""
    state, kind, old_id, id = row
    mirror, shape, _, name, plain, listens, _, _ = kind
    if old_id is not None and old_id != id:
        return False
    values = state.dict
    had, given = name in values, values.get(name)
    claimed = stamps.order(plain, given)
    known = None if id is None else orders[mirror.collection].get(id)
    stored = known or 0
    if plain not in _VERSIONS or claimed == NOT_PLAIN or stored < 0:
        return False
    if claimed and plain is int:
        stored -= stored % 1000
    if claimed and (claimed < stored or (known is None and old_id is not None)):
        return False
    if state.key is not None:
        is_changed = _is_changed(state, mirror, shape)
        if not is_changed:
            # Otherwise its last line tells whether it is.
            return is_changed is False
    if claimed > stored:
        return True
    stamp = max(stamps.now_ms, stored // 1000 + 1)
    if not 0 < stamp <= MAX_MS:
        return False
    if state.key is None:
        undone.append((state, name, had, given))
    value = stamps.value(plain, stamp)
    if listens:
        setattr(state.obj(), name, value)
        return True
    if state.key is not None:
        # The row is among the changed ones already, so that this is all that to set it does.
        state.committed_state.setdefault(name, given if had else LoaderCallableStatus.NO_VALUE)
    values[name] = value
    return True


def _is_changed(state: InstanceState[Any], mirror: Mirror, shape: Shape) -> bool | None:
    """Return whether an existing row was changed in what its line has; None if the line tells."""
    known: bool | None = False
    values = state.dict
    for name, old in state.committed_state.items():
        if name not in shape.fields and (mirror.version is None or name != mirror.version.name):
            if _refers(state, name):
                known = None
            continue
        new = values.get(name)
        if isinstance(new, ClauseElement):
            return True
        if type(old) is type(new) and type(old) in _PLAIN:
            if old != new:
                return True
        else:
            known = None
    return known


def _changes(row: _Row, stored: Stored | None, names: Names) -> bool:
    """Return whether something was written into a row that its line would show."""
    state, shape, version = row.state, row.kind.shape, row.kind.mirror.version
    previous: dict[str, bytes] | None = None
    for name in state.committed_state:
        field = shape.fields.get(name)
        is_version = version is not None and name == version.name
        if field is None and not is_version:
            if _refers(state, name) and state.attrs[name].history.has_changes():
                return True
            continue
        history = state.attrs[name].history
        if not history.has_changes():
            continue
        if field is None:
            return True
        if previous is None:
            previous = raw_fields(stored.line) if stored is not None and stored.line else {}
        value = history.added[0] if history.added else None
        if isinstance(value, ClauseElement) or field.key not in previous:
            return True
        if field.translated is not None:
            value = names.id_for(field.translated, value)
        try:
            if not field.codec.keeps(previous[field.key], value, field.codec.raw(value)):
                return True
        except ValueError:
            return True
    return False


def _refers(state: InstanceState[Any], name: str) -> bool:
    """Return whether an attribute is a relationship that sets columns of the row itself."""
    relation = state.mapper.relationships.get(name)
    return relation is not None and relation.direction is RelationshipDirection.MANYTOONE


def _undo_later(
    changes: Changes, undone: Sequence[tuple[InstanceState[Any], str, bool, Any]]
) -> None:
    """Remove the stamps of new rows at a rollback, so that they do not claim them later.

    Rows that were there are expired by the rollback, and say again what the database has.
    """
    if not undone:
        return

    def restore() -> None:
        # One that fails, in a setter of the user's own, must not keep the others from theirs.
        with ExitStack() as restored:
            for state, name, had, before in undone:
                row = state.obj()
                if row is not None and had:
                    restored.callback(setattr, row, name, before)
                else:
                    state.dict.pop(name, None)

    changes.on_undo(restore)
