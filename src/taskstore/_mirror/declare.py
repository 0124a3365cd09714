"""`mirrored`: says that a model, or an association table, of an application lives in the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs
from sqlalchemy import Table

from taskstore._format.names import check_collection_name, check_field_name
from taskstore._records.declaration import check_merge_policy
from taskstore.errors import InvalidDeclarationError

__all__ = ["Declaration", "declaration_of", "mirrored"]

_NOTE = "__taskstore_mirrored__"

T = TypeVar("T")


@attrs.frozen
class Declaration:
    """What was declared of a model or table; see `mirrored`."""

    collection: str
    key: str | None = None
    updated_at: str | None = "updated_at"
    exclude: frozenset[str] = frozenset()
    merge: Mapping[str, str] = attrs.field(factory=dict)


def mirrored(
    collection: str,
    /,
    *,
    key: str | None = None,
    updated_at: str | None = "updated_at",
    exclude: Iterable[str] = (),
    merge: Mapping[str, str] | None = None,
) -> Callable[[T], T]:
    """Declare that the rows of a declarative model live in a collection of the log.

    It is a class decorator, and can be called on a class that cannot be edited, or on an
    association `Table`: ``mirrored("tasks")(Task)``. It only notes the declaration; what the
    model cannot do is said by `Store.open(mirrors=[...])`. Subclasses in single-table and joined
    inheritance share the declaration of their base.

    Args:
        collection: the collection's name.
        key: an attribute whose column is unique and not null, to identify rows in place of a
            primary key that the database counts up, which then stays out of the log.
        updated_at: the attribute that holds the version: an int (milliseconds), a datetime or a
            str (RFC 3339). With None the version is in the log alone.
        exclude: attributes that stay out of the log.
        merge: merge policies by attribute, as for `indexed(merge=...)`. They reach the merge
            driver through `config.toml`.

    Raises:
        InvalidNameError: the collection's or an attribute's name cannot be one.
        InvalidDeclarationError: an unknown merge policy, or no class and no table.
    """
    if isinstance(exclude, str):
        raise InvalidDeclarationError("mirrored", reason='exclude takes a list: exclude=["notes"]')
    declaration = Declaration(
        check_collection_name(collection),
        key if key is None else check_field_name(key),
        updated_at if updated_at is None else check_field_name(updated_at),
        frozenset(exclude),
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
        return target

    return declare


def declaration_of(target: Any) -> Declaration | None:
    """Return what was declared of a class (or a base of it) or a table; None if nothing was."""
    found = target.info.get(_NOTE) if isinstance(target, Table) else getattr(target, _NOTE, None)
    return found if isinstance(found, Declaration) else None
