"""Differences, and whole logs, as text."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any

from taskstore._diff.changes import MISSING, FieldChange
from taskstore._evolution.shape import NO_SHAPE, Shape
from taskstore._format.lines import decode_object
from taskstore._merge.logs import read_log


def as_json(value: Any) -> str:
    """Return a value as compact JSON that a person can read."""
    return json.dumps(value, ensure_ascii=False)


def describe(change: FieldChange) -> Iterator[tuple[str, str]]:
    """Yield the lines that describe a change, each with its sign: "+", "-" or " "."""
    field, old, new = change.field, change.old, change.new
    if old is MISSING:
        yield "+", f"{field}: {as_json(new)}"
    elif new is MISSING:
        yield "-", f"{field}: {as_json(old)}"
    elif isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
        yield " ", f"{field}:"
        rows = difflib.unified_diff(old.split("\n"), new.split("\n"), lineterm="", n=0)
        for row in list(rows)[2:]:
            if not row.startswith("@@"):
                yield row[0], f"    {row[1:]}"
    else:
        yield " ", f"{field}: {as_json(old)} -> {as_json(new)}"


def render_log(data: bytes, shape: Shape = NO_SHAPE) -> Iterator[str]:
    """Yield a log as text in which every line names its record and field.

    So git's line diff of two such texts compares records and fields. Records come in the order of
    their ids, in their latest version, and problem lines after them.

    Args:
        data: The log.
        shape: In which shape to show the records.
    """
    log = read_log(data, {})
    for id in sorted(log.winners):
        line = log.winners[id]
        name = as_json(id)[1:-1]
        if line.deleted:
            yield f"{name}: deleted"
            continue
        yield name
        for key, value in decode_object(shape.shown(line.raw)).items():
            if key != "id":
                yield from _rendered(f"{name}: {key}", value)
    for line in log.lines:
        if line.id is None:
            yield f"(unusable) {line.raw.decode(errors='backslashreplace')}"


def _rendered(place: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _rendered(f"{place}.{key}", item)
    elif isinstance(value, list) and value:
        for item in value:
            yield f"{place}[]: {as_json(item)}"
    elif isinstance(value, str) and "\n" in value:
        for row in value.split("\n"):
            yield f"{place}| {row}"
    else:
        yield f"{place}: {as_json(value)}"
