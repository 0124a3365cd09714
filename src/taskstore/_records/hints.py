"""Reading declarations: the types of a class's fields, and which of them msgspec handles alone."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, TypeAlias

import attrs

Hint: TypeAlias = Any
"""A type as it is written in an annotation, resolved."""

LEAVES: frozenset[Any] = frozenset(
    {
        str,
        int,
        float,
        bool,
        None,
        types.NoneType,
        bytes,
        datetime.datetime,
        datetime.date,
        datetime.time,
        datetime.timedelta,
        uuid.UUID,
        decimal.Decimal,
        Any,
        object,
    }
)

_CONTAINERS: frozenset[Any] = frozenset(
    {
        list,
        set,
        frozenset,
        tuple,
        dict,
        collections.abc.Sequence,
        collections.abc.MutableSequence,
        collections.abc.Set,
        collections.abc.MutableSet,
        collections.abc.Mapping,
        collections.abc.MutableMapping,
    }
)


def field_types(cls: type, names: Mapping[str, Any] | None = None) -> dict[str, Hint]:
    """Return the resolved type of each attrs field of `cls`, in the order of the class.

    Args:
        cls: An attrs class.
        names: What its annotations may name beyond the globals of its module, such as the local
            variables of the function that declares it.

    Raises:
        NameError: An annotation names something that does not exist (yet).
    """
    namespace = {**(names or {}), cls.__name__: cls}
    hints = typing.get_type_hints(cls, localns=namespace, include_extras=True)
    return {
        field.name: hints.get(field.name, Any if field.type is None else field.type)
        for field in attrs.fields(cls)
    }


def origin_of(hint: Hint) -> Any:
    """Return what a subscripted type is made from, as list for list[int], or None."""
    return typing.get_origin(hint)


def bare(hint: Hint) -> Hint:
    """Return a type without `Annotated` and `NewType` around it."""
    while True:
        if origin_of(hint) is typing.Annotated:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        else:
            return hint


def union_members(hint: Hint) -> tuple[Hint, ...] | None:
    """Return the members of a union, or None for any other type."""
    if origin_of(hint) in {typing.Union, types.UnionType}:
        return typing.get_args(hint)
    return None


def alternatives(hint: Hint) -> list[Hint]:
    """Return the types that a value may have, bare, without None."""
    hint = bare(hint)
    members = union_members(hint)
    if members is None:
        return [] if hint in {None, types.NoneType} else [hint]
    return [found for member in members for found in alternatives(member)]


def is_plain_enum(hint: Hint) -> bool:
    """Return whether a type is an Enum whose values are all strings or all integers."""
    if not (isinstance(hint, type) and issubclass(hint, enum.Enum)):
        return False
    if issubclass(hint, enum.Flag):
        return False
    kinds = {type(member.value) for member in hint}
    return kinds in ({str}, {int})


def enum_fault(hint: Hint, _seen: frozenset[Any] = frozenset()) -> str | None:
    """Return why a value of a type might be read back as another Enum member, or None.

    A member is found again by the JSON of its value, so that JSON must be the value itself, and
    `| None` beside a member whose value is None would leave two readings of null.
    """
    hint = bare(hint)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _member_fault(hint)
    members = union_members(hint) or ()
    if types.NoneType in members or None in members:
        for member in alternatives(hint):
            if _has_none(member):
                return f"{describe(member)} has a member whose value is None: take `| None` away"
    found = [
        enum_fault(item, _seen) for item in typing.get_args(hint) if origin_of(hint) != Literal
    ]
    if isinstance(hint, type) and hint not in _seen:
        found += [enum_fault(kind, _seen | {hint}) for kind in _nested_types(hint)]
    return next((fault for fault in found if fault is not None), None)


def _nested_types(cls: type) -> list[Hint]:
    if not (attrs.has(cls) or dataclasses.is_dataclass(cls)):
        return []
    try:
        return list(typing.get_type_hints(cls, include_extras=True).values())
    except NameError:
        # A name that is not known yet is reported where the type is first used.
        return []


def _has_none(hint: Hint) -> bool:
    return (
        isinstance(hint, type)
        and issubclass(hint, enum.Enum)
        and any(member.value is None for member in hint)
    )


def _member_fault(cls: type[enum.Enum]) -> str | None:
    if issubclass(cls, enum.Flag):
        return None
    for member in cls:
        if not _is_json(member.value):
            return (
                f"{member} has a value that JSON changes, {member.value!r}: give the members "
                "strings, numbers, booleans, or lists and dicts of these"
            )
    return None


def _is_json(value: Any) -> bool:
    if type(value) is list:
        return all(map(_is_json, value))
    if type(value) is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    return type(value) in {str, int, float, bool, types.NoneType}


def is_native(hint: Hint, _seen: frozenset[Any] = frozenset()) -> bool:
    """Return whether msgspec alone decodes a type in the way that this library needs.

    It does not where an attrs class has converters, aliases and the like (see `is_safe_class`);
    nor does it know Enums of mixed values.
    """
    hint = bare(hint)
    if not isinstance(hint, collections.abc.Hashable):
        return False
    if hint in LEAVES:
        return True
    origin = origin_of(hint)
    if origin is Literal:
        return all(type(value) in {str, int, types.NoneType} for value in typing.get_args(hint))
    if hint in _CONTAINERS:
        return True
    if origin in _CONTAINERS or union_members(hint) is not None:
        members = (member for member in typing.get_args(hint) if member is not Ellipsis)
        return all(is_native(member, _seen) for member in members)
    return isinstance(hint, type) and _is_native_class(hint, _seen)


def _is_native_class(cls: type, seen: frozenset[Any]) -> bool:
    if issubclass(cls, enum.Enum):
        return is_plain_enum(cls)
    if issubclass(cls, PurePath) or cls in seen:
        return True
    seen = seen | {cls}
    if attrs.has(cls):
        return is_safe_class(cls, seen)
    if dataclasses.is_dataclass(cls) or typing.is_typeddict(cls) or hasattr(cls, "_field_types"):
        try:
            hints = typing.get_type_hints(cls, include_extras=True)
        except NameError:
            return False
        return all(is_native(hint, seen) for hint in hints.values())
    return False


def is_safe_class(cls: type, _seen: frozenset[Any] = frozenset()) -> bool:
    """Return whether msgspec may build an attrs class directly, without its `__init__`.

    It would ignore converters and aliases, fill `init=False` fields itself, and skip an
    `__init__` or `__attrs_pre_init__` of the class's own.
    """
    seen = _seen | {cls}
    if any(hasattr(cls, name) for name in _INIT_HOOKS):
        return False
    try:
        hints = field_types(cls)
    except NameError:
        return False
    return all(
        field.init
        and field.converter is None
        and field.alias == field.name
        and not getattr(field.default, "takes_self", False)
        and is_native(hints[field.name], seen)
        for field in attrs.fields(cls)
    )


_INIT_HOOKS = (
    "__attrs_init__",
    "__attrs_pre_init__",
    "_attrs_cached_hash",
    "__taskstore_converter__",
)


def describe(hint: Hint) -> str:
    """Return a type as a reader would write it."""
    if hint is None or hint is types.NoneType:
        return "None"
    members = union_members(hint)
    if members is not None:
        return " | ".join(describe(member) for member in members)
    if isinstance(hint, type) and origin_of(hint) is None:
        return hint.__qualname__.rsplit("<locals>.", 1)[-1]
    return str(hint).replace("typing.", "")
