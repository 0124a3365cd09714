"""Compare a log with the database, in a temporary table."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    MetaData,
    Table,
    Text,
    and_,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from taskstore._format.fingerprint import Fingerprint
from taskstore._format.lines import decode_envelope, tombstone_line
from taskstore._log import files
from taskstore._log.files import access
from taskstore._log.replay import LogChangedError, Replay, replay
from taskstore._postgres.arrays import texts
from taskstore._postgres.cache import CacheTables
from taskstore._postgres.names import execute_sql
from taskstore._store.context import StoreContext
from taskstore.errors import StoreAccessError

_TABLE = Table(
    "taskstore_incoming",
    MetaData(),
    Column("id", Text),
    Column("line", Text),
    Column("updated_at_us", BigInteger),
    Column("dead", Boolean),
    Column("updated_at_text", Text),
    schema="pg_temp",
)

_COLUMNS = (
    "id text PRIMARY KEY, line text, updated_at_us bigint, dead boolean, updated_at_text text"
)


@attrs.define
class LogRead:
    """A log that was read.

    Attributes:
        replay: What was found; None where there is no log.
        fingerprint: Of the log; None where there is none.
        unusable: The ids that PostgreSQL cannot hold.
    """

    replay: Replay | None
    fingerprint: Fingerprint | None
    unusable: list[str]


@attrs.frozen
class Incoming:
    """One collection: the newest line of each record in its log, and what is stored."""

    store: StoreContext
    connection: Connection
    collection: str

    @property
    def _records(self) -> Any:
        return self.store.models.StoredRecord.__table__

    @property
    def _tombstones(self) -> Any:
        return self.store.models.Tombstone.__table__

    @contextmanager
    def loaded(self) -> Iterator[LogRead]:
        """A block in which the temporary table has what the log says.

        Raises:
            StoreAccessError: The log cannot be read.
        """
        # Left by a block that an error has ended, whose transaction is not over.
        execute_sql(self.connection, "DROP TABLE IF EXISTS pg_temp.taskstore_incoming")
        execute_sql(
            self.connection, f"CREATE TEMP TABLE taskstore_incoming ({_COLUMNS}) ON COMMIT DROP"
        )
        yield self._read()

    def _read(self) -> LogRead:
        path = self.store.layout.log_path(self.collection)
        if self.store.layout.stat_log(self.collection) is None:
            return LogRead(None, None, [])
        with access(path):
            try:
                fd = files.open_log(path)
            except FileNotFoundError:
                return LogRead(None, None, [])
            try:
                return self._replayed(fd)
            except LogChangedError as error:
                raise StoreAccessError(
                    path, operation="read", reason="it changes while it is read"
                ) from error
            finally:
                os.close(fd)

    def _replayed(self, fd: int) -> LogRead:
        before, now_ns = os.fstat(fd), time.time_ns()
        progress = self.store.on_progress
        found = replay(
            fd,
            collection=self.collection,
            path=str(self.store.layout.log_path(self.collection)),
            digest=self.store.digester.begin(),
            on_progress=None
            if progress is None
            else lambda done: progress(self.collection, done, before.st_size),
        )
        unusable = []
        cursor: Any = self.connection.connection.cursor()
        with cursor, cursor.copy("COPY pg_temp.taskstore_incoming FROM STDIN") as copy:
            for winner in found.winners(fd):
                if "\0" in winner.id:
                    unusable.append(winner.id)
                    continue
                text = _text_of(winner.line) if winner.deleted else None
                copy.write_row((winner.id, winner.line, winner.order_us, winner.deleted, text))
        fingerprint = Fingerprint.of(before, found, now_ns)
        if not fingerprint.matches(os.fstat(fd)):
            raise LogChangedError(self.collection)
        execute_sql(self.connection, "ANALYZE pg_temp.taskstore_incoming")
        return LogRead(found, fingerprint, unusable)

    def changed(
        self, again: Sequence[str] = (), *, everything: bool = False
    ) -> list[tuple[str, str, bool]]:
        """Return id and line of the live records that are not stored so, and whether any is.

        Args:
            again: Ids of records to return in any case.
            everything: Whether to return all.
        """
        records, incoming = self._records, _TABLE
        is_same = and_(records.c.collection == self.collection, records.c.id == incoming.c.id)
        rows = self.connection.execute(
            select(incoming.c.id, incoming.c.line, records.c.id.is_not(None))
            .select_from(incoming.outerjoin(records, is_same))
            .where(
                incoming.c.dead.is_(False),
                or_(
                    records.c.id.is_(None),
                    records.c.data_json != incoming.c.line,
                    records.c.updated_at_us != incoming.c.updated_at_us,
                    incoming.c.id == func.any(texts(again)),
                    literal(everything),
                ),
            )
        )
        return [(id, line, known) for id, line, known in rows]

    def gone(self) -> list[str]:
        """Return the ids of stored records that the log does not have, or has as dead."""
        records, incoming = self._records, _TABLE
        there = exists().where(incoming.c.id == records.c.id, incoming.c.dead.is_(False))
        rows = self.connection.execute(
            select(records.c.id).where(records.c.collection == self.collection, ~there)
        )
        return list(rows.scalars())

    def behind(self) -> list[bytes]:
        """Return the lines of what is stored and newer than the log says, oldest first."""
        found: list[tuple[int, bytes]] = []
        for table, column in ((self._records, "data_json"), (self._tombstones, "updated_at_text")):
            # Hidden records are only in the log of the other clone.
            known = [] if table is self._records else [table.c.revision.is_(None)]
            newer = exists().where(
                _TABLE.c.id == table.c.id, _TABLE.c.updated_at_us >= table.c.updated_at_us
            )
            rows = self.connection.execute(
                select(
                    table.c.id, table.c[column], table.c.updated_at, table.c.updated_at_us
                ).where(table.c.collection == self.collection, ~newer, *known)
            )
            for id, told, updated_at, order_us in rows:
                if table is self._records:
                    line = told.encode()
                else:
                    line = tombstone_line(id, updated_at if told is None else told)
                found.append((order_us, line))
        return [line for _, line in sorted(found)]

    def live(self) -> set[str]:
        """Return the ids that the log has as live."""
        rows = self.connection.execute(select(_TABLE.c.id).where(_TABLE.c.dead.is_(False)))
        return set(rows.scalars())

    def has_own_log(self) -> bool:
        """Return whether the log has a stored row as it is stored, or all stored rows.

        An id that both have is not enough: keys that people choose are the same in many projects.
        """
        records, incoming = self._records, _TABLE
        ours = records.c.collection == self.collection
        same_id = incoming.c.id == records.c.id
        equal = exists().where(same_id, incoming.c.updated_at_us == records.c.updated_at_us)
        found = self.connection.execute(select(records.c.id).where(ours, equal).limit(1))
        if found.first() is not None:
            return True
        absent = ~exists().where(same_id)
        lost = self.connection.execute(select(records.c.id).where(ours, absent).limit(1))
        held = self.connection.execute(select(records.c.id).where(ours).limit(1))
        return held.first() is not None and lost.first() is None

    def store_all(self, read: LogRead) -> None:
        """Replace the lines that the database has with those of the log."""
        incoming = _TABLE
        for table, column, dead in (
            (self._records, "data_json", False),
            (self._tombstones, "updated_at_text", True),
        ):
            kept = exists().where(incoming.c.id == table.c.id, incoming.c.dead.is_(dead))
            self.connection.execute(
                delete(table).where(table.c.collection == self.collection, ~kept)
            )
            shown = incoming.c.updated_at_text if dead else incoming.c.line
            names = ["collection", "id", column, "updated_at", "updated_at_us"]
            source = select(
                literal(self.collection, Text),
                incoming.c.id,
                shown,
                func.div(incoming.c.updated_at_us, 1000),
                incoming.c.updated_at_us,
            ).where(incoming.c.dead.is_(dead))
            statement = insert(table).from_select(names, source, include_defaults=False)
            values = {name: statement.excluded[name] for name in names[2:]}
            differs = or_(
                *(table.c[name].is_distinct_from(statement.excluded[name]) for name in names[2:])
            )
            self.connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["collection", "id"], set_=values, where=differs
                )
            )
        tables = CacheTables(self.connection, self.store.models)
        if read.fingerprint is not None:
            tables.put_fingerprint(self.collection, read.fingerprint, self.store.clock())
        else:
            metadata: Any = self.store.models.SyncMetadata.__table__
            self.connection.execute(
                delete(metadata).where(metadata.c.collection == self.collection)
            )


def _text_of(line: str) -> str | None:
    """The version of a tombstone, where it is text."""
    found = decode_envelope(line.encode()).updated_at
    return found if isinstance(found, str) else None
