"""Values from text, typed by what the log has."""

from __future__ import annotations

import json
from collections.abc import Callable, Set
from typing import Any

from taskstore.errors import TaskstoreError

__all__ = ["TextError", "from_json", "split_assignment", "typed"]

_NAMES = {
    "integer": "numbers",
    "real": "numbers",
    "true": "true or false",
    "false": "true or false",
    "array": "lists",
    "object": "objects",
    "null": "null",
}
_BOOLEANS = frozenset({"true", "false"})
_NUMBERS = frozenset({"integer", "real"})
_MISSING = object()


class TextError(TaskstoreError, ValueError):
    """A text that cannot be understood as what it is to be."""

    text: str

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(reason, text=text)


def typed(field: str, text: str, kinds: Set[str]) -> Any:
    """Return what a text means for a field.

    A field that has had text takes a text as it is, unless it has also had what the text says in
    JSON. A field that only had other values takes JSON of their types and null. A field that is new
    takes what looks like JSON as that.

    Args:
        field: the field's name, for messages.
        text: the text.
        kinds: the JSON types that the field has had; see `field_kinds`.

    Raises:
        TextError: the field has had nothing like it.
    """
    value = _parsed(text)
    if isinstance(value, str):
        # A text may have quotes around it, and they are part of it.
        value = _MISSING
    if value is None and "text" not in kinds:
        return None
    known = kinds - {"null"}
    if value is not _MISSING and value is not None and (not known or _is_like(value, known)):
        return value
    if not known or "text" in known:
        return text
    names = " and ".join(sorted({_NAMES[kind] for kind in known}))
    raise TextError(
        text,
        f"{field} has {names} in the log, and {text!r} is none: say {field}:=JSON to have any "
        f"value, as in {field}:={json.dumps(text, ensure_ascii=False)}",
    )


def from_json(text: str, place: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        TextError: it is none; with `place` in the message.
    """
    value = _parsed(text)
    if value is _MISSING:
        raise TextError(text, f"{place}: {text!r} is not JSON; a string needs double quotes")
    return value


def split_assignment(text: str) -> tuple[str, str, bool]:
    """Return the name and the text of `name=text` or `name:=json`, and whether it is JSON.

    Raises:
        TextError: it is neither.
    """
    name, sign, value = text.partition("=")
    is_json = name.endswith(":")
    name = name.removesuffix(":")
    if not sign or not name:
        raise TextError(text, f"{text!r} says no field: write name=value, or name:=JSON")
    return name, value, is_json


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _MISSING


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _is_like(value: Any, kinds: Set[str]) -> bool:
    checks: tuple[tuple[Callable[[Any], bool], Set[str]], ...] = (
        (lambda it: isinstance(it, bool), _BOOLEANS),
        (lambda it: isinstance(it, int | float), _NUMBERS),
        (lambda it: isinstance(it, list), frozenset({"array"})),
        (lambda it: isinstance(it, dict), frozenset({"object"})),
    )
    for is_one, wanted in checks:
        if is_one(value):
            return bool(kinds & wanted)
    return False
