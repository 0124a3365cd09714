"""What fits into an answer: no megabytes, and no record that is nested too deep to be sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from taskstore.cli._output import size

MOST_BYTES = 256 * 1024
"""How many bytes the records of one answer have at most, as JSON."""

_DEEPEST = 100
"""How deep a record may be nested. JSON readers refuse what is much deeper."""


@attrs.define
class Room:
    """What is left of an answer's size.

    Attributes:
        left: In bytes.
    """

    left: int = MOST_BYTES

    def take(self, record: Mapping[str, Any]) -> bool:
        """Take room for a record, and say whether there was enough."""
        wanted = _bytes_of(record)
        if wanted > self.left:
            return False
        self.left -= wanted
        return True


def unfit(record: Mapping[str, Any]) -> str | None:
    """Return why no answer can have a record; None if one can."""
    if _is_deep(record):
        return f"it is nested more than {_DEEPEST} levels deep: `taskstore get` shows it"
    wanted = _bytes_of(record)
    if wanted > MOST_BYTES:
        return f"it has {size(wanted)}, and an answer at most {size(MOST_BYTES)}: name columns"
    return None


def _bytes_of(record: Mapping[str, Any]) -> int:
    return len(json.dumps(record, ensure_ascii=False).encode())


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
