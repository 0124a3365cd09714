"""Rebuilding the index rows of a collection with its record class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import attrs

from taskstore._cache.rows import Rows
from taskstore._records.indexing import index_rows
from taskstore._records.types import RecordCodec
from taskstore.errors import InvalidRecordError, RecordSkippedWarning

_NAMED = 3
"""How many misfits the warning names."""


def rebuild_indexes(codec: RecordCodec[Any], rows: Rows) -> int:
    """Structure every row with its class, and write the index rows of the collection anew.

    Where they are all as they should be, there is nothing to write.

    Args:
        codec: the record type.
        rows: in a write transaction.

    Returns:
        How many rows fit the class.
    """
    walk = _Walk(codec, rows)
    if not rows.has_index(codec.collection, walk.index_rows()):
        rows.rebuild_index(codec.collection)
    if walk.misfits:
        named = "; ".join(str(error) for error in walk.misfits)
        total = walk.indexed + walk.skipped
        warnings.warn(
            f"{walk.skipped} of {total} rows of {codec.collection!r} do not fit "
            f"{codec.name} and were skipped: {named}{'; ...' if walk.skipped > _NAMED else ''}",
            RecordSkippedWarning,
            stacklevel=3,
        )
    return walk.indexed


@attrs.define
class _Walk:
    """Goes through the rows of a collection once.

    Attributes:
        codec: the record type.
        rows: of the cache.
        indexed: how many rows fit the class.
        skipped: how many do not.
        misfits: what is wrong with the first of these.
    """

    codec: RecordCodec[Any]
    rows: Rows
    indexed: int = 0
    skipped: int = 0
    misfits: list[InvalidRecordError] = attrs.field(factory=list)

    def index_rows(self) -> Iterator[tuple[Any, ...]]:
        """Structure each row, and yield the index rows that its line should have."""
        collection = self.codec.collection
        indexed = self.rows.index_fields(collection)
        fields = [indexed[name] for name in sorted(indexed)]
        for id, line in self.rows.lines(collection):
            try:
                self.codec.decode(line)
            except InvalidRecordError as error:
                self._skip(error)
            else:
                self.indexed += 1
            for name, value in index_rows(fields, line):
                yield (id, name, *value)

    def _skip(self, error: InvalidRecordError) -> None:
        self.skipped += 1
        if len(self.misfits) < _NAMED:
            self.misfits.append(error)
