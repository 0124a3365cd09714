"""Rebuilding the index rows of a collection with its record class."""

from __future__ import annotations

import warnings
from typing import Any

from taskstore._cache.rows import Rows
from taskstore._records.types import RecordCodec
from taskstore.errors import InvalidRecordError, RecordSkippedWarning

_NAMED = 3
"""How many misfits the warning names."""


def rebuild_indexes(codec: RecordCodec[Any], rows: Rows) -> int:
    """Structure every row with its class, and write all index rows of the collection anew.

    Args:
        codec: the record type.
        rows: in a write transaction.

    Returns:
        How many rows fit the class.
    """
    indexed = 0
    misfits: list[InvalidRecordError] = []
    skipped = 0
    for _, line in rows.lines(codec.collection):
        try:
            codec.decode(line)
        except InvalidRecordError as error:
            skipped += 1
            if len(misfits) < _NAMED:
                misfits.append(error)
        else:
            indexed += 1
    rows.rebuild_index(codec.collection)
    if misfits:
        named = "; ".join(str(error) for error in misfits)
        warnings.warn(
            f"{skipped} of {indexed + skipped} rows of {codec.collection!r} do not fit "
            f"{codec.name} and were skipped: {named}{'; ...' if skipped > _NAMED else ''}",
            RecordSkippedWarning,
            stacklevel=3,
        )
    return indexed
