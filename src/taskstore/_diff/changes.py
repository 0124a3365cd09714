"""The differences between two versions of a log or of a record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs

from taskstore._evolution.shape import NO_SHAPE, Shape
from taskstore._format.lines import decode_object
from taskstore._merge.logs import read_log


class _Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()
"""A value that is not there."""

_OWN = ("id", "updated_at", "deleted")


@attrs.frozen
class FieldChange:
    """One value that differs.

    Attributes:
        field: The place, such as `status`, `meta.owner` or `comments[7].text`; `labels[]` is an
            element of a list.
        old: The value before; `MISSING` if there was none.
        new: The value after.
    """

    field: str
    old: Any
    new: Any

    def to_dict(self) -> dict[str, Any]:
        """The change in plain values; a side without the value has no key."""
        sides = {"old": self.old, "new": self.new}
        return {"field": self.field} | {k: v for k, v in sides.items() if v is not MISSING}


@attrs.frozen
class RecordChange:
    """One record that differs.

    Attributes:
        id: The record.
        kind: "created", "changed" or "deleted".
        updated_at: The version afterwards; None if the record is gone without a tombstone.
        fields: The differences, without `updated_at`; none for a deleted record.
    """

    id: str
    kind: str
    updated_at: int | str | None
    fields: tuple[FieldChange, ...]

    def to_dict(self) -> dict[str, Any]:
        """The change in plain values, for JSON."""
        return {**attrs.asdict(self), "fields": [field.to_dict() for field in self.fields]}


def compare_logs(old: bytes, new: bytes, shape: Shape = NO_SHAPE) -> Iterator[RecordChange]:
    """Yield the records in which two versions of a log differ, in the order of their ids.

    Args:
        old: One version.
        new: The other.
        shape: In which shape their lines are compared.
    """
    if old == new:
        return
    before, after = (read_log(data, {}).winners for data in (old, new))
    for id in sorted(before.keys() | after.keys()):
        lines = before.get(id), after.get(id)
        if lines[0] != lines[1]:
            first, second = (None if line is None else line.raw for line in lines)
            change = compare_records(id, first, second, shape)
            if change is not None:
                yield change


def compare_records(
    id: str, old: bytes | None, new: bytes | None, shape: Shape = NO_SHAPE
) -> RecordChange | None:
    """Compare two lines of a record; None if they mean the same.

    Args:
        id: The record.
        old: The line before, None if there was none.
        new: The line after.
        shape: In which shape they are compared.
    """
    before, after = (None if raw is None else decode_object(shape.shown(raw)) for raw in (old, new))
    was, now = (
        fields is not None and fields.get("deleted") is not True for fields in (before, after)
    )
    stamp = None if after is None else after.get("updated_at")
    if not now:
        return RecordChange(id, "deleted", stamp, ()) if was else None
    assert after is not None
    known = before if was and before is not None else {}
    fields = tuple(
        change
        for key in {**known, **after}
        if key not in _OWN
        for change in _values(key, known.get(key, MISSING), after.get(key, MISSING))
    )
    if was and not fields and known.get("updated_at") == stamp:
        return None
    return RecordChange(id, "changed" if was else "created", stamp, fields)


def _values(field: str, old: Any, new: Any) -> Iterator[FieldChange]:
    if same_value(old, new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _values(f"{field}.{key}", old.get(key, MISSING), new.get(key, MISSING))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _lists(field, old, new)
    else:
        yield FieldChange(field, old, new)


def _lists(field: str, old: list[Any], new: list[Any]) -> Iterator[FieldChange]:
    before, after = _keyed(old), _keyed(new)
    if before is None or after is None or _is_moved(list(before), list(after)):
        yield FieldChange(field, old, new)
        return
    for key in {**before, **after}:
        first, second = before.get(key, MISSING), after.get(key, MISSING)
        if first is MISSING or second is MISSING:
            yield FieldChange(f"{field}[]", first, second)
        else:
            # Equal keys and unequal elements: objects with one id.
            name = first["id"] if isinstance(first, dict) else key
            yield from _values(f"{field}[{name}]", first, second)


def _is_moved(old: list[str], new: list[str]) -> bool:
    return old != new and sorted(old) == sorted(new)


def _keyed(items: list[Any]) -> dict[str, Any] | None:
    """Return a list's elements by their keys; None if two are the same."""
    keyed = {_key(item): item for item in items}
    return keyed if len(keyed) == len(items) else None


def _key(item: Any) -> str:
    if isinstance(item, dict) and isinstance(item.get("id"), str | int | float):
        return f"id {_text(item['id'])}"
    return _text(item)


def same_value(old: Any, new: Any) -> bool:
    """Return whether two values are the same in JSON. `MISSING` is equal only to itself."""
    if old is MISSING or new is MISSING:
        return old is new
    # In Python's own equality true is 1.
    return bool(old == new) and _text(old) == _text(new)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
