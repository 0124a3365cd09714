"""JSON values as the cells of a CSV file, so that a spreadsheet shows them and loses none.

A missing field is an empty cell. Text is written as it is. If Taskstore could read it as something
else (a number, `true`, a list, nothing at all), or a spreadsheet could (a formula, 007, 1,5, a
date), it gets an apostrophe, which also marks a text in spreadsheets. Other values are JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Set
from typing import Any

ABSENT = ""
"""The cell of a field that a record does not have."""

_MARK = "'"
# Text that spreadsheets read as a formula, or cut off.
_LEADING = ("=", "+", "-", "@", "\t", "\r", _MARK)
# Text that they read as a number, a time or a date, and write in another way.
_MONTH = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_REWRITTEN = re.compile(
    rf"(?=.*\d)[\d\s.,:/%e+-]+([ap]m)?|(?=.*\d)[\d\s./-]*({_MONTH})[a-z]*[\d\s.,/-]*|true|false",
    re.IGNORECASE,
)
_NOT_JSON = object()


def to_cell(value: Any) -> str:
    """Return the cell of a value."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if (
        not value
        or value.startswith(_LEADING)
        or _REWRITTEN.fullmatch(value)
        or _parsed(value) is not _NOT_JSON
    ):
        return _MARK + value
    return value


def from_cell(cell: str, kinds: Set[str] = frozenset()) -> Any:
    """Return the value of a cell that is not empty.

    Args:
        cell: The cell.
        kinds: SQLite's names of the JSON types that the field has had. If all of them are text,
            the cell is text, whatever it looks like.
    """
    if cell.startswith(_MARK):
        return cell[1:]
    value = _parsed(cell)
    if value is _NOT_JSON or (value is not None and kinds - {"null"} == {"text"}):
        return cell
    return value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _refuse(name: str) -> None:
    raise ValueError(name)
