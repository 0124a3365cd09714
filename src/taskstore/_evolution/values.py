"""Conversions of one JSON value, on its bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from taskstore._format.lines import encode_value

_decode = msgspec.json.Decoder().decode
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?(?:[eE][+-]?[0-9]{1,2})?")
_LARGEST = 10**18
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}


def canonical(raw: bytes) -> bytes:
    """Return one text for all ways to write a scalar; of a list or an object its own bytes."""
    return raw if raw[:1] in (b"[", b"{") else encode_value(_decode(raw))


def text_of(raw: bytes) -> str | None:
    """Return a string's text; None for any other value."""
    return _decode(raw) if raw[:1] == b'"' else None


def _to_int(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST:
        return int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    return value


def _to_float(value: Any) -> Any:
    if isinstance(value, int) and abs(value) < _LARGEST:
        return float(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return value


def _to_str(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return encode_value(value).decode()
    return value


def _to_bool(value: Any) -> Any:
    if isinstance(value, str):
        return _TRUTHS.get(value, value)
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else value


CONVERTERS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {"int": _to_int, "float": _to_float, "str": _to_str, "bool": _to_bool}
)
"""Functions that convert a decoded value to a type. A value that does not fit stays as it is."""
