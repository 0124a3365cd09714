"""Column values as JSON and back, by SQLAlchemy type.

A codec works on the Python values that SQLAlchemy binds and returns. What a type of the
application's own (a TypeDecorator) makes of them is carried as the value of its `impl`.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import math
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

import attrs
import msgspec
from sqlalchemy import types
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from taskstore._format.lines import encode_value
from taskstore._mirror.model.loose import (
    bytes_of,
    from_document,
    from_loose,
    loose,
    odd_document,
    to_document,
)

_PICKLERS = frozenset(
    {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "jsonpickle", "shelve"}
)


@cache
def pickles(type_: type[TypeDecorator[Any]]) -> bool:
    """Return whether a TypeDecorator's own methods use a library that pickles."""
    own: tuple[type[Any], ...] = type_.__mro__[: type_.__mro__.index(TypeDecorator)]
    return any(
        _is_pickler(value)
        for one in own
        for member in vars(one).values()
        for value in _used(getattr(member, "__func__", member))
    )


def _used(member: Any) -> Iterator[Any]:
    """Yield a class member and, for a function, the globals that it refers to."""
    if not isinstance(member, str):
        yield member
    if isinstance(member, FunctionType):
        for name in _names(member.__code__):
            yield member.__globals__.get(name, name)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_pickler(value: Any) -> bool:
    if isinstance(value, str):
        # A library that is imported inside the function.
        name = value
    elif isinstance(value, ModuleType):
        name = value.__name__
    else:
        name = getattr(value, "__module__", None) or ""
    return str(name).partition(".")[0] in _PICKLERS


_MOST = 2**63

_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 - as SQLite's DateTime has it, without a zone


@attrs.frozen
class Codec:
    """How values of one column travel.

    Attributes:
        encode: A Python value, not None, as JSON builtins; raises ValueError or TypeError.
        decode: The other way round.
        kind: The JSON kind of all its values: "str", "int", "float", "bool" or "any".
        python: The Python kind, for versions: "int", "str", "datetime" or "".
        plain: The type whose values, as a database gives them, need no further look; None for
            none.
        instant: Makes the value of microseconds since the epoch, in less time than from JSON; None
            if only that can.
        is_own: Whether the application's own type makes them.
        spare: Encodes values that JSON lacks; None if there is no way.
    """

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    kind: str = "str"
    python: str = ""
    plain: type | None = None
    is_own: bool = False
    spare: Callable[[Any], Any] | None = None
    instant: Callable[[int], Any] | None = None

    def raw(self, value: Any) -> bytes:
        """Return a value as JSON bytes.

        Raises:
            ValueError: JSON cannot carry it. The message is the reason alone.
        """
        if value is None:
            return b"null"
        if self.plain is str and type(value) is str:
            return encode_value(value)
        try:
            return encode_value(self.encode(value))
        except ValueError:
            if self.spare is None:
                raise
            return encode_value(self.spare(value))
        except Exception as error:  # noqa: BLE001 - a type of the application's own raises anything
            raise ValueError(f"{_shown(value)} cannot be stored in the log: {error}") from None

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

    def same(self, value: Any, other: Any) -> bool:
        """Return whether two values are stored as the same.

        Raises:
            ValueError: JSON cannot carry one of them.
        """
        raw = self.raw(value)
        return raw == self.raw(other) or (self._varies(value, raw) and _equal(value, other))

    def keeps(self, before: bytes, value: Any, raw: bytes) -> bool:
        """Return whether a line with these JSON bytes need not change for a value.

        Args:
            before: What the line has.
            value: What the row has.
            raw: The bytes that `raw` has made of it.
        """
        if self.plain is str and not self.is_own and before[:1] == b'"' and b"\\" not in before:
            # Without escapes there is one way to spell a text.
            return before == raw
        known = self.canonical(before)
        if known is None or known == raw or known == self.canonical(raw):
            return known is not None
        return self._varies(value, raw) and _equal(self.value(before), value)

    def _varies(self, value: Any, raw: bytes) -> bool:
        """Return whether a type stores a value differently each time, as one that encrypts does."""
        return self.is_own and raw != self.raw(value)

    def canonical(self, raw: bytes) -> bytes | None:
        """Return JSON bytes as the column's own value would be written; None if they do not fit."""
        try:
            return self.raw(self.value(raw))
        except (ValueError, msgspec.MsgspecError):
            return None


Makers = tuple[tuple[type[Any], Callable[[Any, Dialect], Codec | None]], ...]
"""Types, and what makes the codec of each; the first that fits is taken."""

_of_dialects: dict[str, Makers] = {}


def codec_for(type_: types.TypeEngine[Any], dialect: Dialect) -> Codec | None:
    """Return how a type's values travel; None if they cannot."""
    type_ = variant_of(type_, dialect.name)
    for kind, make in (*_of_dialects.get(dialect.name, ()), *_MAKERS):
        if isinstance(type_, kind):
            return make(type_, dialect)
    return None


def register_codecs(dialect: str, makers: Makers) -> None:
    """State how some types are encoded if a dialect differs from SQLite."""
    _of_dialects[dialect] = makers


