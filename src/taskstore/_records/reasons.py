"""Why a value does not fit: the messages of msgspec, cattrs and validators in one voice."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["StructureError", "nearest", "reason_of"]

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
