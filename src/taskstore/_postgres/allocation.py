"""Gives numbers to the records that a sync brings, before it writes their rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from sqlalchemy import func, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql import text

from taskstore._cache.schema.models import Models
from taskstore._mirror.model.shape import Mirror, Row
from taskstore._postgres.arrays import integers
from taskstore._postgres.names import execute_sql, literal, quoted, quoted_table
from taskstore._postgres.numbers import Pair, Pairs

Numbers = Mapping[str, Mapping[str, int]]
"""The numbers of records, by collection and id."""


@attrs.frozen
class Counter:
    """Draws numbers for the rows of one table."""

    connection: Connection
    mirror: Mirror

    @property
    def _column(self) -> Any:
        assert self.mirror.counted is not None
        return self.mirror.counted

    def draw(self, wanted: Mapping[str, int | None]) -> dict[str, int]:
        """Return a number for each of some ids.

        A record gets the number that its creator used, if the sequence here has not reached it
        yet; otherwise it gets the next one.

        Args:
            wanted: The numbers that creators used, by id; None if a line does not name one.
        """
        name = sequence_of(self.connection, self.mirror)
        last, most = execute_sql(
            self.connection,
            "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END, seqmax "
            f"FROM {name}, pg_catalog.pg_sequence WHERE seqrelid = {literal(name)}::regclass",
        ).one()
        # No line may move the sequence near its end.
        fit = {id: n for id, n in wanted.items() if n is not None and last < n <= most // 2}
        taken = self._there(list(fit.values()))
        given: dict[str, int] = {}
        for id, number in fit.items():
            if number not in taken:
                taken.add(number)
                given[id] = number
        if given:
            execute_sql(self.connection, f"SELECT setval({literal(name)}, {max(given.values())})")
        rest = [id for id in wanted if id not in given]
        while rest:
            drawn = self._next(name, len(rest))
            given.update(zip(rest, drawn, strict=False))
            rest = rest[len(drawn) :]
        return given

    def _next(self, name: str, count: int) -> list[int]:
        rows = execute_sql(
            self.connection, f"SELECT nextval({literal(name)}) FROM generate_series(1, {count})"
        )
        drawn = list(rows.scalars())
        # Rows may have been inserted with numbers of their own.
        there = self._there(drawn)
        return [number for number in drawn if number not in there]

    def _there(self, numbers: Sequence[int]) -> set[int]:
        column = self._column
        wanted = column == func.any(integers(numbers))
        found = self.connection.execute(select(column).where(wanted))
        return set(found.scalars())


def sequence_of(connection: Connection, mirror: Mirror) -> str:
    """Return the sequence that counts the key of a model, quoted; "" if there is none."""
    column: Any = mirror.counted
    default = column.default
    if default is not None and default.is_sequence:
        name = quoted(default.name)
        return f"{quoted(default.schema)}.{name}" if default.schema else name
    found: str | None = connection.execute(
        text("SELECT pg_catalog.pg_get_serial_sequence(:table, :column)"),
        {"table": quoted_table(mirror.table, connection.dialect), "column": column.name},
    ).scalar_one()
    return found or ""


@attrs.define
class Allocation:
    """The numbers for the rows that a sync writes and deletes.

    Attributes:
        connection: In the transaction of the sync.
        models: The models of our tables.
        mirrors: The mirrored models by collection.
        numbers: The numbers of the rows' records, and of those that they refer to.
    """

    connection: Connection
    models: Models
    mirrors: Mapping[str, Mirror]
    numbers: dict[str, dict[str, int]] = attrs.field(factory=dict)
    _revived: dict[str, list[Pair]] = attrs.field(factory=dict)

    def give(
        self, rows: Mapping[str, Mapping[str, Row]], gone: Mapping[str, Iterable[str]]
    ) -> None:
        """Give numbers to rows that have none here.

        Args:
            rows: Those that are written, by collection and id.
            gone: The ids of those that are deleted, by collection.
        """
        for collection, mirror in self.mirrors.items():
            if mirror.is_counted:
                self._give(mirror, rows.get(collection, {}), gone.get(collection, ()))

    def _give(self, mirror: Mirror, rows: Mapping[str, Row], gone: Iterable[str]) -> None:
        pairs = Pairs(self.connection, self.models)
        found = pairs.by_id(mirror.collection, [*rows, *gone])
        known = self.numbers.setdefault(mirror.collection, {})
        known.update((pair.id, pair.number) for pair in found.values())
        dead = [pair for pair in found.values() if pair.gone and pair.id in rows]
        new = {id: row.number for id, row in rows.items() if id not in found}
        drawn = Counter(self.connection, mirror).draw(new) if new else {}
        known.update(drawn)
        revived = [
            *(Pair(*item) for item in drawn.items()),
            *(p._replace(gone=False) for p in dead),
        ]
        pairs.put(mirror.collection, revived)
        self._revived[mirror.collection] = revived

    def missing(self, mirror: Mirror, row: Row) -> str:
        """Return why a row cannot be written: a reference has no number here. "" if it can."""
        for name, collection in self._references(mirror, row):
            id = row.values[name]
            if id not in self.numbers[collection]:
                return f"{name!r} refers to {id!r} of {collection!r}, which is not there"
        return ""

    def load(self, mirror: Mirror, rows: Iterable[Row], keys: Iterable[Sequence[Any]]) -> None:
        """Read the numbers that rows, and keys of rows to be deleted, refer to."""
        wanted: dict[str, set[str]] = {}
        for row in rows:
            for name, collection in self._references(mirror, row):
                wanted.setdefault(collection, set()).add(row.values[name])
        for key in keys:
            for field, id in zip(mirror.key_fields, key, strict=True):
                if field.translated is not None:
                    wanted.setdefault(field.translated.collection, set()).add(id)
        pairs = Pairs(self.connection, self.models)
        for collection, ids in wanted.items():
            known = self.numbers.setdefault(collection, {})
            found = pairs.by_id(collection, ids - known.keys())
            known.update((pair.id, pair.number) for pair in found.values())

    def _references(self, mirror: Mirror, row: Row) -> Iterator[tuple[str, str]]:
        for field in row.shape.references:
            if row.values.get(field.name) is not None and field.translated is not None:
                yield field.name, field.translated.collection

    def end(self, gone: Mapping[str, Iterable[str]], refused: Mapping[str, Iterable[str]]) -> None:
        """Record which rows are gone, or could not be written.

        Args:
            gone: The ids of deleted rows, by collection.
            refused: The ids of rows that could not be written, by collection.
        """
        pairs = Pairs(self.connection, self.models)
        for collection, mirror in self.mirrors.items():
            if mirror.is_counted:
                new = {pair.id for pair in self._revived.get(collection, ())}
                left = {*gone.get(collection, ())} | (new & {*refused.get(collection, ())})
                if left:
                    pairs.leave(collection, left)
