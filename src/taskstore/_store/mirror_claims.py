"""The versions that rows in a session carry, and how instances learn of new ones."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from sqlalchemy import ClauseElement
from sqlalchemy.engine import Connection
from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.util import identity_key

from taskstore._cache.bridge import driver_cursor
from taskstore._cache.rows import Rows, Stored
from taskstore._mirror.reading import read_rows
from taskstore._mirror.shape import Mirror, primary_names
from taskstore._records.reasons import StructureError
from taskstore._records.versions import Claim
from taskstore._store.context import StoreContext
from taskstore.errors import InvalidRecordError

__all__ = ["carried_claim", "expire_instances"]


def carried_claim(
    context: StoreContext,
    connection: Connection,
    state: InstanceState[Any],
    mirror: Mirror,
    id: str,
    stored: Stored | None,
) -> Claim | None:
    """What a row claims with the version that it carries; None for nothing.

    A row that could not be brought to what the log says has the version that it had before. Who
    carries that has read all there is to read, and writes as if it were the stored one.

    Raises:
        InvalidRecordError: what it carries is no version.
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


def expire_instances(session: Session, mirror: Mirror, id: str) -> None:
    """Have the instance of a row that the database has changed read it again."""
    mapper = mirror.base.mapper
    if mapper is None:
        return
    if primary_names(mapper) == mirror.key:
        found = session.identity_map.get(identity_key(mapper.class_, mirror.key_of(id)))
        if found is not None:
            session.expire(found)
        return
    for state in session.identity_map.all_states():
        if state.mapper.isa(mapper) and _may_be(state, mirror, id):
            session.expire(state.obj())


def _may_be(state: InstanceState[Any], mirror: Mirror, id: str) -> bool:
    """Whether an instance has a key, or does not say which it has."""
    values = [state.dict.get(name) for name in mirror.key]
    return None in values or mirror.id_of(values) == id
