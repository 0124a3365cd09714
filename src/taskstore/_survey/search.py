"""Find records that contain a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

_AROUND = 40
"""How many characters are shown before and after a match."""


@attrs.frozen
class Hit:
    """A place in a record that has the text.

    Attributes:
        collection: The collection.
        id: The record.
        field: Where the text is, such as `title`, `labels[2]` or `meta.owner`.
        text: The text around it.
    """

    collection: str
    id: str
    field: str
    text: str


def hits(collection: str, record: Mapping[str, Any], words: str) -> Iterator[Hit]:
    """Yield the strings of a record that contain a text, ignoring case.

    Args:
        collection: The collection.
        record: The record.
        words: The text.
    """
    wanted = words.casefold()
    for name, value in record.items():
        if name != "updated_at":
            for place, text in _strings(name, value):
                at = text.casefold().find(wanted)
                if at >= 0:
                    yield Hit(collection, str(record["id"]), place, _around(text, at, len(words)))


def _strings(place: str, value: Any) -> Iterator[tuple[str, str]]:
    stack = [(place, value)]
    while stack:
        place, value = stack.pop()
        if isinstance(value, str):
            yield place, value
        elif isinstance(value, dict):
            stack += reversed([(f"{place}.{key}", item) for key, item in value.items()])
        elif isinstance(value, list):
            stack += reversed([(f"{place}[{n}]", item) for n, item in enumerate(value)])


def _around(text: str, at: int, length: int) -> str:
    start, end = max(at - _AROUND, 0), at + length + _AROUND
    before, after = "..." if start else "", "..." if end < len(text) else ""
    return f"{before}{text[start:end]}{after}"
