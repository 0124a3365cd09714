"""Python values as JSON builtins: what a line can hold of them, and how."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import PurePath
from typing import Any

import attrs
import msgspec

from taskstore._format.lines import MAX_DEPTH

_SCALARS = frozenset({str, int, float, bool, type(None)})
_MINUTE = datetime.timedelta(minutes=1)
_encode = msgspec.json.Encoder().encode


def to_builtins(value: Any, depth: int = 1) -> Any:
    """Turn a value into JSON builtins.

    Classes become objects with their fields in the order of the class; sets become sorted lists,
    so that equal sets have equal lines; paths have forward slashes; all other scalars are as
    msgspec writes them.

    Args:
        value: Any value that the codec carries.
        depth: How many levels lie above it.

    Raises:
        ValueError: It cannot be carried. The message is the reason alone.
    """
    if value.__class__ in _SCALARS:
        return value
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {_key(key): to_builtins(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted_items([to_builtins(item, depth + 1) for item in value])
    if isinstance(value, enum.Enum):
        return to_builtins(value.value, depth)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return [to_builtins(item, depth + 1) for item in value]
    names = _field_names(type(value))
    if names is not None:
        return {name: to_builtins(getattr(value, name), depth + 1) for name in names}
    return _scalar(value)


def _field_names(cls: type) -> Iterable[str] | None:
    if attrs.has(cls):
        return [field.name for field in attrs.fields(cls)]
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    return getattr(cls, "__struct_fields__", None)


def _scalar(value: Any) -> Any:
    try:
        return msgspec.to_builtins(exact_time(value), enc_hook=encode_hook)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise ValueError(str(error)) from None


def _key(key: Any) -> str:
    if isinstance(key, str) and not isinstance(key, enum.Enum):
        return str.__str__(key)
    try:
        text = next(iter(msgspec.to_builtins({key: None}, str_keys=True)))
    except (TypeError, ValueError):
        text = None
    if not isinstance(text, str):
        raise ValueError(f"JSON has no key for {key!r}: keys must be strings")
    return text


def sorted_items(items: list[Any]) -> list[Any]:
    """Return the builtins of a set's items in an order that is the same each time."""
    try:
        return sorted(items)
    except TypeError:
        return sorted(items, key=_encode)


def encode_hook(value: Any) -> Any:
    """Give msgspec what it can encode for a value that it does not know.

    Raises:
        TypeError: There is nothing of the kind.
    """
    if isinstance(value, PurePath):
        return value.as_posix()
    for kind, plain in _PLAIN:
        if isinstance(value, kind):
            return plain(value)
    raise TypeError(f"JSON has no value for {type(value).__name__}")


_PLAIN: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, bytes.__bytes__),
)


def exact_time(value: Any) -> Any:
    """Return a time as it is, or in UTC where its offset has seconds, which RFC 3339 lacks."""
    if isinstance(value, datetime.datetime):
        offset = value.utcoffset()
        if offset is not None and offset % _MINUTE:
            return value.astimezone(datetime.UTC)
    return value


def check_finite(value: Any) -> None:
    """Refuse NaN and infinities, which the encoder would write as null.

    Args:
        value: What was encoded: scalars, or sequences and mappings of them.

    Raises:
        ValueError: There is one in the value. The message is the reason alone.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"JSON has no {float(value)}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_finite(key)
            check_finite(item)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for item in value:
            check_finite(item)
