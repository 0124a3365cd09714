"""`mirrored`: says that a model, or an association table, of an application lives in the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import attrs
from sqlalchemy import Table

from taskstore._format.names import check_field_name
from taskstore._mirror.model.counted_keys import number_randomly
from taskstore._records.declaration import check_merge_policy
from taskstore._records.evolutions import names_of
from taskstore.errors import InvalidDeclarationError

_NOTE = "__taskstore_mirrored__"

T = TypeVar("T")

Ids = Literal["local", "random"]


@attrs.frozen
class Declaration:
    """What was declared of a model or table; see `mirrored`.

    Attributes:
        collection: The name of the log: the first one that the collection had.
    """

    collection: str
    key: str | None = None
    ids: Ids = "local"
    updated_at: str | None = "updated_at"
    exclude: frozenset[str] = frozenset()
    local: frozenset[str] = frozenset()
    merge: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Declared:
    """The declaration of a class or table that does not carry one itself.

    Attributes:
        target: The class or table.
        declaration: Its declaration; None keeps a table between two models out of the log.
    """

    target: Any
    declaration: Declaration | None


def mirrored(
    collection: str,
    /,
    *,
    key: str | None = None,
    ids: Ids = "local",
    updated_at: str | None = "updated_at",
    exclude: Iterable[str] = (),
    local: Iterable[str] = (),
    merge: Mapping[str, str] | None = None,
    was: str | Sequence[str] = (),
) -> Callable[[T], T]:
    """Declare that the rows of a declarative model live in a collection of the log.

    It is a class decorator, and can be called on a class that cannot be edited, or on an
    association `Table`: ``mirrored("tasks")(Task)``. It notes the declaration; what the model
    cannot do is said by `Store.open(mirrors=[...])`. Subclasses in single-table and joined
    inheritance share the declaration of their base.

    Args:
        collection: The collection's name.
        key: An attribute whose column is unique and not null, to identify rows in place of a
            primary key that the database counts up, which then stays out of the log.
        ids: How to identify rows whose primary key the database numbers. With "local" the number
            stays in this database, and the log has an id and references by id. With "random" each
            new row gets a random number of 53 bits, which is the same in all clones; declare it
            before anything is inserted.
        updated_at: The attribute that holds the version: an int (milliseconds), a datetime or a
            str (RFC 3339). With None the version is kept in the log only.
        exclude: Attributes that stay out of the log.
        local: Attributes whose foreign keys may lead to a table that is not mirrored. Their values
            are in the log, but mean something in this database only.
        merge: Merge policies by attribute, as for `indexed(merge=...)`. They reach the merge
            driver through `config.toml`.
        was: The former name of the collection, or all of them, oldest first. Its log keeps the
            first one. The revision that renames it states the same with `op.evolve_log`.

    Raises:
        InvalidNameError: The collection's or an attribute's name cannot be one.
        InvalidDeclarationError: The merge policy is unknown, or it is neither a class nor a table.
    """
    _check_ids(ids, key)
    for option, given in (("exclude", exclude), ("local", local)):
        if isinstance(given, str):
            reason = f'{option} takes a list: {option}=["notes"]'
            raise InvalidDeclarationError("mirrored", reason=reason)
    declaration = Declaration(
        names_of(collection, was)[0],
        key if key is None else check_field_name(key),
        ids,
        updated_at if updated_at is None else check_field_name(updated_at),
        frozenset(exclude),
        frozenset(local),
        {name: check_merge_policy(policy) for name, policy in (merge or {}).items()},
    )

    def declare(target: T) -> T:
        if isinstance(target, Table):
            target.info[_NOTE] = declaration
        elif isinstance(target, type):
            setattr(target, _NOTE, declaration)
        else:
            raise InvalidDeclarationError(
                repr(target), reason="mirrored takes a declarative class or a Table"
            )
        if ids == "random":
            number_randomly(target)
        return target

    return declare


def _check_ids(ids: str, key: str | None) -> None:
    if ids not in ("local", "random"):
        raise InvalidDeclarationError("mirrored", reason=f'ids is "local" or "random": {ids!r}')
    if ids == "random" and key is not None:
        raise InvalidDeclarationError(
            "mirrored", reason='key= identifies rows already: leave out key= or ids="random"'
        )


def declaration_of(target: Any) -> Declaration | None:
    """Return what was declared of a class (or a base of it) or a table; None if nothing was."""
    found = target.info.get(_NOTE) if isinstance(target, Table) else getattr(target, _NOTE, None)
    return found if isinstance(found, Declaration) else None
