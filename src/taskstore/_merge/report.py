"""The messages of a merge."""

from __future__ import annotations

from taskstore._merge.three_way import Conflict, Merged
from taskstore._merge.values import Value

_SHOWN = 200


def lines_of(merged: Merged) -> list[str]:
    """Return a line for each conflict, and for what a person has to do."""
    lines = [_conflict(conflict) for conflict in merged.conflicts]
    left = sum(conflict.is_left for conflict in merged.conflicts)
    if left:
        lines.append(
            f"{left} field(s) to decide: keep one of the lines between the conflict markers, "
            "then git add"
        )
    if merged.has_markers:
        lines.append(
            "conflict markers of an earlier merge: all lines are kept; remove the markers and the "
            "lines that you do not want, then git add"
        )
    return lines


def _conflict(conflict: Conflict) -> str:
    place = f"{conflict.id}: {conflict.field}" if conflict.field else conflict.id
    values = f"ours {_shown(conflict.ours)}, theirs {_shown(conflict.theirs)}"
    outcome = "left to decide" if conflict.is_left else f"took {conflict.taken}"
    reason = "" if conflict.is_left else f" ({conflict.reason})"
    return f"{place}: {values}: {outcome}{reason}"


def _shown(value: Value) -> str:
    if value is None:
        return "(missing)"
    text = value.decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
