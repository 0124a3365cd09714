"""What the codec and its cattrs converter share: what msgspec leaves open, and refusals."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from taskstore._records.hints import Hint, describe
from taskstore._records.reasons import StructureError

__all__ = ["decode_hook", "json_name", "unstorable"]


def decode_hook(hint: type, value: Any) -> Any:
    """Build what msgspec does not know but this library carries: paths."""
    if not issubclass(hint, PurePath):
        raise NotImplementedError(hint)
    if not isinstance(value, str):
        raise ValueError(f"Expected `str`, got `{json_name(value)}`")
    return hint(value)


def json_name(value: Any) -> str:
    """Return how messages call the type of a JSON value."""
    names = {dict: "object", list: "array", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def unstorable(hint: Hint) -> StructureError:
    """Return the error for a type that the codec does not carry."""
    return StructureError(
        f"{describe(hint)} cannot be stored: use a type that JSON has, datetime, date, UUID, "
        "Decimal, Enum, Path, bytes, attrs classes, or lists, sets, tuples, dicts and `| None` "
        "of these; for anything else give record(..., converter=) a converter that knows it"
    )
