"""The JSON of one field: from a Python value to bytes and back, by the field's type.

Types that msgspec handles as this library means them go straight through it; all others go through
a strict cattrs converter, which accepts and refuses the same values.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from taskstore._format.lines import encode_value
from taskstore._records.builtins import check_finite, encode_hook, exact_time, to_builtins
from taskstore._records.hints import (
    LEAVES,
    Hint,
    bare,
    is_native,
    is_plain_enum,
    origin_of,
    union_members,
)
from taskstore._records.reasons import StructureError, decode_hook, reason_of

if TYPE_CHECKING:
    from cattrs import Converter


json_encode = msgspec.json.Encoder(enc_hook=encode_hook).encode
_json_decode = msgspec.json.Decoder().decode

_SURE = frozenset({str, int, bool, uuid.UUID, bytes, datetime.date})
_FLAT_LEAVES: frozenset[Any] = LEAVES - {Any, object, datetime.datetime}
_FLAT_CONTAINERS = frozenset({list, tuple, dict, Sequence, Mapping})
_LONG_INTEGER = re.compile(rb"[0-9]{309}")


def native_decoder(hint: Hint) -> msgspec.json.Decoder[Any] | None:
    """Return msgspec's decoder for a type, or None if it has none or means something else."""
    if not is_native(hint):
        return None
    try:
        return msgspec.json.Decoder(hint, dec_hook=decode_hook)
    except (TypeError, NameError, NotImplementedError):
        return None


class FieldCodec:
    """Encodes and decodes the values of one type.

    Attributes:
        hint: The type.
        sure: The exact classes whose values msgspec writes as they should be, save integers
            beyond a double and lone surrogates: they need no check by decoding.

    Raises:
        StructureError: Neither msgspec nor the converter knows the type.
    """

    __slots__ = ("_decode", "_flat", "_hook", "_unstructure", "hint", "sure")

    def __init__(self, hint: Hint, converter: Converter | None = None) -> None:
        self.hint = hint
        self._hook: Callable[[Any, Any], Any] | None = None
        self._unstructure: Callable[[Any], Any] = to_builtins
        native = native_decoder(hint) if converter is None else None
        self._decode = native.decode if native is not None else None
        self._flat = native is not None and _is_flat(hint)
        self.sure = _sure_classes(hint) if native is not None else frozenset()
        if native is None:
            self._use(converter)

    def _use(self, converter: Converter | None) -> None:
        from taskstore._records.converter import default_converter, structure_hook

        self._hook = structure_hook(converter or default_converter(), self.hint)
        if converter is not None:
            hint = self.hint
            self._unstructure = lambda value: to_builtins(converter.unstructure(value, hint))

    def decode(self, raw: bytes) -> Any:
        """Decode a JSON value.

        Raises:
            StructureError: It does not fit the type.
        """
        try:
            if self._decode is not None:
                return self._decode(raw)
            assert self._hook is not None
            return self._hook(_json_decode(raw), self.hint)
        except Exception as error:
            raise reason_of(error) from error

    def encode(self, value: Any) -> bytes:
        """Encode a value, provided that it can be read back.

        Raises:
            StructureError: It does not fit the type, or JSON cannot carry it.
        """
        try:
            raw = self._encode(value)
        except Exception as error:
            raise reason_of(error) from error
        try:
            decoded = self.decode(raw)
        except StructureError as error:
            if not error.path:
                error = StructureError(f"{error.reason.split(', got')[0]}, got {_shown(value)}")
            raise error from None
        if self._flat:
            _check_text(decoded, value)
        return raw

    def _encode(self, value: Any) -> bytes:
        if not self._flat:
            return encode_value(self._unstructure(value))
        try:
            raw = json_encode(exact_time(value))
        except TypeError:
            return encode_value(to_builtins(value))
        if b"null" in raw:
            check_finite(value)
        if len(raw) > 308 and _LONG_INTEGER.search(raw):
            encode_value(to_builtins(value))
        return raw

    def canonical(self, raw: bytes) -> bytes | None:
        """Return how this codec itself would write a JSON value, or None if it does not fit."""
        try:
            return self._encode(self.decode(raw))
        except (StructureError, ValueError, TypeError):
            return None


def _check_text(decoded: Any, value: Any) -> None:
    """Refuse what would be read back as text and is none: bytes, a UUID, a date in a str field."""
    if isinstance(decoded, str):
        if not isinstance(value, str):
            raise StructureError(f"expected str, got {_shown(value)}")
    elif isinstance(decoded, dict) and isinstance(value, Mapping):
        for key, item in decoded.items():
            _check_text(item, value.get(key, ""))
    elif isinstance(decoded, list | tuple) and isinstance(value, Sequence):
        for item, given in zip(decoded, value, strict=False):
            _check_text(item, given)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _sure_classes(hint: Hint) -> frozenset[type]:
    members = union_members(hint) or (hint,)
    sure = {kind for kind in members if kind in _SURE or is_plain_enum(kind)}
    if None in members or NoneType in members:
        sure.add(NoneType)
    return frozenset(sure)


def _is_flat(hint: Hint, *, top: bool = True) -> bool:
    """Return whether msgspec encodes the values of a native type as lines need them."""
    hint = bare(hint)
    members = union_members(hint)
    if members is not None:
        return all(_is_flat(member, top=top) for member in members)
    origin = origin_of(hint)
    if origin in _FLAT_CONTAINERS:
        return all(_is_flat(item, top=False) for item in get_args(hint) if item is not Ellipsis)
    if hint is datetime.datetime:
        return top
    return (
        origin is Literal
        or hint in _FLAT_LEAVES
        or is_plain_enum(hint)
        or (isinstance(hint, type) and issubclass(hint, PurePath))
    )
