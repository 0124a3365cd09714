"""Check the declaration of a record class, and read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from taskstore._evolution.decoding import COLLECTION as RESERVED
from taskstore._evolution.decoding import Evolution
from taskstore._format.config import POLICIES
from taskstore._format.names import check_collection_name, check_field_name
from taskstore._records.evolutions import evolutions_of
from taskstore._records.foreign import why_foreign
from taskstore._records.hints import Hint, bare, describe, enum_fault, field_types
from taskstore._records.indexing import index_type, not_indexable
from taskstore._records.reasons import StructureError, nearest
from taskstore._records.versions import VersionForm
from taskstore.errors import InvalidDeclarationError

if TYPE_CHECKING:
    from cattrs import Converter


COLLECTION = "__taskstore_collection__"
"""The attribute of a record class that names its collection."""

CONVERTER = "__taskstore_converter__"
"""The attribute of a record class that holds its cattrs converter, if it has one."""

INDEXED = "taskstore.indexed"
"""The key in a field's metadata that marks it as indexed."""

MERGE = "taskstore.merge"
"""The key in a field's metadata that holds its merge policy."""


@attrs.frozen
class Declaration:
    """The facts of a record class.

    Attributes:
        cls: The class.
        collection: The name of its collection.
        hints: The resolved type of each field, in the order of the class.
        indexed: The index type of each indexed field.
        merge_policies: The merge policy of each field that names one.
        converter: Its cattrs converter, if it has one of its own.
        evolutions: How lines from before changes of the class are read.
    """

    cls: type
    collection: str
    hints: Mapping[str, Hint]
    indexed: Mapping[str, str]
    merge_policies: Mapping[str, str]
    converter: Converter | None
    evolutions: tuple[Evolution, ...] = ()


def read_declaration(cls: Any, names: Mapping[str, Any] | None = None) -> Declaration:
    """Read and check the declaration of a record class.

    Args:
        cls: The class.
        names: What its annotations may name beyond the globals of its module.

    Raises:
        InvalidDeclarationError: It cannot be stored as it is declared.
        InvalidNameError: Its collection, or a field, has a name that is not allowed.
        NameError: An annotation names something that does not exist (yet).
    """
    if not isinstance(cls, type) or COLLECTION not in cls.__dict__:
        raise _no_record_class(cls)
    check_fields(cls)
    hints = field_types(cls, names)
    _check_known_fields(cls, hints)
    if getattr(cls, CONVERTER, None) is None:
        _check_enums(cls, hints)
    indexed = {}
    policies = {}
    for field in attrs.fields(cls):
        if field.metadata.get(INDEXED):
            indexed[field.name] = _index_type_of(cls, field.name, hints[field.name])
        if field.metadata.get(MERGE) is not None:
            policies[field.name] = check_merge_policy(field.metadata[MERGE], cls, field.name)
    return Declaration(
        cls=cls,
        collection=getattr(cls, COLLECTION),
        hints=hints,
        indexed=indexed,
        merge_policies=policies,
        converter=getattr(cls, CONVERTER, None),
        evolutions=evolutions_of(cls, getattr(cls, COLLECTION)),
    )


def _no_record_class(cls: Any) -> InvalidDeclarationError:
    name = cls.__qualname__ if isinstance(cls, type) else repr(cls)
    parent = getattr(cls, COLLECTION, None)
    if parent is None:
        reason = why_foreign(cls) or (
            'is not a record class: decorate it with @record("<collection>")'
        )
    else:
        reason = (
            f"is a subclass of a record class of {parent!r} but none itself: decorate it with "
            '@record("<collection>") too'
        )
    return InvalidDeclarationError(name, reason=reason)


def check_fields(cls: type) -> None:
    """Check what needs no types: the collection's name and those of the fields.

    Raises:
        InvalidDeclarationError: A field is missing or reserved.
        InvalidNameError: A name is not allowed.
    """
    if check_collection_name(getattr(cls, COLLECTION)) == RESERVED:
        raise InvalidDeclarationError(
            cls.__qualname__,
            reason=f"the collection {RESERVED!r} belongs to the format: choose another name",
        )
    fields = [field.name for field in attrs.fields(cls)]
    if "id" not in fields:
        raise InvalidDeclarationError(
            cls.__qualname__, reason="has no field `id`: declare `id: str`"
        )
    for name in fields:
        check_field_name(name)
        if name == "deleted":
            raise InvalidDeclarationError(
                cls.__qualname__,
                field=name,
                reason="is reserved for the lines of deleted records: choose another name",
            )


def _check_known_fields(cls: type, hints: Mapping[str, Hint]) -> None:
    if bare(hints["id"]) is not str:
        raise InvalidDeclarationError(
            cls.__qualname__,
            field="id",
            reason=f"must be declared as str, not {describe(hints['id'])}",
        )
    if "updated_at" in hints:
        try:
            VersionForm(hints["updated_at"])
        except StructureError as error:
            raise InvalidDeclarationError(
                cls.__qualname__, field="updated_at", reason=error.reason
            ) from None


def _check_enums(cls: type, hints: Mapping[str, Hint]) -> None:
    for name, hint in hints.items():
        fault = enum_fault(hint)
        if fault is not None:
            raise InvalidDeclarationError(cls.__qualname__, field=name, reason=fault)


def _index_type_of(cls: type, name: str, hint: Hint) -> str:
    if name == "updated_at":
        raise InvalidDeclarationError(
            cls.__qualname__,
            field=name,
            reason="is ordered and filtered without an index of its own: declare it without "
            "indexed()",
        )
    found = index_type(hint)
    if found is None:
        raise InvalidDeclarationError(cls.__qualname__, field=name, reason=not_indexable(hint))
    return found


def check_merge_policy(policy: Any, cls: type | None = None, field: str | None = None) -> str:
    """Return a merge policy if there is one of that name.

    Raises:
        InvalidDeclarationError: There is none.
    """
    if policy in POLICIES:
        return str(policy)
    near = nearest(policy, list(POLICIES))
    hint = f"; did you mean {near!r}?" if near else ""
    raise InvalidDeclarationError(
        "indexed()" if cls is None else cls.__qualname__,
        field=field,
        reason=f"unknown merge policy {policy!r}: choose one of {', '.join(POLICIES)}{hint}",
    )
