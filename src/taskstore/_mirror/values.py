"""Column values as JSON and back, by SQLAlchemy type.

A codec works on the Python values that SQLAlchemy binds and returns. What a type of the
application's own (a TypeDecorator) makes of them is carried as the value of its `impl`.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import decimal
import math
import uuid
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
from sqlalchemy import types
from sqlalchemy.engine import Dialect

from taskstore._format.lines import encode_value

__all__ = ["Codec", "codec_for", "variant_of"]

_MOST = 2**63


@attrs.frozen
class Codec:
    """How values of one column travel.

    Attributes:
        encode: a Python value, not None, as JSON builtins; raises ValueError or TypeError.
        decode: the other way round.
        kind: the JSON kind of all its values: "str", "int", "float", "bool" or "any".
        python: the Python kind, for versions: "int", "str", "datetime" or "".
    """

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    kind: str = "str"
    python: str = ""

    def raw(self, value: Any) -> bytes:
        """Return a value as JSON bytes.

        Raises:
            ValueError: JSON cannot carry it. The message is the reason alone.
        """
        if value is None:
            return b"null"
        try:
            return encode_value(self.encode(value))
        except ValueError:
            raise
        except Exception as error:  # noqa: BLE001 - a type of the application's own raises anything
            raise ValueError(f"{_shown(value)} cannot be carried: {error}") from None

    def value(self, raw: bytes) -> Any:
        """Return the value of JSON bytes.

        Raises:
            ValueError: It does not fit the column. The message is the reason alone.
        """
        return self.from_json(msgspec.json.decode(raw))

    def from_json(self, found: Any) -> Any:
        """Return the value of JSON builtins; raises as `value` does."""
        if found is None:
            return None
        try:
            return self.decode(found)
        except Exception as error:  # noqa: BLE001 - as above
            raise ValueError(f"{_shown(found)} does not fit the column: {error}") from None

    def canonical(self, raw: bytes) -> bytes | None:
        """Return JSON bytes as the column's own value would be written; None if they do not fit."""
        try:
            return self.raw(self.value(raw))
        except (ValueError, msgspec.MsgspecError):
            return None


def codec_for(type_: types.TypeEngine[Any], dialect: Dialect) -> Codec | None:
    """Return how a type's values travel; None where they cannot."""
    type_ = variant_of(type_, dialect.name)
    for kind, make in _MAKERS:
        if isinstance(type_, kind):
            return make(type_, dialect)
    return None


def variant_of(type_: types.TypeEngine[Any], dialect: str) -> types.TypeEngine[Any]:
    """Return what a type is in a dialect: another one, if it was given by `with_variant`."""
    return type_._variant_mapping.get(dialect, type_)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _expect(kind: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    return check


_text = _expect(str)


def _plain(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected str, got {type(value).__name__}")
    return str.__str__(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected int, got {type(value).__name__}")
    if not -_MOST <= value < _MOST:
        raise ValueError("an integer beyond 64 bits")
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected float, got {type(value).__name__}")
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"JSON has no {found}")
    return found


def _enum(type_: Any, dialect: Dialect) -> Codec:
    bind = type_.bind_processor(dialect)
    result = type_.result_processor(dialect, None)
    known = set(type_.enums)

    def encode(value: Any) -> Any:
        return bind(value) if bind is not None else value

    def decode(value: Any) -> Any:
        if _text(value) not in known:
            raise ValueError("none of " + ", ".join(map(repr, type_.enums)))
        return result(value) if result is not None else value

    return Codec(encode, decode)


def _numeric(type_: Any, dialect: Dialect) -> Codec:
    if not type_.asdecimal:
        return Codec(_float, _float, "float")
    scale = type_._effective_decimal_return_scale

    def decode(value: Any) -> decimal.Decimal:
        found = decimal.Decimal(_text(value))
        if not found.is_finite():
            raise ValueError(f"JSON has no {found}")
        # As SQLite will return it, which keeps a double.
        return decimal.Decimal(f"%.{scale}f" % found)

    return Codec(str, decode)


def _moment(type_: Any, dialect: Dialect) -> Codec:
    def decode(value: Any) -> datetime.datetime:
        found = datetime.datetime.fromisoformat(_text(value))
        if found.tzinfo is not None:
            # SQLite's DateTime has no zones, and cuts them off.
            found = found.astimezone(datetime.UTC).replace(tzinfo=None)
        return found

    return Codec(lambda value: value.isoformat(), decode, python="datetime")


def _time(type_: Any, dialect: Dialect) -> Codec:
    def decode(value: Any) -> datetime.time:
        return datetime.time.fromisoformat(_text(value)).replace(tzinfo=None)

    return Codec(lambda value: value.isoformat(), decode)


def _date(type_: Any, dialect: Dialect) -> Codec:
    return Codec(
        lambda value: value.isoformat(), lambda value: datetime.date.fromisoformat(_text(value))
    )


def _interval(type_: Any, dialect: Dialect) -> Codec:
    return Codec(
        msgspec.to_builtins, lambda value: msgspec.convert(_text(value), datetime.timedelta)
    )


def _uuid(type_: Any, dialect: Dialect) -> Codec:
    if not type_.as_uuid:
        return Codec(lambda value: str(uuid.UUID(value)), lambda value: str(uuid.UUID(value)))
    return Codec(str, lambda value: uuid.UUID(_text(value)))


def _bytes(type_: Any, dialect: Dialect) -> Codec:
    def decode(value: Any) -> bytes:
        try:
            return base64.b64decode(_text(value), validate=True)
        except binascii.Error as error:
            raise ValueError(f"no base64: {error}") from None

    return Codec(lambda value: base64.b64encode(value).decode(), decode)


def _decorated(type_: Any, dialect: Dialect) -> Codec | None:
    """A type of the application's own: what it stores, as its impl travels."""
    inner = codec_for(type_.load_dialect_impl(dialect), dialect)
    if inner is None:
        return None
    bind, result = type_.process_bind_param, type_.process_result_value
    binds, results = type_._has_bind_processor, type_._has_result_processor

    def encode(value: Any) -> Any:
        stored = bind(value, dialect) if binds else value
        return None if stored is None else inner.encode(stored)

    def decode(value: Any) -> Any:
        found = inner.decode(value)
        return result(found, dialect) if results else found

    return Codec(encode, decode, inner.kind, inner.python)


def _pickled(type_: Any, dialect: Dialect) -> None:
    # Reading a log must never run code.
    return None


_MAKERS: tuple[tuple[type[Any], Callable[[Any, Dialect], Codec | None]], ...] = (
    (types.PickleType, _pickled),
    (types.Interval, _interval),
    (types.TypeDecorator, _decorated),
    (types.Enum, _enum),
    (types.Boolean, lambda *_: Codec(_expect(bool), _expect(bool), "bool")),
    (types.Integer, lambda *_: Codec(_integer, _integer, "int", "int")),
    (types.Float, _numeric),
    (types.Numeric, _numeric),
    (types.DateTime, _moment),
    (types.Date, _date),
    (types.Time, _time),
    (types.Uuid, _uuid),
    (types.String, lambda *_: Codec(_plain, _text, "str", "str")),
    (types.JSON, lambda *_: Codec(lambda value: value, lambda value: value, "any")),
    (types.LargeBinary, _bytes),
)
