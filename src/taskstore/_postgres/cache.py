"""What the database has of the logs: the last line of each record, and the fingerprints."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs
from sqlalchemy import (
    Text,
    delete,
    func,
    literal,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from taskstore._cache.evolution.fingerprint_rows import State
from taskstore._cache.rows.records import Stored
from taskstore._cache.schema.models import Models
from taskstore._evolution.shape import UNKNOWN
from taskstore._format.fingerprint import Fingerprint
from taskstore._postgres.arrays import integers, texts
from taskstore._postgres.names import quoted_table

_UNSIGNED, _SIGNED = 2**64, 2**63
_FACTS = ("size", "mtime_ns", "ctime_ns", "inode", "digest", "lines", "problems", "ended", "racy")
_OLD = "there"

HIDDEN = "unreadable"
"""The revision of a tombstone whose record is live in the log, but cannot be stored here."""


@attrs.frozen
class Recorded:
    """What a database records of the shapes of its collections.

    Attributes:
        evolutions: Those that migrations have applied or reverted, by collection.
        shapes: The signature of the shape in which lines are stored, by collection.
        hidden: The mirrored records whose newest line is of a newer revision, by collection.
        tables: For each collection whose table was there when a store was opened, or whose
            evolution a migration has stated, what is noted of it.
    """

    evolutions: dict[str, list[State]] = attrs.field(factory=dict)
    shapes: dict[str, str] = attrs.field(factory=dict)
    tables: dict[str, str] = attrs.field(factory=dict)
    hidden: dict[str, set[str]] = attrs.field(factory=dict)


@attrs.frozen
class CacheTables:
    """Reads and writes our tables on a connection, in its transaction."""

    connection: Connection
    models: Models

    @property
    def records(self) -> Any:
        """The table of live records."""
        return self.models.StoredRecord.__table__

    @property
    def tombstones(self) -> Any:
        """The table of dead ones."""
        return self.models.Tombstone.__table__

    def stored(self, collection: str, ids: Sequence[str]) -> dict[str, Stored]:
        """Return what is stored of some records, by id."""
        records, tombstones = self.records, self.tombstones
        wanted = texts(ids)
        statement = union_all(
            select(records.c.id, records.c.data_json, records.c.updated_at_us, literal(True)).where(
                records.c.collection == collection, records.c.id == func.any(wanted)
            ),
            select(
                tombstones.c.id,
                tombstones.c.updated_at_text,
                tombstones.c.updated_at_us,
                literal(False),
            ).where(tombstones.c.collection == collection, tombstones.c.id == func.any(wanted)),
        )
        return {
            id: Stored(told, order_us) if is_live else Stored(None, order_us, told)
            for id, told, order_us, is_live in self.connection.execute(statement)
        }

    def locked(self, collection: str, ids: Sequence[str]) -> dict[str, Stored]:
        """Lock the rows of some records, live or dead, and return what is stored, by id.

        A record that dies meanwhile is seen by the second statement, whose snapshot is newer.
        """
        found = {}
        for table in (self.records, self.tombstones):
            statement = (
                select(table.c.id, table.c[self._told(table)], table.c.updated_at_us)
                .where(table.c.collection == collection, table.c.id == func.any(texts(ids)))
                .order_by(table.c.id)
                .with_for_update()
            )
            for id, told, order_us in self.connection.execute(statement):
                is_live = table is self.records
                found[id] = Stored(told, order_us) if is_live else Stored(None, order_us, told)
        return found

    def add(self, collection: str, stored: Mapping[str, Stored]) -> int:
        """Insert live records, and return how many were not there yet."""
        statement = self._insert(self.records, collection, stored)
        statement = statement.on_conflict_do_nothing().returning(self.records.c.id)
        return len(self.connection.execute(statement).all())

    def has_dead(self, collection: str, ids: Collection[str]) -> bool:
        """Return whether any of some records has a tombstone.

        If the snapshot of the transaction lacks it, PostgreSQL raises a serialization failure.
        """
        table = self.tombstones
        # As text, because each create asks.
        isolation, found = self.connection.exec_driver_sql(
            "SELECT current_setting('transaction_isolation'), EXISTS (SELECT FROM "
            f"{quoted_table(table, self.connection.dialect).replace('%', '%%')} "
            "WHERE collection = %s AND id = ANY(%s::text[]))",
            (collection, list(ids)),
        ).one()
        if not found and isolation != "read committed":
            # Only the unique index knows what came after the snapshot.
            trial = {id: Stored(None, 0, None) for id in ids}
            insertion = self._insert(table, collection, trial).on_conflict_do_nothing()
            self.connection.execute(insertion)
            self._delete(table, collection, ids)
        return bool(found)

    def put(
        self, collection: str, stored: Mapping[str, Stored], before: Mapping[str, Stored]
    ) -> None:
        """Record the last lines of some records.

        Args:
            collection: Theirs.
            stored: What is to be stored.
            before: What was.
        """
        live = {id: one for id, one in stored.items() if one.line is not None}
        dead = {id: one for id, one in stored.items() if one.line is None}
        for table, some in ((self.records, live), (self.tombstones, dead)):
            if some:
                self._upsert(table, collection, some)
        born = [id for id in live if id in before and before[id].deleted]
        died = [id for id in dead if id in before and not before[id].deleted]
        for table, ids in ((self.tombstones, born), (self.records, died)):
            if ids:
                self._delete(table, collection, ids)

    def mark_hidden(self, collection: str, ids: Iterable[str]) -> None:
        """Mark tombstones of records that are live in the log, but cannot be stored here."""
        table = self.tombstones
        self.connection.execute(
            update(table)
            .where(table.c.collection == collection, table.c.id == func.any(texts(ids)))
            .values(revision=HIDDEN)
        )

    def _upsert(self, table: Any, collection: str, stored: Mapping[str, Stored]) -> None:
        statement = self._insert(table, collection, stored)
        self.connection.execute(
            statement.on_conflict_do_update(
                index_elements=["collection", "id"],
                set_={
                    column: statement.excluded[column]
                    for column in (self._told(table), "updated_at", "updated_at_us")
                },
            )
        )

    def _insert(self, table: Any, collection: str, stored: Mapping[str, Stored]) -> Any:
        some = stored.values()
        is_live = table is self.records
        # One statement for any number of rows.
        source = select(
            literal(collection, Text),
            func.unnest(texts(stored)),
            func.unnest(texts(one.line if is_live else one.updated_at_text for one in some)),
            func.unnest(integers(one.order_us // 1000 for one in some)),
            func.unnest(integers(one.order_us for one in some)),
        )
        columns = ["collection", "id", self._told(table), "updated_at", "updated_at_us"]
        return insert(table).from_select(columns, source, include_defaults=False)

    def _told(self, table: Any) -> str:
        """Return the column for the line of a live record, or for the version of a dead one."""
        return "data_json" if table is self.records else "updated_at_text"

    def _delete(self, table: Any, collection: str, ids: Iterable[str]) -> None:
        self.connection.execute(
            delete(table).where(
                table.c.collection == collection, table.c.id == func.any(texts(ids))
            )
        )

    def replace(self, collection: str, stored: Mapping[str, Stored], lost: Iterable[str]) -> None:
        """Write the lines of live records in another shape, and drop others."""
        if stored:
            self._upsert(self.records, collection, stored)
        self._delete(self.records, collection, lost)

    def lines(self, collection: str) -> dict[str, tuple[str, int]]:
        """Return line and order, in microseconds, of each live record of a collection."""
        table = self.records
        rows = self.connection.execute(
            select(table.c.id, table.c.data_json, table.c.updated_at_us).where(
                table.c.collection == collection
            )
        )
        return {id: (line, order_us) for id, line, order_us in rows}

    def count(self, collection: str) -> tuple[int, int]:
        """Return how many live and dead records are stored of a collection."""
        live, dead = (
            self.connection.execute(
                select(func.count()).select_from(table).where(table.c.collection == collection)
            ).scalar_one()
            for table in (self.records, self.tombstones)
        )
        return live, dead

    def forget(self, collection: str) -> None:
        """Drop everything that is stored of a collection, its fingerprint too."""
        metadata: Any = self.models.SyncMetadata.__table__
        for table in (self.records, self.tombstones, metadata):
            self.connection.execute(delete(table).where(table.c.collection == collection))

    def collections(self) -> set[str]:
        """Return the collections whose logs were read or written."""
        table: Any = self.models.SyncMetadata.__table__
        return set(self.connection.execute(select(table.c.collection)).scalars())

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Return what was recorded of every log that was read or written."""
        table: Any = self.models.SyncMetadata.__table__
        columns = [table.c.collection, table.c.shape, *(table.c[name] for name in _FACTS)]
        found = {}
        for collection, shape, *facts in self.connection.execute(select(*columns)):
            if None not in facts:
                known = dict(zip(_FACTS, facts, strict=True))
                known |= {"inode": known["inode"] % _UNSIGNED, "shape": shape or ""}
                found[collection] = Fingerprint(**known)
        return found

    def set_shape(self, collection: str, signature: str) -> None:
        """Record in which shape the lines of a collection are stored."""
        table: Any = self.models.SyncMetadata.__table__
        place = table.c.collection == collection
        self.connection.execute(update(table).where(place).values(shape=signature))

    def recorded(self) -> Recorded:
        """Return what is recorded of shapes."""
        evolutions: Any = self.models.LogEvolution.__table__
        metadata: Any = self.models.SyncMetadata.__table__
        states: Any = self.models.MirrorState.__table__
        problems: Any = self.models.MirrorProblem.__table__
        nothing, yes = literal(""), literal(True)
        found = Recorded()
        # One statement, because each drain asks.
        statement = union_all(
            select(
                literal(0),
                evolutions.c.collection,
                evolutions.c.revision,
                evolutions.c.line,
                evolutions.c.applied,
            ),
            select(literal(1), metadata.c.collection, metadata.c.shape, nothing, yes),
            select(literal(2), states.c.collection, states.c.digest, nothing, yes),
            select(literal(3), problems.c.collection, problems.c.id, nothing, yes).where(
                problems.c.reason.startswith(UNKNOWN)
            ),
        )
        for kind, collection, told, line, applied in self.connection.execute(statement):
            if kind == 0:
                found.evolutions.setdefault(collection, []).append(State(told, line, applied))
            elif kind == 1:
                found.shapes[collection] = told or ""
            elif kind == 2:
                found.tables[collection] = told
            else:
                found.hidden.setdefault(collection, set()).add(told)
        return found

    def note_tables(self, collections: Iterable[str]) -> None:
        """Record that the tables of some collections are there."""
        rows = [{"collection": name, "digest": _OLD} for name in collections]
        statement = insert(self.models.MirrorState).on_conflict_do_nothing()
        self.connection.execute(statement, rows)

    def note_evolutions(self, collection: str, states: Iterable[State]) -> None:
        """Record the evolutions of a collection, unless another process has done so."""
        rows = [{"collection": collection, **state._asdict()} for state in states]
        statement = insert(self.models.LogEvolution).on_conflict_do_nothing()
        self.connection.execute(statement, rows)

    def ids(self, collection: str) -> list[str]:
        """Return the ids of the live records that are stored of a collection."""
        table = self.records
        found = select(table.c.id).where(table.c.collection == collection).order_by(table.c.id)
        return list(self.connection.execute(found).scalars())

    def put_fingerprint(self, collection: str, fingerprint: Fingerprint, now_ms: int) -> None:
        """Record what was read of a collection's log, and when (ms since the epoch)."""
        values = {name: getattr(fingerprint, name) for name in _FACTS}
        inode = fingerprint.inode
        values["inode"] = inode if inode < _SIGNED else inode - _UNSIGNED
        values |= {
            "last_sync_time": now_ms,
            "file_mtime": fingerprint.mtime_ns // 1_000_000_000,
            "shape": fingerprint.shape,
        }
        statement = insert(self.models.SyncMetadata).values(collection=collection, **values)
        self.connection.execute(
            statement.on_conflict_do_update(index_elements=["collection"], set_=values)
        )

    def refusals(self, collection: str) -> dict[str, str]:
        """Return why records of a collection are not in their table as the log has them."""
        table: Any = self.models.MirrorProblem.__table__
        rows = self.connection.execute(
            select(table.c.id, table.c.reason).where(table.c.collection == collection)
        )
        return {row[0]: row[1] for row in rows}

    def put_refusals(self, collection: str, reasons: Mapping[str, str]) -> None:
        """Record that, in place of what was recorded before."""
        table: Any = self.models.MirrorProblem.__table__
        self.connection.execute(delete(table).where(table.c.collection == collection))
        rows = [
            {"collection": collection, "id": id, "reason": reason, "never_logged": False}
            for id, reason in reasons.items()
        ]
        if rows:
            self.connection.execute(insert(table), rows)
