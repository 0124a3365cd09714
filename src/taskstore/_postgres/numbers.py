"""The ids of rows whose keys the database counts.

A number is valid only in its own database, so lines have an id instead. The scribe gives a row its
id when it makes the row's first line. A sync draws a number from the table's sequence for a record
that has none here.
"""

from __future__ import annotations

import hashlib
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import attrs
from sqlalchemy import Column, delete, func, insert, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql import text

from taskstore._cache.schema.models import Models
from taskstore._mirror.model.counted_keys import Translated
from taskstore._mirror.model.shape import Mirror
from taskstore._postgres.arrays import integers, texts
from taskstore._postgres.names import Outbox, for_text
from taskstore._postgres.parts import is_from, translated_in


class Pair(NamedTuple):
    """A record and its number here; `gone` if there is no such row now."""

    id: str
    number: int
    gone: bool = False


@attrs.frozen
class Pairs:
    """Reads and writes the pairs of ids and numbers, in the connection's transaction."""

    connection: Connection
    models: Models

    @property
    def _table(self) -> Any:
        return self.models.MirrorKey.__table__

    def by_number(self, collection: str, numbers: Iterable[int]) -> dict[int, Pair]:
        """Return the pairs of some numbers."""
        rows = self._read(collection, "number", integers(numbers))
        return {pair.number: pair for pair in rows}

    def by_id(self, collection: str, ids: Iterable[str]) -> dict[str, Pair]:
        """Return the pairs of some ids."""
        return {pair.id: pair for pair in self._read(collection, "id", texts(ids))}

    def _read(self, collection: str, column: str, wanted: Any) -> list[Pair]:
        table = self._table
        rows = self.connection.execute(
            select(table.c.id, table.c.number, table.c.gone).where(
                table.c.collection == collection, table.c[column] == func.any(wanted)
            )
        )
        return [Pair(*row) for row in rows]

    def put(self, collection: str, pairs: Sequence[Pair]) -> None:
        """Write pairs, in place of those with the same ids or numbers."""
        if not pairs:
            return
        table = self._table
        ids = texts(pair.id for pair in pairs)
        numbers = integers(pair.number for pair in pairs)
        self.connection.execute(
            delete(table).where(
                table.c.collection == collection,
                or_(table.c.id == func.any(ids), table.c.number == func.any(numbers)),
            )
        )
        rows = [{"collection": collection, "awaited": False, **pair._asdict()} for pair in pairs]
        self.connection.execute(insert(table), rows)

    def leave(self, collection: str, ids: Iterable[str]) -> None:
        """Record that the rows of some ids are gone."""
        table = self._table
        self.connection.execute(
            update(table)
            .where(table.c.collection == collection, table.c.id == func.any(texts(ids)))
            .values(gone=True)
        )


@attrs.define
class _Timeline:
    """The records that a number has stood for, oldest first.

    Attributes:
        seqs: For each record, the row of the outbox from which on it has the number.
        ids: The ids of the records.
        gone: Whether the last record is deleted.
        changed: Whether the database does not have this yet.
    """

    seqs: list[int] = attrs.field(factory=list)
    ids: list[str] = attrs.field(factory=list)
    gone: bool = True
    changed: bool = False

    def begin(self, seq: int, id: str) -> None:
        """Record that the number stands for another record, from a row of the outbox on."""
        self.seqs.append(seq)
        self.ids.append(id)
        self.changed = True


