"""Writes the store's own records, and their lines into the outbox.

A call locks the rows, and then decides what to write with the same code as on SQLite. It writes the
table and the outbox in one transaction, so the table always has what the log and the outbox after
it say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from sqlalchemy import Text, cast, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError

from taskstore._cache.rows.records import Stored
from taskstore._cache.schema.models import Models
from taskstore._postgres.cache import CacheTables
from taskstore._postgres.names import Outbox, execute_sql
from taskstore._records.ids import now_ms
from taskstore._records.indexing import IndexField
from taskstore._records.versions import Claim
from taskstore._unit.changes import Key
from taskstore._unit.versions import Version
from taskstore._unit.writing import Writer
from taskstore.errors import InvalidIdError, InvalidRecordError, UntrackedWriteError

_SUSPECT = re.compile(r"\\u(0000|[dD][89a-fA-F])")
_NOW_MS = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"


class RacedError(Exception):
    """Another transaction created a record with the same id after this one had looked for it."""


@attrs.define
class OutboxRows:
    """The tables of records, as a `Writer` needs them.

    Attributes:
        connection: In the transaction.
        models: The models of the tables.
        outbox: The outbox, where lines wait for the log.
        clock: Returns the time that versions get, in milliseconds since the epoch; by default,
            the database's clock is used.
        now_ms: The time after the last rows were locked.
    """

    connection: Connection
    models: Models
    outbox: Outbox
    clock: Callable[[], int]
    now_ms: int = 0
    _before: dict[str, Stored] = attrs.field(factory=dict)

    @property
    def _tables(self) -> CacheTables:
        return CacheTables(self.connection, self.models)

    def stored(self, collection: str, ids: Sequence[str]) -> dict[str, Stored]:
        """Lock the rows of some ids, and return what is stored of them.

        Raises:
            InvalidIdError: PostgreSQL cannot hold an id.
        """
        for id in ids:
            if "\0" in id:
                raise InvalidIdError(
                    id, collection=collection, reason="PostgreSQL has no NUL in text"
                )
        self._before = self._tables.locked(collection, ids)
        if self.clock is now_ms:
            self.now_ms = int(self.connection.exec_driver_sql(_NOW_MS).scalar_one())
        else:
            self.now_ms = self.clock()
        return dict(self._before)

    def replace(
        self, collection: str, rows: Sequence[tuple[str, str, int, int]], *, new: bool = False
    ) -> None:
        """Write live records: id, line, and version in ms and in us.

        Raises:
            RacedError: A record that should be new exists, or existed and was deleted: its
                tombstone may be newer than the line.
            InvalidRecordError: PostgreSQL cannot hold a line.
        """
        for id, line, _, _ in rows:
            if _SUSPECT.search(line) is not None:
                self._check_text(collection, id, line)
        stored = {id: Stored(line, order_us) for id, line, _, order_us in rows}
        if not new:
            self._tables.put(collection, stored, self._before)
        elif self._tables.add(collection, stored) < len(stored) or self._tables.has_dead(
            collection, stored
        ):
            raise RacedError

    def _check_text(self, collection: str, id: str, line: str) -> None:
        try:
            with self.connection.begin_nested():
                self.connection.execute(select(cast(literal(line, Text), JSONB))).one()
        except DataError as error:
            raise InvalidRecordError(
                collection=collection,
                id=id,
                reason=f"PostgreSQL cannot hold its text: {str(error.orig).splitlines()[0]}",
            ) from None

    def set_tombstones(
        self, collection: str, tombstones: Iterable[tuple[str, int, int, str | None]]
    ) -> None:
        """Replace live records by tombstones: id, version in ms and in us, and its text."""
        stored = {id: Stored(None, order_us, told) for id, _, order_us, told in tombstones}
        self._tables.put(collection, stored, self._before)

    def lines(self, collection: str) -> Iterator[tuple[str, str]]:
        """Yield id and line of every live record."""
        for id, (line, _) in self._tables.lines(collection).items():
            yield id, line

    def all_index_fields(self) -> Mapping[str, Mapping[str, IndexField]]:
        """Return none: filters read the lines."""
        return {}

    def index_fields(self, collection: str) -> dict[str, IndexField]:
        """Return none: filters read the lines."""
        return {}

    def has_index(self, collection: str, wanted: Iterable[Any]) -> bool:
        """Return whether no index rows are wanted, because there are none."""
        return not list(wanted)

    def put_outbox(self, lines: Sequence[tuple[Key, bytes, bool]]) -> None:
        """Put lines into the outbox, in their order: key, line, and whether it is a tombstone."""
        if not lines:
            return
        columns: list[tuple[str, list[Any]]] = [
            ("text", [key[0] for key, _, _ in lines]),
            ("boolean", [is_dead for _, _, is_dead in lines]),
            ("text", [line.decode() for _, line, _ in lines]),
            ("text", [key[1] for key, _, _ in lines]),
        ]
        arrays = ", ".join(f"%s::{kind}[]" for kind, _ in columns)
        self.connection.exec_driver_sql(
            f"INSERT INTO {self.outbox.table.replace('%', '%%')} "
            "(collection, deleted, content, id) "
            "SELECT collection, deleted, content::json, id FROM "
            f"unnest({arrays}) WITH ORDINALITY AS l(collection, deleted, content, id, place) "
            "ORDER BY place",
            tuple(values for _, values in columns),
        )


@attrs.define
class PendingLines:
    """The lines of one call, and what to do if its transaction is rolled back.

    Attributes:
        undo: Takes a function that restores stamped records, for a rollback.
        lines: Key, line, and whether it is a tombstone.
    """

    undo: Callable[[Callable[[], None]], None]
    lines: list[tuple[Key, bytes, bool]] = attrs.field(factory=list)

    def put(self, key: Key, line: bytes) -> None:
        """Note a tombstone."""
        self.lines.append((key, line, True))

    def put_all(self, lines: Mapping[Key, bytes]) -> None:
        """Note the lines of live records."""
        self.lines += [(key, line, False) for key, line in lines.items()]

    def mark_born(self, keys: Iterable[Key]) -> None:
        """Do nothing: a record that is created and deleted at once gets a tombstone."""

    def is_born(self, key: Key) -> bool:
        """Return False; see `mark_born`."""
        return False

    def on_undo(self, restore: Callable[[], None]) -> None:
        """Call a function if the transaction is rolled back."""
        self.undo(restore)


class OutboxWriter(Writer):
    """Writes records of one collection, stamped with the database's clock under their locks."""

    def _version(self, claim: Claim | None, id: str, stored: Stored | None) -> Version:
        self.now_ms = self.rows.now_ms  # type: ignore[attr-defined]
        return super()._version(claim, id, stored)


