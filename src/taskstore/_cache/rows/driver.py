"""SQL for the driver's own cursor, below SQLAlchemy, for work on a million rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import Any, TypeVar

from taskstore._cache.engine.permission import is_permitted, permitted
from taskstore._cache.schema.names import TableNames, quoted, quoted_names

CHUNK_ROWS = 1000
"""How many rows are held in memory at a time, at most."""

CHUNK_BYTES = 8 * 1024 * 1024
"""How many characters of lines are held in memory at a time, except for a single longer line."""

_IDS_PER_SELECT = 200
_MANY_ROWS = 500
"""From here on it takes less time to make triggers again than to pass over each row."""

Row = TypeVar("Row", bound=tuple[Any, ...])


def chunked(rows: Iterable[Row], line: int, size: int = CHUNK_ROWS) -> Iterator[list[Row]]:
    """Yield lists of rows, bounded in number and in the length of the text in column `line`."""
    chunk: list[Row] = []
    length = 0
    for row in rows:
        chunk.append(row)
        length += len(row[line] or "")
        if len(chunk) >= size or length >= CHUNK_BYTES:
            yield chunk
            chunk, length = [], 0
    if chunk:
        yield chunk


class Statements:
    """Runs statements on the tables of one cache, in the transaction of a driver's cursor."""

    def __init__(self, cursor: Any, models: TableNames) -> None:
        self._cursor = cursor
        self._driver = cursor.connection
        self._models = models
        (
            self._records,
            self._indexes,
            self._fields,
            self._metadata,
            self._tombstones,
            self._mirror_problems,
            self._mirror_states,
            self._mirror_keys,
            self._evolutions,
        ) = quoted_names(models.prefix)

    def revisions(self) -> list[str]:
        """Return the revisions of the schema that the database says it has: one."""
        table = quoted(self._models.version_table)
        return [name for (name,) in self._read(f"SELECT version_num FROM {table}")]

    def lock(self) -> None:
        """Make the open transaction a writer, waiting for the database's lock if need be.

        Raises:
            sqlite3.OperationalError: The lock was not to be had; at once, where the transaction
                has read and another has written since.
        """
        if self._driver.in_transaction:
            # It changes nothing, but takes the lock.
            self._write(f"DELETE FROM {self._metadata} WHERE 0")
        else:
            self._cursor.execute("BEGIN IMMEDIATE")

    def savepoint(self) -> None:
        """Open a savepoint, to be closed by `release` or undone by `revert`."""
        self._cursor.execute("SAVEPOINT taskstore_attempt")

    def release(self) -> None:
        """Keep what was done since the savepoint."""
        self._cursor.execute("RELEASE taskstore_attempt")

    def revert(self) -> None:
        """Undo what was done since the savepoint, and close it."""
        self._cursor.execute("ROLLBACK TO taskstore_attempt")
        self.release()

    def _read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._cursor.execute(sql, parameters).fetchall()
        return rows

    def _write(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        if is_permitted(self._driver):
            self._cursor.execute(sql, parameters)
        else:
            with permitted(self._driver, self._models.record_table):
                self._cursor.execute(sql, parameters)
        return int(self._cursor.rowcount)

    def _write_many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        with permitted(self._driver, self._models.record_table):
            self._cursor.executemany(sql, parameters)

    def _read_ids(self, sql: str, collection: str, ids: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Run a SELECT that ends in `id IN` for some ids at a time."""
        for start in range(0, len(ids), _IDS_PER_SELECT):
            some = ids[start : start + _IDS_PER_SELECT]
            yield from self._read(f"{sql} ({','.join('?' * len(some))})", [collection, *some])

    def _write_ids(self, sql: str, collection: str, ids: Sequence[str]) -> None:
        """Run a statement that ends in `id IN` for some ids at a time."""
        for start in range(0, len(ids), _IDS_PER_SELECT):
            some = ids[start : start + _IDS_PER_SELECT]
            self._write(f"{sql} ({','.join('?' * len(some))})", [collection, *some])

    def _pages(self, sql: str, collection: str) -> Iterator[list[tuple[Any, ...]]]:
        """Yield pages of a SELECT of (id, line, ...) that ends in `id > ? ORDER BY id`.

        No statement is open between two pages, so that the tables may be changed meanwhile.
        """
        after = ""
        while True:
            cursor = self._driver.cursor()
            found = cursor.execute(sql, (collection, after))
            page = next(chunked(found, 1), None)
            cursor.close()
            if page is None:
                return
            yield page
            after = page[-1][0]

    def writing_many(self, count: int, table: str | None = None) -> AbstractContextManager[None]:
        """Return a block in which many rows are written, and none of our triggers runs.

        An exception in it must end in a rollback of the transaction, which restores them.

        Args:
            count: How many rows.
            table: The name of the table; None for that of records.
        """
        if count < _MANY_ROWS:
            return nullcontext()
        return self._without_triggers(self._records if table is None else quoted(table))

    @contextmanager
    def _in_bulk(self, table: str, *, worth: bool) -> Iterator[None]:
        """Drop a table's secondary indexes and our triggers around a load, and make them again."""
        if not worth:
            yield
            return
        with self._without_triggers(table):
            dropped = self._drop_indexes(table)
            yield
            for statement in dropped:
                self._write(statement)

    @contextmanager
    def _without_triggers(self, table: str) -> Iterator[None]:
        """Drop the triggers that note changes, which would pass over each row, and restore them."""
        found = self._read(
            "SELECT name, sql FROM sqlite_temp_master WHERE type = 'trigger' "
            f"AND tbl_name = ? AND substr(name, 1, {len(NOTING)}) = '{NOTING}'",
            (table.strip('"').replace('""', '"'),),
        )
        for name, _ in found:
            self._write(f"DROP TRIGGER temp.{quoted(name)}")
        yield
        for _, sql in found:
            # SQLite keeps the statements without the word.
            self._write(sql.replace("CREATE TRIGGER", "CREATE TEMP TRIGGER", 1))

    def _drop_indexes(self, table: str) -> list[str]:
        found = self._read(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
            "AND tbl_name = ?",
            (table.strip('"').replace('""', '"'),),
        )
        dropped = []
        for name, statement in found:
            try:
                self._write(f"DROP INDEX {quoted(name)}")
            except sqlite3.OperationalError:
                # Somebody reads on this very connection: the load is slower, that is all.
                break
            dropped.append(statement)
        return dropped


NOTING = "taskstore_notes_"
"""The prefix of the names of triggers that note changed rows."""


def peeked(rows: Iterator[Row], line: int) -> tuple[list[Row], bool]:
    """Return the first rows, and whether they are so many that a load counts as big."""
    first: list[Row] = []
    length = 0
    for row in islice(rows, CHUNK_ROWS * 5):
        first.append(row)
        length += len(row[line] or "")
        if length >= CHUNK_BYTES:
            return first, True
    return first, len(first) == CHUNK_ROWS * 5
