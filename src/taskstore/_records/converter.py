"""The strict cattrs converter, for types that msgspec does not handle alone.

Imported only when a class needs it. It accepts and refuses the same values as msgspec, for each
type that msgspec knows is handed to it.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import attrs
import cattrs
import msgspec
from cattrs.errors import StructureHandlerNotFoundError
from cattrs.gen import make_dict_unstructure_fn

from taskstore._records.builtins import sorted_items
from taskstore._records.hints import (
    LEAVES,
    Hint,
    alternatives,
    field_types,
    is_native,
    is_plain_enum,
    origin_of,
    union_members,
)
from taskstore._records.reasons import (
    StructureError,
    build,
    decode_hook,
    json_name,
    reason_of,
    unstorable,
)

Hook = Callable[[Any, Any], Any]

_LISTS: dict[Any, type] = {
    list: list,
    set: set,
    frozenset: frozenset,
    origin_of(typing.Sequence): list,
    origin_of(typing.MutableSequence): list,
    origin_of(typing.AbstractSet): set,
    origin_of(typing.MutableSet): set,
}
_DICTS = {dict, origin_of(typing.Mapping), origin_of(typing.MutableMapping)}


@lru_cache(maxsize=1)
def default_converter() -> cattrs.Converter:
    """Return the converter of all classes without one of their own; it gets no further hooks."""
    return make_converter()


def make_converter() -> cattrs.Converter:
    """Return a new converter with this library's rules; see `declare.make_converter`."""
    converter = cattrs.Converter(detailed_validation=False)
    for leaf in LEAVES - {None, Any, object}:
        converter.register_structure_hook(leaf, _convert)
    converter.register_structure_hook_func(lambda hint: hint in {Any, object}, _as_it_is)
    converter.register_structure_hook_func(_is_leaf_class, _convert)
    converter.register_structure_hook_func(_is_odd_enum, _structure_enum)
    factories: list[tuple[Callable[[Any], bool], Callable[[Any], Hook]]] = [
        (_is_list, lambda hint: _list_hook(hint, converter)),
        (_is_tuple, lambda hint: _tuple_hook(hint, converter)),
        (_is_dict, lambda hint: _dict_hook(hint, converter)),
        (_is_plain_union, lambda hint: _convert),
        (_is_class, lambda hint: _class_hook(hint, converter)),
    ]
    for accepts, factory in factories:
        converter.register_structure_hook_factory(accepts, factory)
    converter.register_unstructure_hook_factory(
        attrs.has,
        lambda cls: make_dict_unstructure_fn(cls, converter, _cattrs_include_init_false=True),
    )
    converter.register_unstructure_hook_factory(
        _is_list, lambda hint: _list_unstructure_hook(hint, converter)
    )
    return converter


def structure_hook(converter: cattrs.Converter, hint: Hint) -> Hook:
    """Return the converter's hook for a type.

    Raises:
        StructureError: It has none.
    """
    try:
        return converter.get_structure_hook(hint)
    except (StructureHandlerNotFoundError, TypeError):
        raise unstorable(hint) from None


def _as_it_is(value: Any, hint: Any) -> Any:
    return value


def _convert(value: Any, hint: Any) -> Any:
    try:
        return msgspec.convert(value, hint, dec_hook=decode_hook, str_keys=True)
    except msgspec.ValidationError as error:
        raise reason_of(error) from error


def _is_leaf_class(hint: Any) -> bool:
    if origin_of(hint) is typing.Literal:
        return is_native(hint)
    return is_plain_enum(hint) or (isinstance(hint, type) and issubclass(hint, PurePath))


def _is_odd_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, enum.Enum) and not is_plain_enum(hint)


def _structure_enum(value: Any, cls: Any) -> Any:
    """Find the member whose value is of the same JSON type: True is not 1, 1.0 is not 1."""
    if issubclass(cls, enum.Flag):
        if type(value) is int:
            return cls(value)
        raise StructureError(f"expected int, got {json_name(value)}")
    for member in cls:
        if type(member.value) is type(value) and member.value == value:
            return member
    raise StructureError(f"invalid enum value {value!r}")


def _is_plain_union(hint: Any) -> bool:
    """Return whether msgspec can tell a union's members apart by itself."""
    members = union_members(hint)
    if members is None or len(alternatives(hint)) < 2 or not is_native(hint):
        return False
    if any(kind not in LEAVES and not is_plain_enum(kind) for kind in alternatives(hint)):
        return False
    try:
        msgspec.json.Decoder(hint)
    except TypeError:
        return False
    return True


