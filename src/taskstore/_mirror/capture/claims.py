"""The versions that rows in a session carry, and how instances learn of new ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ClauseElement, inspect
from sqlalchemy.engine import Connection
from sqlalchemy.orm import InstanceState, Session, attributes
from sqlalchemy.orm.util import identity_key

from taskstore._cache.engine.bridge import closing, driver_cursor
from taskstore._cache.rows.records import Stored
from taskstore._cache.rows.rows import Rows
from taskstore._mirror.capture.rows import Stamped
from taskstore._mirror.model.shape import Mirror, primary_names
from taskstore._mirror.tables.reading import read_rows
from taskstore._records.reasons import StructureError
from taskstore._records.versions import Claim
from taskstore._store.context import StoreContext
from taskstore.errors import InvalidRecordError


def carried_claim(
    context: StoreContext,
    connection: Connection,
    state: InstanceState[Any],
    mirror: Mirror,
    id: str,
    stored: Stored | None,
) -> Claim | None:
    """Return what a row claims with the version that it carries, or None.

    A row that could not be brought to what the log says has the version that it had before. Who
    carries that has read all there is to read, and writes as if it were the stored one.

    Raises:
        InvalidRecordError: What it carries is not a version.
    """
    claim = _claim(state, mirror, id)
    if claim is None or stored is None or claim.order_us >= stored.order_us:
        return claim
    with closing(driver_cursor(connection)) as cursor:
        if id not in Rows(cursor, context.models).problems(mirror.collection):
            return claim
    row = read_rows(connection, mirror, [id], lenient=True).get(id)
    # A row that cannot be read has no version that could be compared: the table is right.
    is_current = row is None or row.flaw or mirror.order_of(row.version) == claim.order_us
    return None if is_current else claim


def _claim(state: InstanceState[Any], mirror: Mirror, id: str) -> Claim | None:
    if mirror.version is None:
        return None
    value = state.dict.get(mirror.version.name)
    if isinstance(value, ClauseElement):
        return None
    try:
        return mirror.claim(value)
    except StructureError as error:
        raise InvalidRecordError(
            collection=mirror.collection, id=id, field=mirror.version.name, reason=str(error)
        ) from None


def tell_instances(session: Session, stamped: Iterable[Stamped]) -> None:
    """Let instances know the versions that their rows were given after they were written.

    With them comes what the database has made of the rows beneath the session: who carries the
    version of a row is taken to have read it.
    """
    by_mirror: dict[Mirror, list[Stamped]] = {}
    for one in stamped:
        by_mirror.setdefault(one.mirror, []).append(one)
    for mirror, some in by_mirror.items():
        mapper = mirror.base.mapper
        if mapper is None or not session.identity_map:
            continue
        if primary_names(mapper) == mirror.key:
            for one in some:
                # The session knows numbers, which the database gives as they are.
                key = tuple(
                    raw if field.translated is not None else one.row.values[field.name]
                    for field, raw in zip(mirror.key_fields, one.raw, strict=True)
                )
                row = session.identity_map.get(identity_key(mapper.class_, key))
                if row is not None:
                    _tell(inspect(row), one)
            continue
        known = {
            tuple(state.dict.get(name) for name in mirror.key): state
            for state in session.identity_map.all_states()
            if state.mapper.isa(mapper)
        }
        for one in some:
            found = known.get(tuple(one.row.values[name] for name in mirror.key))
            if found is not None:
                _tell(found, one)


def _tell(state: InstanceState[Any], stamped: Stamped) -> None:
    row, version = state.obj(), stamped.mirror.version
    assert version is not None
    if row is None:
        return
    translated = {name for name, field in stamped.row.shape.fields.items() if field.translated}
    for name, value in {**stamped.row.values, version.name: stamped.version}.items():
        if name in translated:
            continue
        # A value that is not loaded, or was changed since, belongs to the session.
        if name in state.dict and name not in state.committed_state and state.dict[name] != value:
            attributes.set_committed_value(row, name, value)
