"""Column values of PostgreSQL's own types, and of those that differ from SQLite's there."""

from __future__ import annotations

import datetime
import decimal
import math
from typing import Any

from sqlalchemy import types
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.ranges import AbstractRange
from sqlalchemy.engine import Dialect

from taskstore._mirror.model.values import Codec, codec_for, interval_codec, register_codecs
from taskstore._postgres.ranges import range_codec

_Decimal = decimal.Decimal


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"expected str, got {type(value).__name__}")
    return value


def _moment(type_: Any, dialect: Dialect) -> Codec:
    if not type_.timezone:
        return Codec(_naive_text, _naive, python="datetime", plain=datetime.datetime)
    return Codec(_utc_text, _utc, python="datetime")


def _naive_text(value: datetime.datetime) -> str:
    return value.isoformat()


def _naive(found: Any) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(_text(found))
    return moment if moment.tzinfo is None else moment.astimezone(datetime.UTC).replace(tzinfo=None)


def _utc_text(value: datetime.datetime) -> str:
    # In whichever zone a session is, the line is the same.
    return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")


def _utc(found: Any) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(_text(found))
    # A clone on SQLite writes moments without their zone.
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
    return aware.astimezone(datetime.UTC)


def _time(type_: Any, dialect: Dialect) -> Codec | None:
    if type_.timezone:
        return None
    return Codec(
        lambda value: value.isoformat(), lambda found: datetime.time.fromisoformat(_text(found))
    )


def _numeric(type_: Any, dialect: Dialect) -> Codec:
    if not type_.asdecimal:
        return Codec(_from_float, _to_float, "float")
    encode = _from_decimal if type_.scale is not None else _from_any_decimal
    return Codec(encode, lambda found: _to_decimal(_text(found), type_.scale))


def _from_float(value: Any) -> Any:
    found = float(value)
    if math.isnan(found):
        raise ValueError("JSON has no NaN")
    if math.isinf(found):
        return {"real": "Infinity" if found > 0 else "-Infinity"}
    return found


def _to_float(found: Any) -> float:
    if isinstance(found, dict) and found.get("real") in ("Infinity", "-Infinity"):
        return float(found["real"])
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"expected a number, got {type(found).__name__}")
    return float(found)


def _from_decimal(value: Any) -> str:
    found = _Decimal(value)
    if not found.is_finite():
        raise ValueError(f"a line holds no {found}")
    return f"{found:f}"


def _from_any_decimal(value: Any) -> str:
    # Trailing zeros do not make another number.
    return _from_decimal(_shortest(_Decimal(value)))


def _to_decimal(text: str, scale: int | None) -> decimal.Decimal:
    found = _Decimal(text)
    if not found.is_finite():
        raise ValueError(f"a column holds no {found}")
    # Clones on SQLite write a fixed count of digits.
    return _Decimal(f"{found:.{scale}f}") if scale is not None else _shortest(found)


def _shortest(found: decimal.Decimal) -> decimal.Decimal:
    return _Decimal(f"{found.normalize():f}")


def _array(type_: Any, dialect: Dialect) -> Codec | None:
    items = codec_for(type_.item_type, dialect)
    if items is None:
        return None

    def encode(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [encode(item) for item in value]
        return None if value is None else items.encode(value)

    def decode(found: Any) -> Any:
        if isinstance(found, list):
            return [decode(item) for item in found]
        return items.from_json(found)

    def whole(found: Any) -> Any:
        if not isinstance(found, list):
            raise ValueError(f"expected a list, got {type(found).__name__}")
        return decode(found)

    return Codec(encode, whole, "any")


def _domain(type_: Any, dialect: Dialect) -> Codec | None:
    """Return the codec of the domain's type; None if SQLAlchemy would have to convert values."""
    inner = type_.data_type
    impl = inner.dialect_impl(dialect)
    # The driver gives a NUMERIC as a Decimal; SQLAlchemy's processor asks for what was received.
    is_decimal = isinstance(inner, types.Numeric) and inner.asdecimal
    is_plain = is_decimal or (
        impl.bind_processor(dialect) is None and impl.result_processor(dialect, None) is None
    )
    return codec_for(inner, dialect) if is_plain else None


def _as_text(type_: Any, dialect: Dialect) -> Codec:
    return Codec(str, _text)


register_codecs(
    "postgresql",
    (
        (types.DateTime, _moment),
        (types.Time, _time),
        (types.Float, _numeric),
        (types.Numeric, _numeric),
        (types.ARRAY, _array),
        (postgresql.INTERVAL, interval_codec),
        (postgresql.INET, _as_text),
        (postgresql.CIDR, _as_text),
        (postgresql.MACADDR, _as_text),
        (postgresql.MACADDR8, _as_text),
        (AbstractRange, range_codec),
        (postgresql.DOMAIN, _domain),
    ),
)