def check_transactional(connection: Connection, operation: str) -> None:
    """Raise if each statement commits by itself, because a line could miss its record.

    Raises:
        UntrackedWriteError: The engine is in AUTOCOMMIT mode.
    """
    if is_autocommit(connection):
        raise UntrackedWriteError(
            statement=f"a call to {operation} in AUTOCOMMIT mode",
            remedy="open the store with an engine whose connections have transactions, such as "
            'engine.execution_options(isolation_level="READ COMMITTED")',
        )


def is_autocommit(connection: Connection) -> bool:
    """Return whether each statement on a connection commits by itself."""
    driver: Any = connection.connection.driver_connection
    return bool(driver.autocommit)


def own_lines(connection: Connection, outbox: Outbox, end: int) -> dict[str, list[bytes]]:
    """Return the lines of the store's own records in a batch, by collection and oldest first.

    If a transaction has written a record several times, only the last line counts.

    Args:
        connection: In the transaction of the batch.
        outbox: The outbox. Its other rows come from triggers, and have no id yet.
        end: The last number of the batch.
    """
    rows = execute_sql(
        connection,
        "SELECT collection, line FROM (SELECT seq, collection, content::text AS line, "
        f"max(seq) OVER (PARTITION BY xid, collection, id) AS last FROM {outbox.table} "
        f"WHERE problem IS NULL AND id IS NOT NULL AND seq <= {end}) own "
        "WHERE seq = last ORDER BY seq",
    )
    found: dict[str, list[bytes]] = {}
    for collection, line in rows:
        found.setdefault(collection, []).append(line.encode())
    return found
