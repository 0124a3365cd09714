"""Evolutions as programs state them, in keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ORDER = ("collection", "rename", "split", "join", "map", "convert", "default", "drop")
"""The order in which the steps of one statement are taken."""


def steps_of(changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the steps, as JSON builtins, that keyword arguments ask for.

    Args:
        changes: The arguments by name; empty ones are left out.

    Raises:
        ValueError: One of them is not known, or has another form. The message is the reason alone.
    """
    strange = sorted(changes.keys() - set(ORDER))
    if strange:
        raise ValueError(f"{strange[0]!r} is not a step: use one of {', '.join(ORDER)}")
    steps: list[dict[str, Any]] = []
    for kind in ORDER:
        value = changes.get(kind)
        if not value:
            continue
        if kind == "collection":
            # A collection that was not renamed has one name.
            steps += [{kind: list(value)}] if len(value) > 1 else []
        elif kind == "drop":
            steps.append({kind: [value] if isinstance(value, str) else list(value)})
        elif not isinstance(value, Mapping):
            raise ValueError(f"{kind}: a dict is expected, by field")
        elif kind in ("rename", "default"):
            steps.append({kind: dict(value)})
        else:
            steps += [{kind: {name: _content(kind, item)}} for name, item in value.items()]
    return steps


def _content(kind: str, value: Any) -> Any:
    if kind == "convert":
        return list(value) if isinstance(value, tuple) else value
    if kind == "map":
        return [list(pair) for pair in value.items()] if isinstance(value, Mapping) else value
    parts, separator = value if isinstance(value, tuple) and len(value) == 2 else (value, " ")
    if not isinstance(parts, list | tuple):
        raise ValueError(f"{kind}: the parts and a separator are expected, as in (['a', 'b'], ' ')")
    return {"into" if kind == "split" else "fields": list(parts), "separator": separator}
