"""JSON values as the bytes they have in a line, and what they mean."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import msgspec

from taskstore._format.instants import parse_instant
from taskstore._format.lines import key_spellings

__all__ = [
    "UNSETTLED",
    "Rank",
    "Three",
    "Unsettled",
    "Value",
    "canonical",
    "decode",
    "instant",
    "is_list",
    "is_object",
    "join_items",
    "one_sided",
    "raw_items",
    "spellings",
]

Value = bytes | None
"""The JSON text of a value, as it stands in the line; None where the key is missing."""

Rank = tuple[int, ...]
"""How new a value is: the times, in microseconds, of its object and of those around that."""

decode: Final = msgspec.json.Decoder().decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), sort_keys=True, check_circular=False
).encode


class Unsettled:
    """The type of `UNSETTLED`."""


UNSETTLED: Final = Unsettled()
"""Both sides changed a value, and differently."""


class Three(NamedTuple):
    """One value in the base and on both sides."""

    base: Value
    first: Value
    second: Value


def canonical(value: Value) -> bytes:
    """Return one text for all ways to write a value; a missing one sorts before every other."""
    return b"" if value is None else _encode(decode(value)).encode()


def spellings(*objects: Value) -> dict[str, bytes]:
    """Return how objects spell those of their keys that they write with escapes."""
    found: dict[str, bytes] = {}
    for value in objects:
        for key, spelled in ({} if value is None else key_spellings(value)).items():
            # Of two spellings either will do, as long as it is the same for both sides.
            found[key] = max(spelled, found.get(key, b""))
    return found


def is_object(value: Value) -> bool:
    """Say whether a value is a JSON object."""
    return value is not None and value[:1] == b"{"


def is_list(value: Value) -> bool:
    """Say whether a value is a JSON list."""
    return value is not None and value[:1] == b"["


def raw_items(value: bytes) -> list[bytes]:
    """Return the texts of a list's elements."""
    return [bytes(item) for item in _decode_items(value)]


def join_items(items: list[bytes]) -> bytes:
    """Return the list of some elements, compactly."""
    return b"[%b]" % b",".join(items)


def instant(value: Value) -> int:
    """Return the order of an `updated_at`, in microseconds; 0 where it is missing or no time."""
    if value is None:
        return 0
    found: Any = decode(value)
    try:
        return parse_instant(found)
    except ValueError:
        return 0


def one_sided(three: Three) -> Value | Unsettled:
    """Return the value where at most one side changed it, or both to the same.

    A value that is written differently and means the same is unchanged, unless nothing else
    changed: then its new spelling is kept.
    """
    base, first, second = three
    if second in (first, base):
        return first
    if first == base:
        return second
    values = [None if value is None else decode(value) for value in three]
    if _mean_the_same(values[1], values[2], first, second):
        return max(first or b"", second or b"")
    if _mean_the_same(values[0], values[1], base, first):
        return second
    return first if _mean_the_same(values[0], values[2], base, second) else UNSETTLED


def _mean_the_same(value: Any, other: Any, raw: Value, other_raw: Value) -> bool:
    # Python's equality is quick, and holds of true, 1 and 1.0, and of null and nothing.
    return bool(value == other) and canonical(raw) == canonical(other_raw)
