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
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from taskstore._evolution.shape import Shape, with_stamp
from taskstore._format.fingerprint import Fingerprint
from taskstore._format.lines import REVISION_KEY, decode_envelope, decode_object, tombstone_line
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
    Column("hidden", Boolean),
    schema="pg_temp",
)

_LIVES: Any = or_(_TABLE.c.dead.is_(False), _TABLE.c.hidden)

_COLUMNS = (
    "id text PRIMARY KEY, line text, updated_at_us bigint, dead boolean, updated_at_text text, "
    "hidden boolean"
)


@attrs.define
class LogRead:
    """A log that was read.

    Attributes:
        replay: What was found; None where there is no log.
        fingerprint: Of the log; None where there is none.
        unusable: The ids that PostgreSQL cannot hold.
        hidden: Why records are not read that live in a newer shape, by id.
    """

    replay: Replay | None
    fingerprint: Fingerprint | None
    unusable: list[str]
    hidden: dict[str, str] = attrs.field(factory=dict)


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
        shape = self.store.shapes.of(self.collection)
        found = replay(
            fd,
            collection=self.collection,
            path=str(self.store.layout.log_path(self.collection)),
            digest=self.store.digester.begin(),
            lacks=shape.lacks,
            on_progress=None
            if progress is None
            else lambda done: progress(self.collection, done, before.st_size),
        )
        unusable: list[str] = []
        hidden: dict[str, str] = {}
        cursor: Any = self.connection.connection.cursor()
        with cursor, cursor.copy("COPY pg_temp.taskstore_incoming FROM STDIN") as copy:
            for id, order_us, is_dead, line in shape.winners(
                found.winners(fd), marked=found.marked
            ):
                if "\0" in id:
                    unusable.append(id)
                    continue
                text = None
                if is_dead:
                    text, is_tombstone = _facts_of(line)
                    if not is_tombstone:
                        hidden[id] = _why_hidden(shape, line)
                copy.write_row((id, line, order_us, is_dead, text, id in hidden))
        fingerprint = Fingerprint.of(before, found, now_ns, shape.signature)
        if not fingerprint.matches(os.fstat(fd)):
            raise LogChangedError(self.collection)
        execute_sql(self.connection, "ANALYZE pg_temp.taskstore_incoming")
        return LogRead(found, fingerprint, unusable, hidden)

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
        there = exists().where(incoming.c.id == records.c.id, _LIVES)
        rows = self.connection.execute(
            select(records.c.id).where(records.c.collection == self.collection, ~there)
        )
        return list(rows.scalars())

    def behind(self) -> list[bytes]:
        """Return the lines of what is stored and newer than the log says, oldest first."""
        found: list[tuple[int, bytes]] = []
        recorded = CacheTables(self.connection, self.store.models).recorded()
        signature = recorded.shapes.get(self.collection, "")
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
                    line = with_stamp(told, signature).encode()
                else:
                    line = tombstone_line(id, updated_at if told is None else told)
                found.append((order_us, line))
        return [line for _, line in sorted(found)]

    def bury_hidden(self) -> None:
        """Take records that live in a newer shape for dead ones, which are not served."""
        values = {"hidden": False}
        self.connection.execute(update(_TABLE).where(_TABLE.c.hidden).values(values))

    def live(self) -> set[str]:
        """Return the ids that the log has as live."""
        rows = self.connection.execute(select(_TABLE.c.id).where(_LIVES))
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
        """Replace the lines that the database has with those of the log.

        A record whose newest line is hidden keeps what it has.
        """
        incoming = _TABLE
        for table, column, dead in (
            (self._records, "data_json", False),
            (self._tombstones, "updated_at_text", True),
        ):
            stays = or_(incoming.c.dead.is_(dead), incoming.c.hidden)
            kept = exists().where(incoming.c.id == table.c.id, stays)
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
            ).where(incoming.c.dead.is_(dead), incoming.c.hidden.is_(False))
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


def _facts_of(line: str) -> tuple[str | None, bool]:
    """Return the version of a line, where it is text, and whether the line is a tombstone."""
    found = decode_envelope(line.encode())
    told = found.updated_at
    return told if isinstance(told, str) else None, found.deleted


def _why_hidden(shape: Shape, line: str) -> str:
    found = decode_object(line).get(REVISION_KEY)
    return shape.lacks(found) or "it would be longer than 16 MiB in the shape of its table"
