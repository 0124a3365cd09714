"""Why a value does not fit: the messages of msgspec, cattrs and validators in one voice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import attrs

from taskstore._records.hints import Hint, describe

_MSGSPEC = re.compile(r"(?P<what>.*?)(?: - at `(?:key` in `)?\$(?P<path>[^`]*)`)?", re.DOTALL)
_FIRST = re.compile(r"Expected ")


class StructureError(ValueError):
    """A value that does not fit its type.

    Attributes:
        path: Where it lies below the value that was decoded, as in ".owner.age" or "[3]".
        reason: What is wrong with it.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(f"{reason} (at {path.removeprefix('.')})" if path else reason)
        self.path = path
        self.reason = reason

    def below(self, step: str) -> StructureError:
        """Return the same error as seen from one level higher."""
        return StructureError(self.reason, step + self.path)


def reason_of(error: BaseException) -> StructureError:
    """Return any decoder's, converter's or validator's error with its path and reason."""
    if isinstance(error, StructureError):
        return error
    if isinstance(error, UnicodeEncodeError):
        return StructureError("a lone surrogate, which UTF-8 cannot carry")
    if isinstance(error, KeyError):
        return StructureError(f"{type(error).__name__}: {error}")
    # attrs' own validators append the attribute, the options and the value to their arguments.
    first = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    found = _MSGSPEC.fullmatch(first)
    assert found is not None
    reason = _FIRST.sub("expected ", found["what"].replace("`", ""), count=1)
    reason = reason.replace("Invalid ", "invalid ", 1) if reason.startswith("Invalid ") else reason
    reason = reason.replace("Object missing required field", "lacks the required field")
    return StructureError(reason or type(error).__name__, found["path"] or "")


def nearest(name: Any, names: list[str]) -> str | None:
    """Return the one of `names` that was probably meant, if any is near."""
    import difflib

    found = difflib.get_close_matches(str(name), names, n=1)
    return found[0] if found else None


def build(cls: Any, values: Mapping[str, Any]) -> Any:
    """Make an instance from field values by name; what is missing gets its default.

    Raises:
        StructureError: A field without default is missing.
    """
    arguments = {}
    later = []
    for field in attrs.fields(cls):
        if field.name in values:
            if field.init:
                arguments[field.alias] = values[field.name]
            else:
                later.append(field.name)
        elif field.init and field.default is attrs.NOTHING:
            raise StructureError(f"lacks the required field {field.name}")
    made = cls(**arguments)
    for name in later:
        # Frozen or not, and past hooks that would take it for a change.
        object.__setattr__(made, name, values[name])
    return made


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
