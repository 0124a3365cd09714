"""Which number the records of mirrored tables have in this database, on the driver's cursor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from taskstore._cache.rows.driver import Statements
from taskstore._cache.schema.names import TableNames

_AT_ONCE = 500


class Pair(NamedTuple):
    """A record and its number.

    Attributes:
        id: Of the record.
        number: The key of its row.
        gone: Whether there is no such row, though others may refer to it.
        awaited: Whether a row here refers to the number, and none has had it yet.
    """

    id: str
    number: int
    gone: bool = False
    awaited: bool = False


class KeyRows(Statements):
    """Reads and writes the pairs of ids and numbers.

    Args:
        cursor: A cursor of the driver, in the transaction that is meant.
        models: Whose table is meant.
    """

    def __init__(self, cursor: Any, models: TableNames) -> None:
        super().__init__(cursor, models)

    def by_number(self, collection: str, numbers: Iterable[int]) -> dict[int, Pair]:
        """Return the pairs of some numbers."""
        return {pair.number: pair for pair in self._pairs(collection, "number", list(numbers))}

    def by_id(self, collection: str, ids: Iterable[str]) -> dict[str, Pair]:
        """Return the pairs of some ids."""
        return {pair.id: pair for pair in self._pairs(collection, "id", list(ids))}

    def _pairs(self, collection: str, column: str, values: Sequence[Any]) -> list[Pair]:
        found = []
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            found += self._read(
                f"SELECT id, number, gone, awaited FROM {self._mirror_keys} WHERE collection = ? "
                f"AND {column} IN ({','.join('?' * len(some))})",
                [collection, *some],
            )
        return [Pair(id, n, bool(gone), bool(awaited)) for id, n, gone, awaited in found]

    def span(self, collection: str) -> tuple[int, int]:
        """Return the smallest and the greatest number ever given, or 0 if there is none."""
        source = f"FROM {self._mirror_keys} WHERE collection = ?1"
        [(least, greatest)] = self._read(
            f"SELECT (SELECT min(number) {source}), (SELECT max(number) {source})", [collection]
        )
        return least or 0, greatest or 0

    def count(self, collection: str) -> int:
        """Return how many rows have an id."""
        [(count,)] = self._read(
            f"SELECT count(*) FROM {self._mirror_keys} WHERE collection = ? AND gone = 0",
            [collection],
        )
        return int(count)

    def put(self, collection: str, pairs: Iterable[Pair]) -> None:
        """Write pairs; others of the same ids or numbers make way."""
        self._write_many(
            f"INSERT OR REPLACE INTO {self._mirror_keys} (collection, id, number, gone, awaited) "
            "VALUES (?, ?, ?, ?, ?)",
            ((collection, *pair) for pair in pairs),
        )

    def leave(self, collection: str, ids: Iterable[str]) -> None:
        """Note that the rows of some ids are gone."""
        self._write_many(
            f"UPDATE {self._mirror_keys} SET gone = 1 WHERE collection = ? AND id = ?",
            ((collection, id) for id in ids),
        )

    def forget(self, collection: str, ids: Iterable[str]) -> None:
        """Remove the pairs of some ids."""
        self._write_many(
            f"DELETE FROM {self._mirror_keys} WHERE collection = ? AND id = ?",
            ((collection, id) for id in ids),
        )
