"""The ids of mirrored rows: as they are given, and as the database has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ClauseElement, literal, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import InstanceState

from taskstore._mirror.reading import key_condition
from taskstore._mirror.shape import Mirror, primary_names
from taskstore._store.changes import Key
from taskstore._store.versions import Version
from taskstore.errors import InvalidRecordError, UntrackedWriteError

__all__ = ["check_found", "given_id", "id_now", "stored_id"]


def _old_key(state: InstanceState[Any], mirror: Mirror) -> list[Any]:
    """The values of a row's key as the database has them."""
    if state.key is not None and primary_names(state.mapper) == mirror.key:
        return list(state.key[1])
    values = []
    for name in mirror.key:
        history = state.attrs[name].load_history()
        values.append(
            history.deleted[0]
            if history.deleted
            else (history.unchanged or history.added or [None])[0]
        )
    return values


def stored_id(connection: Connection, state: InstanceState[Any], mirror: Mirror) -> str:
    """The id of a row as the database has it."""
    if not mirror.reads_key_as_bound and state.key is not None:
        found = _id_by(connection, mirror, state.key[1])
        if found is not None:
            return found
    return mirror.id_of(_old_key(state, mirror))


def id_now(
    connection: Connection, state: InstanceState[Any], mirror: Mirror, planned: dict[Key, Version]
) -> str | None:
    """The id of a row that was written, under which its planned version is to be found.

    Raises:
        UntrackedWriteError: it cannot be found by the key that it was given.
    """
    given = given_id(state, mirror)
    if given is not None and mirror.reads_key_as_bound:
        return given
    found = _read_id(connection, state, mirror)
    if found is None and given is not None and (mirror.collection, given) in planned:
        raise UntrackedWriteError(
            statement=f"a row of {mirror.name} whose key, {given!r}, is not what was stored",
            remedy="give the key in the type of its column, a date for a Date",
        )
    version = planned.pop((mirror.collection, given or ""), None)
    if version is not None:
        planned[mirror.collection, found or given or ""] = version
    return found or given


def given_id(state: InstanceState[Any], mirror: Mirror) -> str | None:
    """The id that a row will have; None where the database or a default is to say."""
    values = [state.dict.get(name) for name in mirror.key]
    if any(value is None or isinstance(value, ClauseElement) for value in values):
        return None
    try:
        return mirror.id_of(values)
    except ValueError as error:
        raise InvalidRecordError(
            collection=mirror.collection, id=None, field=mirror.key[0], reason=str(error)
        ) from error


def check_found(connection: Connection, state: InstanceState[Any], mirror: Mirror, id: str) -> None:
    """Refuse a row that no id finds, though it is there.

    Raises:
        UntrackedWriteError: its key reads back as something that does not find it.
    """
    found = _read_id(connection, state, mirror)
    if found is not None:
        raise UntrackedWriteError(
            statement=f"a row of {mirror.name} with the key {id!r}, which is stored so that it is "
            f"not found by what is read, {found!r}",
            remedy="let its column's type return what was bound",
        )


def _read_id(connection: Connection, state: InstanceState[Any], mirror: Mirror) -> str | None:
    """The id of a row as the database has it, by its primary key as it was bound."""
    key = [state.dict.get(name) for name in primary_names(state.mapper)]
    return _id_by(connection, mirror, key) or (
        None if state.key is None else _id_by(connection, mirror, state.key[1])
    )


def _id_by(connection: Connection, mirror: Mirror, key: Sequence[Any]) -> str | None:
    if None in key or any(isinstance(value, ClauseElement) for value in key):
        return None
    columns = [field.column for field in mirror.key_fields]
    # As the unit of work binds it; a moment would else be compared as such with a date.
    bound = [literal(part, c.type) for c, part in zip(mirror.table.primary_key, key, strict=True)]
    keys: list[Any] = list(mirror.table.primary_key)
    found = connection.execute(select(*columns).where(key_condition(keys, bound))).first()
    return None if found is None else mirror.id_of(found)