@attrs.define
class Naming:
    """Finds the ids that the numbers in one batch of the outbox stand for.

    A row is a new record if no record had its number before, or if that one was deleted. The id
    is made from the row of the outbox alone, so it is the same when a batch is drained again.

    Args:
        connection: In the transaction of the batch.
        models: The models of our tables.
        outbox: The outbox that has the batch.
        clone: The id of this clone, since a copy of the database has the same outbox.
    """

    connection: Connection
    models: Models
    outbox: Outbox
    clone: str
    _known: dict[str, dict[int, _Timeline]] = attrs.field(factory=dict)

    def load(self, mirrors: Iterable[Mirror], end: int) -> None:
        """Read all numbers in the rows of some models up to a row of the outbox."""
        some = list(mirrors)
        for mirror in some:
            if mirror.is_counted:
                self._load_own(mirror, end)
        for mirror in some:
            for column, collection in _referring(mirror):
                self._load_referred(mirror, column, collection, end)

    def id_of(self, collection: str, number: int, seq: int) -> str:
        """Return the id that a number stands for in a row of the outbox."""
        line = self._known[collection][number]
        # A row may refer to one that comes later in its transaction.
        place = bisect_right(line.seqs, seq)
        return line.ids[max(place - 1, 0)]

    def named(
        self,
        columns: Iterable[tuple[Column[Any], Translated]],
        seq: int,
        values: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the values of a row in the outbox, with ids in place of numbers.

        Args:
            columns: Those that have numbers, from `translated_in`.
            seq: The number of the outbox row.
            values: By name of the column.
        """
        found = dict(values)
        for column, translated in columns:
            name = column.name
            if type(found.get(name)) is int:
                found[name] = self.id_of(translated.collection, found[name], seq)
        return found

    def save(self) -> None:
        """Write the pairs that are new or have changed."""
        pairs = Pairs(self.connection, self.models)
        for collection, lines in self._known.items():
            changed = [
                Pair(line.ids[-1], number, line.gone)
                for number, line in lines.items()
                if line.changed
            ]
            pairs.put(collection, changed)

    def _load_own(self, mirror: Mirror, end: int) -> None:
        [field] = mirror.key_fields
        rows = self._numbers(mirror, field.column, end)
        known = self._timelines(mirror.collection, {number for _, number, *_ in rows})
        for seq, number, deleted, written in rows:
            line = known[number]
            # A deleted row without an id was there before anything was captured.
            if not line.ids or (line.gone and not deleted):
                line.begin(seq, self._new_id(mirror.collection, number, seq, written))
            if line.gone != deleted:
                line.gone, line.changed = deleted, True

    def _load_referred(
        self, mirror: Mirror, column: Column[Any], collection: str, end: int
    ) -> None:
        rows = self._numbers(mirror, column, end)
        known = self._timelines(collection, {number for _, number, *_ in rows})
        for seq, number, _, written in rows:
            line = known[number]
            if not line.ids:
                # A row that was there before anything was captured: an export will find its id.
                line.begin(seq, self._new_id(collection, number, seq, written))
                line.gone = False

    def _numbers(
        self, mirror: Mirror, of: Column[Any], end: int
    ) -> Sequence[tuple[int, int, bool, datetime]]:
        table: Any = of.table
        rows: Any = self.connection.execute(
            text(
                "SELECT seq, number, deleted, written FROM (SELECT seq, deleted, written, "
                "CAST(content->>CAST(:name AS text) AS bigint) AS number "
                f"FROM {for_text(self.outbox.table)} o "
                "WHERE collection = :collection AND problem IS NULL AND seq <= :end "
                f"AND {for_text(is_from(mirror, table, 'o'))}) found "
                "WHERE number IS NOT NULL ORDER BY seq"
            ),
            {"name": of.name, "collection": mirror.collection, "end": end},
        ).all()
        return rows  # type: ignore[no-any-return]

    def _timelines(self, collection: str, numbers: set[int]) -> dict[int, _Timeline]:
        known = self._known.setdefault(collection, {})
        missing = numbers - known.keys()
        if missing:
            pairs = Pairs(self.connection, self.models).by_number(collection, missing)
            for number in missing:
                pair = pairs.get(number)
                known[number] = (
                    _Timeline() if pair is None else _Timeline([0], [pair.id], pair.gone)
                )
        return known

    def _new_id(self, collection: str, number: int, seq: int, written: datetime) -> str:
        """Return an id in the form of those that `new_id` makes: they sort by time."""
        told = repr((self.clone, collection, number, seq, written.timestamp()))
        random = int.from_bytes(hashlib.sha256(told.encode()).digest()[:10], "big")
        ms = int(written.timestamp() * 1000) & (2**48 - 1)
        high = ms << 80 | 7 << 76 | (random >> 62 & 0xFFF) << 64
        return str(uuid.UUID(int=high | 2 << 62 | random & (2**62 - 1)))


def _referring(mirror: Mirror) -> list[tuple[Column[Any], str]]:
    """Return the columns of a model that refer to rows with counted keys, and their collections.

    The key in the table of a subclass refers to the row of the base.
    """
    return [
        (column, found.collection)
        for table in mirror.tables
        for column, found in translated_in(mirror, table)
        if not (found.own and table is mirror.table)
    ]
