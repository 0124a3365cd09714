"""Values as text for a page: harmless, and not too long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs

from taskstore._diff.changes import MISSING, FieldChange
from taskstore._diff.text import as_json, describe
from taskstore._format.instants import format_rfc3339, parse_instant
from taskstore._text import visible

LONG = 2_000
"""How many characters of a value a page shows."""

SHORT = 160
"""How many characters of a value a row of a table shows."""

_MOST_LINES = 40
"""How many lines of a value a page shows."""

_MOST_ROWS = 20
"""How many lines of a change a page shows."""

_MOST_COMPARED = 10_000
"""How long two texts may be together to be compared by line: that takes long for long ones."""


@attrs.frozen
class Text:
    """A text that a page shows.

    Attributes:
        text: The text, or its beginning.
        is_cut: Whether there is more of it.
    """

    text: str
    is_cut: bool = False


@attrs.frozen
class Row:
    """A line of a change.

    Attributes:
        kind: "old", "new" or "same".
        text: The line.
        is_cut: Whether there is more of it.
    """

    kind: str
    text: str
    is_cut: bool = False


def inline(value: Any, most: int = SHORT) -> Text:
    """Return a value on one line: strings as they are, others as JSON."""
    text = value if isinstance(value, str) else as_json(value)
    # What follows cannot be seen anyway, and may be long.
    return Text(visible(text[:most]), len(text) > most)


def block(value: Any) -> Text:
    """Return a value on as many lines as it has, lists and objects with one element on each."""
    text = whole(value, LONG + 1)
    lines = text[:LONG].split("\n")
    cut = len(text) > LONG or len(lines) > _MOST_LINES
    return Text("\n".join(lines[:_MOST_LINES]), cut)


def whole(value: Any, most: int | None = None) -> str:
    """Return all of a value as text, or its beginning, with control characters as escapes."""
    is_text = isinstance(value, str)
    text = value if is_text else json.dumps(value, ensure_ascii=False, indent=2)
    return "\n".join(map(visible, text[:most].split("\n")))


def change_rows(field: str, old: str | None, new: str | None) -> list[Row]:
    """Return the lines that show a change.

    Args:
        field: What changed.
        old: The value before, as JSON that may be cut; None where there was none.
        new: The value after.
    """
    before, after = _value(old), _value(new)
    length = sum(len(text) for text in (old, new) if text is not None)
    if length > _MOST_COMPARED and isinstance(before, str) and isinstance(after, str):
        # Line ends would make it a comparison of lines.
        before, after = before[:LONG].replace("\n", " "), after[:LONG].replace("\n", " ")
    kinds = {"-": "old", "+": "new"}
    rows: list[Row] = []
    for sign, text in _described(field, before, after):
        shown = inline(text, SHORT * 2 if rows else LONG)
        rows.append(Row(kinds.get(sign, "same"), shown.text, shown.is_cut))
        if len(rows) == _MOST_ROWS:
            rows.append(Row("same", "", is_cut=True))
            break
    return rows


def _described(field: str, old: Any, new: Any) -> Iterator[tuple[str, str]]:
    """Yield the lines of a change, each side on its own."""
    is_by_line = isinstance(old, str) and isinstance(new, str) and "\n" in old + new
    if is_by_line or old is MISSING or new is MISSING:
        yield from describe(FieldChange(field, old, new))
        return
    yield from describe(FieldChange(field, old, MISSING))
    yield from describe(FieldChange(field, MISSING, new))


def _value(text: str | None) -> Any:
    if text is None:
        return MISSING
    try:
        return json.loads(text)
    except ValueError:  # it was cut
        return text


def moment(time: Any) -> str:
    """Return a time for people, in UTC and to the second; empty for none.

    Args:
        time: Milliseconds since the epoch, or RFC 3339.
    """
    try:
        return format_rfc3339(parse_instant(time) // 1000)[:19].replace("T", " ") if time else ""
    except ValueError:
        return ""
