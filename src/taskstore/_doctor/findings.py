"""What an examination finds."""

from __future__ import annotations

from typing import Any

import attrs

ERROR = "error"
"""Data is not what it should be, or cannot be reached."""

WARNING = "warning"
"""Nothing is lost, but the next merge or write may not do what is expected."""

INFO = "info"
"""As it may be; worth to know."""


@attrs.frozen
class Finding:
    """One thing that is not as it should be.

    Attributes:
        code: Its name, for scripts, such as "driver".
        level: "error", "warning" or "info".
        message: What was found, and where.
        meaning: What follows from it.
        remedy: The command, or else the thing to do, that mends it; empty where nothing need be
            done.
        is_safe: Whether `doctor --fix` mends it.
    """

    code: str
    level: str
    message: str
    meaning: str
    remedy: str = ""
    is_safe: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The finding in plain values, for JSON."""
        return attrs.asdict(self)
