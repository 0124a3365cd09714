"""The lines of mirrored rows: new ones, and such that follow a line of the same record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from taskstore._format.lines import encode_value
from taskstore._mirror.model.shape import NUMBER, Row

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_ENCODED_AS_THEY_ARE = (str, int)


def encoded_row(row: Row, version: int | str) -> bytes:
    """Return the line of a row that has none yet, without newline.

    Raises:
        ValueError: JSON cannot carry a value. The message names the attribute.
    """
    found: dict[str, Any] = {"id": row.id}
    for name, field in row.shape.fields.items():
        key = field.key
        if key == "id" or field.is_own:
            continue
        value = row.values[name]
        kind = type(value)
        if value is None or kind is field.codec.plain:
            # As SQLite gives it: text in UTF-8, integers of 64 bits.
            found[key] = value
            continue
        try:
            found[key] = msgspec.Raw(field.codec.raw(value))
        except ValueError as error:
            raise ValueError(f"attribute {name!r}: {error}") from None
    if row.number is not None:
        found[NUMBER] = row.number
    found["updated_at"] = version
    return _encode(found)


def next_fields(row: Row, previous: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the fields of a row's next line, with the bytes of all that has not changed.

    Args:
        row: The row.
        previous: The fields of its last line; what the model does not know is kept, and so is the
            version.

    Raises:
        ValueError: JSON cannot carry a value. The message names the attribute.
    """
    found = dict(previous)
    if "id" not in found or _decode(found["id"]) != row.id:
        found["id"] = encode_value(row.id)
    for name, field in row.shape.fields.items():
        key = field.key
        if key == "id" or field.is_own:
            continue
        codec, value = field.codec, row.values[name]
        kind = type(value)
        if kind in _ENCODED_AS_THEY_ARE and kind is codec.plain:
            # As SQLite gives it: text in UTF-8, integers of 64 bits.
            raw = _encode(value)
        else:
            try:
                raw = codec.raw(value)
            except ValueError as error:
                raise ValueError(f"attribute {name!r}: {error}") from None
        before = previous.get(key)
        if before == raw:
            continue
        if before is None:
            # A key that is absent and equal to its default is not added.
            if raw != field.default():
                found[key] = raw
            continue
        if not codec.keeps(before, value, raw):
            found[key] = raw
    return found