def variant_of(type_: types.TypeEngine[Any], dialect: str) -> types.TypeEngine[Any]:
    """Return what a type is in a dialect: another one, if it was given by `with_variant`."""
    return type_._variant_mapping.get(dialect, type_)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _equal(value: Any, other: Any) -> bool:
    try:
        return type(value) is type(other) and bool(value == other)
    except Exception:  # noqa: BLE001 - a type of the application's own raises anything
        return False


def _expect(kind: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    return check


_text = _expect(str)


def _from_string(value: Any) -> Any:
    return str.__str__(value) if isinstance(value, str) else loose(value, str)


def _to_string(found: Any) -> Any:
    return found if type(found) is str else from_loose(found, str)


def _from_integer(value: Any) -> Any:
    return _integer(value) if _is_number(value, int) else loose(value, int)


def _to_integer(found: Any) -> Any:
    return _integer(found) if _is_number(found, int) else from_loose(found, int)


def _integer(value: Any) -> int:
    if not -_MOST <= value < _MOST:
        raise ValueError("an integer beyond 64 bits")
    return int(value)


def _from_float(value: Any) -> Any:
    is_finite = _is_number(value, int | float) and math.isfinite(value)
    return float(value) if is_finite else loose(value, float)


def _to_float(found: Any) -> Any:
    return float(found) if _is_number(found, int | float) else from_loose(found, float)


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


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
        return Codec(_from_float, _to_float, "float")
    scale = type_._effective_decimal_return_scale

    def decode(value: Any) -> decimal.Decimal:
        found = decimal.Decimal(_text(value))
        if found.is_nan():
            raise ValueError(f"a column holds no {found}")
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

    return Codec(
        lambda value: value.isoformat(),
        decode,
        python="datetime",
        plain=datetime.datetime,
        instant=lambda order_us: _EPOCH + datetime.timedelta(microseconds=order_us),
    )


def _time(type_: Any, dialect: Dialect) -> Codec:
    def decode(value: Any) -> datetime.time:
        return datetime.time.fromisoformat(_text(value)).replace(tzinfo=None)

    return Codec(lambda value: value.isoformat(), decode)


def _date(type_: Any, dialect: Dialect) -> Codec:
    return Codec(
        lambda value: value.isoformat(), lambda value: datetime.date.fromisoformat(_text(value))
    )


def interval_codec(type_: Any, dialect: Dialect) -> Codec:
    """Return how intervals travel."""
    return Codec(
        msgspec.to_builtins, lambda value: msgspec.convert(_text(value), datetime.timedelta)
    )


def _uuid(type_: Any, dialect: Dialect) -> Codec:
    if not type_.as_uuid:
        return Codec(lambda value: str(uuid.UUID(value)), lambda value: str(uuid.UUID(value)))
    return Codec(str, lambda value: uuid.UUID(_text(value)))


def _bytes(type_: Any, dialect: Dialect) -> Codec:
    def decode(value: Any) -> bytes:
        return bytes_of(_text(value))

    return Codec(lambda value: base64.b64encode(value).decode(), decode)


def _uuid_text(value: Any) -> str:
    return str(value if isinstance(value, uuid.UUID) else uuid.UUID(value))


def _gives_uuids(type_: Any) -> bool:
    try:
        return bool(type_.python_type is uuid.UUID)
    except NotImplementedError:
        return False


def _decorated(type_: Any, dialect: Dialect) -> Codec | None:
    """A type of the application's own: what it stores, as its impl travels."""
    if pickles(type_.__class__):
        return None
    impl = type_.load_dialect_impl(dialect)
    if isinstance(impl, types._Binary) and _gives_uuids(type_):
        return Codec(_uuid_text, lambda value: uuid.UUID(_text(value)))
    inner = codec_for(impl, dialect)
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

    def spare(value: Any) -> Any:
        assert inner.spare is not None
        return inner.spare(bind(value, dialect) if binds else value)

    has_spare = inner.spare is not None
    return Codec(
        encode,
        decode,
        inner.kind,
        inner.python,
        is_own=True,
        spare=spare if has_spare else None,
    )


def _document(type_: Any, dialect: Dialect) -> Codec:
    def decode(found: Any) -> Any:
        # SQLite keeps a document that is a number as a number.
        return _integer(found) if type(found) is int else to_document(found)

    is_number_there = dialect.name == "sqlite"
    return Codec(
        from_document, decode if is_number_there else to_document, "any", spare=odd_document
    )


def _pickled(type_: Any, dialect: Dialect) -> None:
    # Reading a log must never run code.
    return None


_MAKERS: Makers = (
    (types.PickleType, _pickled),
    (types.Interval, interval_codec),
    (types.TypeDecorator, _decorated),
    (types.Enum, _enum),
    (types.Boolean, lambda *_: Codec(_expect(bool), _expect(bool), "bool", plain=bool)),
    (types.Integer, lambda *_: Codec(_from_integer, _to_integer, "int", "int", int)),
    (types.Float, _numeric),
    (types.Numeric, _numeric),
    (types.DateTime, _moment),
    (types.Date, _date),
    (types.Time, _time),
    (types.Uuid, _uuid),
    (types.String, lambda *_: Codec(_from_string, _to_string, "str", "str", str)),
    (types.JSON, _document),
    (types._Binary, _bytes),
)
