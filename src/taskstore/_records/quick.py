"""The line of a new record at one go, where none of its values needs a closer look."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from taskstore._format.lines import MAX_LINE_BYTES, has_long_digits
from taskstore._records.codec import json_encode

__all__ = ["QuickLine"]


class QuickLine:
    """Writes lines of one class: the same as its fields' codecs would, or none.

    Args:
        cls: The class.
        sure: For each field the exact classes whose values need no check.
    """

    __slots__ = ("_cls", "_kinds", "_names", "_sure", "_values")

    def __init__(self, cls: type, sure: Mapping[str, frozenset[type]]) -> None:
        self._cls = cls
        self._sure = {name: kinds for name, kinds in sure.items() if name != "updated_at"}
        self._names = tuple(self._sure)
        # A getter of one attribute gives no tuple.
        self._values = attrgetter(*self._names) if len(self._names) > 1 else None
        self._kinds: set[tuple[type, ...]] = set()

    def of(self, record: Any, updated_at: int | str) -> bytes | None:
        """Return the line of a record, without newline; None if it needs a closer look.

        Args:
            record: The record; its id has been checked.
            updated_at: What the line's `updated_at` is to say.
        """
        if record.__class__ is not self._cls or self._values is None:
            return None
        try:
            values = self._values(record)
            kinds = tuple(map(type, values))
            if kinds not in self._kinds and not self._are_sure(kinds):
                return None
            fields = dict(zip(self._names, values, strict=True))
            fields["updated_at"] = updated_at
            line: bytes = json_encode(fields)
        except (AttributeError, ValueError):
            return None
        if len(line) > MAX_LINE_BYTES // 2 or has_long_digits(line):
            return None
        return line

    def _are_sure(self, kinds: tuple[type, ...]) -> bool:
        """Whether values of these classes need no check; remembered if they do not."""
        pairs = zip(self._sure.values(), kinds, strict=True)
        if not all(kind in sure for sure, kind in pairs):
            return False
        self._kinds.add(kinds)
        return True
