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
from taskstore._evolution.steps import Step
from taskstore.errors import InvalidDeclarationError

EVOLUTIONS = "__taskstore_evolutions__"
"""The attribute of a record class that holds its evolutions, oldest first."""

WAS = "taskstore.was"
"""The key in a field's metadata that holds its former names, oldest first."""


@attrs.frozen
class DeclaredEvolution:
    """A change of a record class, under a revision name of its own.

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
    for field in attrs.fields(cls):
        found += _renames(cls, collection, field)
    names = [one.revision for one in found]
    if len(set(names)) != len(names):
        raise InvalidDeclarationError(cls.__qualname__, reason="two evolutions have one revision")
    return tuple(_checked(cls, one) for one in found)


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
