"""The ids of rows that were there before their table was mirrored.

They follow from what a row holds, so that copies of one database give its rows the same ids.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from taskstore._mirror.model.shape import Mirror
from taskstore._mirror.tables.counted_rows import stored_values

_NUMBERS = 2**48


def adopted_ids(cursor: Any, mirror: Mirror, numbers: Iterable[int]) -> dict[int, str]:
    """Return the ids of rows of a counted table by their numbers.

    An id has the form of a UUIDv7, with the number where the time would be: adopted rows sort by
    their numbers, and before all that come later. A number that is negative, or beyond 48 bits,
    gives none. The version is no part of what a row holds.

    Args:
        cursor: Of the driver.
        mirror: Whose rows are meant.
        numbers: Of the rows.
    """
    wanted = [number for number in numbers if 0 <= number < _NUMBERS]
    held: dict[int, Any] = {}
    for table in dict.fromkeys(table for shape in mirror.shapes for table in shape.tables):
        columns = sorted(_columns(mirror, table), key=lambda column: str(column.name))
        for number, values in stored_values(cursor, mirror, table, columns, wanted):
            digest = held.setdefault(number, hashlib.sha256(_part(mirror.collection)))
            for column, (kind, value) in zip(columns, values, strict=True):
                digest.update(b"".join(map(_part, (table.name, column.name, kind, value))))
    return {number: _id(number, digest.digest()) for number, digest in held.items()}


def _columns(mirror: Mirror, table: Any) -> Iterator[Any]:
    own = mirror.key_fields[0]
    version = () if mirror.version is None else mirror.version.columns
    seen = {*own.columns, *version}
    for shape in mirror.shapes:
        for field in shape.fields.values():
            for column in field.columns:
                if column.table is table and column not in seen:
                    seen.add(column)
                    yield column


def _part(value: Any) -> bytes:
    """A value with its length, so that no two sequences of values look alike."""
    data = value if isinstance(value, bytes) else str(value).encode()
    return b"%d:%b" % (len(data), data)


def _id(number: int, digest: bytes) -> str:
    rest = int.from_bytes(digest[:10])
    high, low = rest >> 64 & 0xFFF, rest & (1 << 62) - 1
    return str(uuid.UUID(int=number << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low))
