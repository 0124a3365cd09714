"""The lines of mirrored rows: new ones, and such that follow a line of the same record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from taskstore._format.lines import encode_value
from taskstore._mirror.model.shape import NUMBER, Field, Row

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_AS_THEY_ARE = frozenset({str, int, bool})
_ABSENT = object()


encoded = _encode
"""Encodes fields as one line, without newline."""


def encoded_row(row: Row, version: int | str) -> bytes:
    """Return the line of a row that has none yet, without newline.

    Raises:
        ValueError: JSON cannot carry a value. The message names the attribute.
    """
    found: dict[str, Any] = {"id": row.id}
    values = row.values
    for name, key, _, field in row.shape.parts:
        found[key] = new_value(name, field, values[name])
    if row.number is not None:
        found[NUMBER] = row.number
    found["updated_at"] = version
    return _encode(found)


def new_value(name: str, field: Field, value: Any) -> Any:
    """Return a value of a row as the encoder takes it for a line.

    Raises:
        ValueError: JSON cannot carry it. The message names the attribute.
    """
    if value is None or type(value) is field.codec.plain:
        # As SQLite gives it: text in UTF-8, integers of 64 bits.
        return value
    return msgspec.Raw(_raw(name, field, value))


def own_fields(line: str) -> dict[str, Any] | None:
    """Return the fields of a line; None where to encode them would not give the same line."""
    try:
        fields: dict[str, Any] = _decode(line)
        return fields if _encode(fields) == line.encode() else None
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None


def next_values(row: Row, previous: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a row's next line, as `next_fields` does, or `previous` itself.

    Args:
        row: The row.
        previous: What `own_fields` has made of its last line. It is not changed.

    Raises:
        ValueError: As `next_fields` does.
    """
    changed: dict[str, Any] = {}
    if previous.get("id") != row.id:
        changed["id"] = row.id
    values = row.values
    for name, key, _, field in row.shape.parts:
        before = previous.get(key, _ABSENT)
        value = changed_value(name, field, values[name], before, _ABSENT)
        if value is not _ABSENT:
            changed[key] = value
    return {**previous, **changed} if changed else previous


def changed_value(name: str, field: Field, value: Any, before: Any, same: Any) -> Any:
    """Return a value as the encoder takes it for the next line, or `same` if that has it.

    Args:
        name: The attribute.
        field: The field.
        value: What the row has.
        before: What the last line has, decoded; `same` for nothing.
        same: What to return then.

    Raises:
        ValueError: JSON cannot carry it. The message names the attribute.
    """
    kind = type(value)
    if type(before) is kind and (
        value is None or (kind is field.codec.plain and kind in _AS_THEY_ARE)
    ):
        return same if before == value else value
    raw = _raw(name, field, value)
    if _differs(field, value, raw, None if before is same else _encode(before)):
        return msgspec.Raw(raw)
    return same


def line_of_values(fields: dict[str, Any], version: int | str) -> bytes:
    """Return the line of what `next_values` has returned, without newline."""
    return _encode({**fields, "updated_at": version})


def next_fields(row: Row, previous: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the fields of a row's next line, with the bytes of all that has not changed.

    Args:
        row: The row. It may lack values that the last line has.
        previous: The fields of its last line; what the model does not know is kept, and so is the
            version.

    Raises:
        ValueError: JSON cannot carry a value. The message names the attribute.
    """
    found = dict(previous)
    if "id" not in found or _decode(found["id"]) != row.id:
        found["id"] = encode_value(row.id)
    for name, key, _, field in row.shape.parts:
        if name not in row.values:
            continue
        value = row.values[name]
        raw = _raw(name, field, value)
        if _differs(field, value, raw, previous.get(key)):
            found[key] = raw
    return found


def _raw(name: str, field: Field, value: Any) -> bytes:
    try:
        return field.codec.raw(value)
    except ValueError as error:
        raise ValueError(f"attribute {name!r}: {error}") from None


def _differs(field: Field, value: Any, raw: bytes, before: bytes | None) -> bool:
    """Return whether to take the value of a row: its bytes in the line differ or are missing."""
    if before is None:
        # A key that is absent and equal to its default is not added.
        return raw != field.default()
    return before != raw and not field.codec.keeps(before, value, raw)