def _is_list(hint: Any) -> bool:
    return (origin_of(hint) or hint) in _LISTS


def _is_tuple(hint: Any) -> bool:
    return (origin_of(hint) or hint) is tuple


def _is_dict(hint: Any) -> bool:
    return (origin_of(hint) or hint) in _DICTS and not typing.is_typeddict(hint)


def _is_class(hint: Any) -> bool:
    return isinstance(hint, type) and attrs.has(hint) and origin_of(hint) is None


def _array(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise StructureError(f"expected array, got {json_name(value)}")
    return list(value)


def _items(values: Iterable[Any], hooks: Iterable[Hook], hints: Iterable[Any]) -> list[Any]:
    found = []
    for index, (value, hook, hint) in enumerate(zip(values, hooks, hints, strict=False)):
        try:
            found.append(hook(value, hint))
        except Exception as error:
            raise reason_of(error).below(f"[{index}]") from error
    return found


def _list_hook(hint: Any, converter: cattrs.Converter) -> Hook:
    made = _LISTS[origin_of(hint) or hint]
    item = next(iter(typing.get_args(hint)), Any)
    hook = structure_hook(converter, item)

    def structure(value: Any, _: Any) -> Any:
        values = _array(value)
        return made(_items(values, [hook] * len(values), [item] * len(values)))

    return structure


def _list_unstructure_hook(hint: Any, converter: cattrs.Converter) -> Callable[[Any], Any]:
    """Refuse text for a declared list: cattrs would split it into characters."""
    is_set = issubclass(_LISTS[origin_of(hint) or hint], set | frozenset)
    hook = converter.get_unstructure_hook(next(iter(typing.get_args(hint)), Any))

    def unstructure(value: Any) -> Any:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise StructureError(f"expected array, got {type(value).__name__} {value!r}")
        items = [hook(item) for item in value]
        return sorted_items(items) if is_set else items

    return unstructure


def _tuple_hook(hint: Any, converter: cattrs.Converter) -> Hook:
    hints = typing.get_args(hint) or (Any, ...)
    if hint == tuple[()]:
        hints = ()
    endless = len(hints) == 2 and hints[1] is Ellipsis
    hooks = [structure_hook(converter, item) for item in hints if item is not Ellipsis]

    def structure(value: Any, _: Any) -> Any:
        values = _array(value)
        if endless:
            return tuple(_items(values, hooks * len(values), hints[:1] * len(values)))
        if len(values) != len(hints):
            raise StructureError(f"expected array of length {len(hints)}, got {len(values)}")
        return tuple(_items(values, hooks, hints))

    return structure


def _dict_hook(hint: Any, converter: cattrs.Converter) -> Hook:
    key_hint, item_hint = typing.get_args(hint) or (Any, Any)
    native_key = is_native(key_hint)
    key_type: Any = types.GenericAlias(dict, (key_hint, None))
    key_hook = structure_hook(converter, key_hint)
    hook = structure_hook(converter, item_hint)

    def structure_key(key: str) -> Any:
        if native_key and key_hint is not Any:
            return next(iter(_convert({key: None}, key_type)))
        return key_hook(key, key_hint)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise StructureError(f"expected object, got {json_name(value)}")
        found = {}
        for key, item in value.items():
            try:
                found[structure_key(key)] = hook(item, item_hint)
            except Exception as error:
                raise reason_of(error).below(f"[{key!r}]") from error
        return found

    return structure


def _class_hook(cls: Any, converter: cattrs.Converter) -> Hook:
    """Build an attrs class through its `__init__`, all its fields by name, also `init=False`."""
    hints: dict[str, Any] = {}
    hooks: dict[str, Hook] = {}

    def prepare() -> None:
        hints.update(field_types(cls))
        hooks.update({name: structure_hook(converter, hint) for name, hint in hints.items()})

    def structure(value: Any, _: Any) -> Any:
        # A class may hold itself, so its hooks are looked up when the first value comes.
        if not hooks:
            prepare()
        if not isinstance(value, Mapping):
            raise StructureError(f"expected object, got {json_name(value)}")
        found = {}
        for name, hook in hooks.items():
            if name in value:
                try:
                    found[name] = hook(value[name], hints[name])
                except Exception as error:
                    raise reason_of(error).below(f".{name}") from error
        return build(cls, found)

    return structure
