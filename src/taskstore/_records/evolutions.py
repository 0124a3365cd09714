"""The evolutions that a record class states of its collection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs

from taskstore._evolution.decoding import (
    Evolution,
    decode_evolution,
    decode_steps,
    encode_evolution,
)
from taskstore._evolution.stating import steps_of
from taskstore._evolution.steps import RenameCollection, Step
from taskstore._format.names import check_collection_name
from taskstore.errors import InvalidDeclarationError

EVOLUTIONS = "__taskstore_evolutions__"
"""The attribute of a record class that holds its evolutions, oldest first."""

NAMES = "__taskstore_names__"
"""The attribute of a record class that holds the names of its collection, oldest first."""

WAS = "taskstore.was"
"""The key in a field's metadata that holds its former names, oldest first."""


@attrs.frozen
class DeclaredEvolution:
    """A change of a record class, with its own revision name.

    Attributes:
        revision: The name.
        steps: What it does to a record, in order.
    """

    revision: str
    steps: tuple[Step, ...]


def evolution(
    revision: str,
    *,
    rename: Mapping[str, str] | None = None,
    split: Mapping[str, tuple[Sequence[str], str]] | None = None,
    join: Mapping[str, tuple[Sequence[str], str]] | None = None,
    map: Mapping[str, Mapping[Any, Any]] | None = None,
    convert: Mapping[str, str | tuple[str, str]] | None = None,
    default: Mapping[str, Any] | None = None,
    drop: Iterable[str] = (),
) -> DeclaredEvolution:
    """State how to read lines from before a change of a record class, for `record`.

    The steps are applied in the order of the arguments, so names after `rename` are new ones.

    Args:
        revision: A name that no other evolution of the collection has: 1 to 128 ASCII letters,
            digits and `_.:-`. Do not change it after lines have been written under it.
        rename: The new name of each field.
        split: Fields that become several: `{"name": (["first", "last"], " ")}`.
        join: Fields that were several: `{"name": (["first", "last"], " ")}`.
        map: New values for old ones, by field.
        convert: The new JSON type of a field: "int", "float", "str" or "bool".
        default: Values for fields that older lines lack.
        drop: Fields that the record no longer has.

    Raises:
        InvalidDeclarationError: These are not valid steps.
    """
    changes = {
        "rename": rename,
        "split": split,
        "join": join,
        "map": map,
        "convert": convert,
        "default": default,
        "drop": drop,
    }
    try:
        return DeclaredEvolution(revision, decode_steps(steps_of(changes)))
    except ValueError as error:
        raise InvalidDeclarationError("evolution()", reason=str(error)) from None


def names_of(collection: str, was: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names that a collection has had, oldest first. The log has the first one.

    Args:
        collection: Its name.
        was: Its former name, or all of them, oldest first.

    Raises:
        InvalidNameError: One of them cannot name a collection.
        InvalidDeclarationError: A name follows itself.
    """
    names = tuple(
        map(check_collection_name, [*([was] if isinstance(was, str) else was), collection])
    )
    if any(old == new for old, new in pairwise(names)):
        reason = f"was takes other names, oldest first: {list(names[:-1])}"
        raise InvalidDeclarationError(collection, reason=reason)
    return names


def stated_names(cls: type) -> tuple[str, ...]:
    """Return the names that a record class states for its collection, oldest first."""
    names: tuple[str, ...] = getattr(cls, NAMES, ())
    return names


def evolutions_of(cls: type, collection: str) -> tuple[Evolution, ...]:
    """Return the evolutions that a class and the former names of its fields state.

    Raises:
        InvalidDeclarationError: One of them is not valid.
    """
    found: list[Evolution] = []
    before: tuple[str, ...] = ()
    for one in getattr(cls, EVOLUTIONS, ()):
        if not isinstance(one, DeclaredEvolution):
            reason = f"evolutions takes what evolution() returns, not {type(one).__name__}"
            raise InvalidDeclarationError(cls.__qualname__, reason=reason)
        found.append(Evolution(collection, one.revision, before, one.steps))
        before = (one.revision,)
    found += renames_of_collection(collection, stated_names(cls))
    for field in attrs.fields(cls):
        found += _renames(cls, collection, field)
    names = [one.revision for one in found]
    if len(set(names)) != len(names):
        raise InvalidDeclarationError(cls.__qualname__, reason="two evolutions have one revision")
    return tuple(_checked(cls, one) for one in found)


def renames_of_collection(collection: str, names: Iterable[str]) -> Iterable[Evolution]:
    """Yield the evolutions that rename a collection.

    Args:
        collection: The name of its log.
        names: The names that it has had, oldest first.
    """
    before: tuple[str, ...] = ()
    for old, new in pairwise(names):
        revision = f"collection:{old}:{new}"
        yield Evolution(collection, revision, before, (RenameCollection(old, new),))
        before = (revision,)


def _renames(cls: type, collection: str, field: attrs.Attribute[Any]) -> Iterable[Evolution]:
    was = field.metadata.get(WAS) or ()
    names = [*([was] if isinstance(was, str) else was), field.name]
    before: tuple[str, ...] = ()
    for old, new in pairwise(names):
        try:
            steps = decode_steps([{"rename": {old: new}}])
        except ValueError as error:
            raise InvalidDeclarationError(
                cls.__qualname__, field=field.name, reason=str(error)
            ) from None
        yield Evolution(collection, f"{old}:{new}", before, steps)
        before = (f"{old}:{new}",)


def _checked(cls: type, one: Evolution) -> Evolution:
    try:
        return decode_evolution(encode_evolution(one))
    except ValueError as error:
        raise InvalidDeclarationError(cls.__qualname__, reason=str(error)) from None
