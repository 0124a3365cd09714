"""The findings of an examination."""

from __future__ import annotations

from typing import Any

import attrs

ERROR = "error"
"""Data is wrong or cannot be reached."""

WARNING = "warning"
"""Nothing is lost, but the next merge or write may not do what is expected."""

INFO = "info"
"""Nothing is wrong, but it is worth knowing."""


@attrs.frozen
class Finding:
    """One problem.

    Attributes:
        code: Its name, for scripts, such as "driver".
        level: "error", "warning" or "info".
        message: What was found, and where.
        meaning: The consequence.
        remedy: The command, or the thing to do, that fixes it; empty if nothing has to be done.
        is_safe: Whether `doctor --fix` fixes it.
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
