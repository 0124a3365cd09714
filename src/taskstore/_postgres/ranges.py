"""Ranges and multiranges as JSON: `{"lower": 1, "upper": null, "bounds": "[)"}`."""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import types
from sqlalchemy.dialects.postgresql.ranges import AbstractMultiRange, MultiRange, Range
from sqlalchemy.engine import Dialect

from taskstore._mirror.model.values import Codec, codec_for

_DAY = datetime.timedelta(days=1)

_ITEMS: dict[str, tuple[types.TypeEngine[Any], Any]] = {
    "int4": (types.Integer(), 1),
    "int8": (types.BigInteger(), 1),
    "num": (types.Numeric(), None),
    "date": (types.Date(), _DAY),
    "ts": (types.DateTime(), None),
    "tstz": (types.DateTime(timezone=True), None),
}
"""For each kind of range: the type of its bounds, and the step between two neighbouring values if
there is one. PostgreSQL returns ranges of values with a step with the bounds "[)"."""


def range_codec(type_: Any, dialect: Dialect) -> Codec | None:
    """Return the codec for a type of ranges; None if the type of their bounds is not known."""
    is_many = isinstance(type_, AbstractMultiRange)
    kind = type_.__visit_name__.lower().removesuffix("multirange" if is_many else "range")
    item, step = _ITEMS.get(kind, (None, None))
    codec = None if item is None else codec_for(item, dialect)
    if codec is None:
        return None

    def encode(value: Any) -> Any:
        return _encoded(value, codec)

    def decode(found: Any) -> Any:
        return _decoded(found, codec, step)

    if not is_many:
        return Codec(encode, decode, "any")
    return Codec(
        lambda value: [encode(one) for one in value],
        lambda found: MultiRange([decode(one) for one in _checked(found, list)]),
        "any",
    )


def _encoded(value: Any, codec: Codec) -> Any:
    if value.isempty:
        return {"empty": True}
    lower, upper = (
        None if one is None else codec.encode(one) for one in (value.lower, value.upper)
    )
    return {"lower": lower, "upper": upper, "bounds": value.bounds}


def _decoded(found: Any, codec: Codec, step: Any) -> Range[Any]:
    told = _checked(found, dict)
    if told.get("empty") is True:
        return Range(empty=True)
    lower, upper = codec.from_json(told.get("lower")), codec.from_json(told.get("upper"))
    bounds = told.get("bounds", "[)")
    if bounds not in ("[)", "(]", "[]", "()"):
        raise ValueError(f"not the bounds of a range: {bounds!r}")
    opening, closing = bounds
    if step is not None:
        # The form that PostgreSQL returns.
        lower = lower + step if lower is not None and opening == "(" else lower
        upper = upper + step if upper is not None and closing == "]" else upper
        opening, closing = "[", ")"
    # An infinite bound is never included.
    made: Range[Any] = Range(
        lower,
        upper,
        bounds=("(" if lower is None else opening) + (")" if upper is None else closing),  # type: ignore[arg-type]
    )
    return Range(empty=True) if made.is_empty else made


def _checked(found: Any, kind: type[Any]) -> Any:
    if not isinstance(found, kind):
        raise ValueError(f"expected {kind.__name__}, got {type(found).__name__}")
    return found
