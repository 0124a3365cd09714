"""The record types of the stateful test, and what their declarations mean, told a second time."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from taskstore import Condition, indexed, record, where


@record("plans")
class Plan:
    """Each indexed field that is filtered by has an unindexed twin of the same value."""

    id: str
    title: str = ""
    status: str = indexed(default="draft")
    mood: str = "draft"
    priority: int | None = indexed(default=0)
    rank: int | None = 0
    due: datetime | None = indexed(default=None)
    tags: list[str] = attrs.field(factory=list)
    updated_at: int = 0


@record("notes")
class Note:
    """A record whose versions are RFC 3339 text."""

    id: str
    text: str = indexed(default="")
    done: bool = indexed(default=False)
    score: float | None = indexed(default=0.5)
    updated_at: str = ""


TYPES: dict[str, type[Any]] = {"plans": Plan, "notes": Note}
DEFAULTS: dict[str, dict[str, Any]] = {
    "plans": {
        "title": "",
        "status": "draft",
        "mood": "draft",
        "priority": 0,
        "rank": 0,
        "due": None,
        "tags": [],
    },
    "notes": {"text": "", "done": False, "score": 0.5},
}
INDEXED = {
    "plans": {"status": "string", "priority": "int", "due": "datetime"},
    "notes": {"text": "string", "done": "bool", "score": "float"},
}
TWINS = {"status": "mood", "priority": "rank"}


def fits(collection: str, fields: Mapping[str, Any]) -> bool:
    """Whether the JSON of a line can be structured as its record type."""
    checks: dict[str, Callable[[Any], bool]] = {
        "title": lambda value: isinstance(value, str),
        "status": lambda value: isinstance(value, str),
        "mood": lambda value: isinstance(value, str),
        "text": lambda value: isinstance(value, str),
        "priority": lambda value: value is None or type(value) is int,
        "rank": lambda value: value is None or type(value) is int,
        "due": lambda value: value is None or isinstance(instant(value), datetime),
        "tags": lambda value: isinstance(value, list),
        "done": lambda value: isinstance(value, bool),
        "score": lambda value: value is None or type(value) in (int, float),
    }
    return all(checks[name](fields[name]) for name in DEFAULTS[collection] if name in fields)


def instant(value: Any) -> Any:
    """A time as a datetime; anything else as it is."""
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value


def meant(collection: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields of a line say: with defaults, and times as times."""
    full = {**DEFAULTS[collection], **fields}
    full.pop("id", None)
    full.pop("updated_at", None)
    if collection == "plans":
        full["due"] = instant(full["due"])
    return full


def index_row(kind: str, value: Any) -> tuple[Any, Any, Any, Any] | None:
    """The value columns (text, integer, boolean, real) of a JSON value."""
    if kind == "datetime" and isinstance(instant(value), datetime):
        value = (instant(value) - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
    if isinstance(value, str):
        return value, None, None, None
    if isinstance(value, bool):
        return None, None, int(value), None
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return None, value, None, None
    if isinstance(value, (int, float)):
        return None, None, None, float(value)
    return None


def index_rows(collection: str, record: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The index rows of a line, by field name."""
    rows = {}
    for name, kind in INDEXED[collection].items():
        row = index_row(kind, record.get(name, DEFAULTS[collection][name]))
        if row is not None:
            rows[name] = row
    return rows


@attrs.frozen
class Probe:
    """A filter that can be put to a field, and answered without the library."""

    op: str
    value: Any
    negated: bool = False

    def condition(self, field: str) -> Condition:
        """The filter on a field."""
        named = where(field)
        condition: Condition
        if self.op in _OPERATORS:
            condition = _OPERATORS[self.op](named, self.value)
        elif self.op == "in":
            condition = named.in_([self.value, _OTHERS[field]])
        elif self.op == "is":
            condition = named.is_(None)
        else:
            condition = named.contains(self.value)
        return ~condition if self.negated else condition

    def fits(self, field: str) -> bool:
        """Whether the declared type of a field can have the value, and be asked so."""
        is_text = isinstance(_OTHERS[field], str)
        if self.op in ("is", "contains"):
            return is_text or self.op == "is"
        return is_text is isinstance(self.value, str)

    def holds(self, found: Any, field: str) -> bool:
        """Whether a field's JSON value, None for a missing one, meets the filter."""
        return self._plainly(found, field) is not self.negated

    def _plainly(self, found: Any, field: str) -> bool:
        value = self.value
        if self.op == "in":
            return not isinstance(found, list) and found in (value, _OTHERS[field])
        if self.op == "is":
            return found is None
        if self.op == "contains":
            text = isinstance(found, str) and isinstance(value, str) and value in found
            return text or (isinstance(found, list) and value in found)
        if self.op in ("==", "!="):
            return bool(_OPERATORS[self.op](found, value))
        comparable = (isinstance(found, str) and isinstance(value, str)) or (
            isinstance(found, (int, float)) and isinstance(value, (int, float))
        )
        return comparable and bool(_OPERATORS[self.op](found, value))


_OTHERS = {"status": "active", "mood": "active", "priority": 3, "rank": 3}
"""For each field, one more value of its type to ask for."""

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OPERATIONS = [*_OPERATORS, "in", "is", "contains"]
