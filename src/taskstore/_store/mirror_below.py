"""What the database does by itself below rows that a flush deletes or changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy.orm import InstanceState, Mapper, RelationshipDirection, UOWTransaction
from sqlalchemy.orm.exc import UnmappedColumnError

from taskstore._mirror.affected import Affected
from taskstore._mirror.links import ACTING, enforced
from taskstore._mirror.reading import key_condition
from taskstore.errors import UntrackedWriteError

__all__ = ["added", "below", "check_deletions", "is_followed", "orphans_of"]


def orphans_of(state: InstanceState[Any]) -> Iterator[InstanceState[Any]]:
    """Yield the rows that a flush may delete because a row has let go of them.

    The unit of work decides that after the flush has begun, when it is too late to ask the database
    what it would delete with them.
    """
    for relation in state.mapper.relationships:
        if not relation.cascade.delete_orphan or relation.key not in state.dict:
            continue
        if relation.direction is RelationshipDirection.MANYTOMANY:
            continue
        for child in state.attrs[relation.key].history.deleted or ():
            if child is None:
                continue
            found: InstanceState[Any] = child._sa_instance_state
            yield found
            for _, _, other, _ in found.mapper.cascade_iterator("delete", found):
                yield other


def is_followed(affected: Affected, state: InstanceState[Any]) -> bool:
    """Whether a row's key changes, or what others refer to and follow."""
    mapper = state.mapper
    columns: list[Any] = list(mapper.primary_key)
    for table in mapper.tables:
        for link in affected.links(table.name):
            if link.on_update in ACTING:
                referred = {name.lower() for name in link.referred}
                columns += [one for one in table.columns if one.name.lower() in referred]
    return any(added(state, name) for name in _names(mapper, columns))


def _names(mapper: Mapper[Any], columns: Iterable[Any]) -> Iterator[str]:
    for column in columns:
        # What the database has and the model has not, no flush changes.
        with suppress(UnmappedColumnError):
            yield mapper.get_property_by_column(column).key


def added(state: InstanceState[Any], name: str) -> Sequence[Any]:
    """What an attribute has been given since the row was loaded; nothing if that is no change."""
    history = state.attrs[name].history
    return history.added if history.has_changes() and history.added else ()


def below(affected: Affected, state: InstanceState[Any], *, moved: bool = False) -> None:
    """Find what refers to a row, by the key that it has in the database."""
    mapper = state.mapper
    for table in mapper.tables:
        columns: list[Any] = list(table.primary_key)
        key: Sequence[Any] = state.key[1] if state.key is not None else ()
        if moved:
            key = [state.dict[mapper.get_property_by_column(c).key] for c in mapper.primary_key]
        if len(columns) == len(key):
            affected.below(table, key_condition(columns, key))


def check_deletions(
    affected: Affected, context: UOWTransaction, expected: Collection[InstanceState[Any]]
) -> None:
    """Refuse a flush that has deleted what nobody knew of when it began.

    Raises:
        UntrackedWriteError: the database may have changed mirrored rows with it.
    """
    for state, (is_delete, is_listed_only) in context.states.items():
        if not is_delete or is_listed_only or state in expected or state.key is None:
            continue
        acting = [
            link
            for table in state.mapper.tables
            for link in affected.links(table.name)
            if link.on_delete in ACTING
        ]
        if acting and enforced(affected.connection):
            raise UntrackedWriteError(
                statement=f"a flush that also deleted {state.obj()!r}, as a listener asked, and "
                f"with it what refers to it in {acting[0].child!r}",
                remedy="delete rows before the flush",
            )
