"""Reads what the triggers have put into the outbox, and deletes what is in the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
from sqlalchemy import Column, Table, column, func, literal_column, select, table, true
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlalchemy.sql import text
from sqlalchemy.types import JSON, BigInteger, Boolean, DateTime, Text

from taskstore._cache.evolution.marks import Mark
from taskstore._mirror.model.counted_keys import Translated
from taskstore._mirror.model.shape import Mirror, Row, Shape
from taskstore._mirror.tables.reading import read_rows
from taskstore._postgres.names import Outbox, execute_sql, for_text, literal, quoted_table
from taskstore._postgres.numbers import Naming
from taskstore._postgres.parts import columns_in, content_of, is_from, keys_in, translated_in
from taskstore.errors import InvalidDeclarationError, InvalidIdError
from taskstore.errors._records import UNKNOWN_REVISION

BATCH = 20_000
"""How many rows a batch has at most; more where one transaction has more."""

_MIRRORED = "array_agg(DISTINCT collection) FILTER (WHERE id IS NULL)"


@attrs.frozen
class Change:
    """A row of the outbox.

    Attributes:
        seq: Its number. Of two rows for one record, the one with the greater number is newer.
        transaction: What wrote it.
        id: The record; "" where the row could not be read.
        row: The row that was written; None where it was deleted.
        written_ms: When, in milliseconds since the epoch, by the database's clock.
        problem: Why it cannot be read; "" if it can.
        part: The row as one of several tables has it, if the record is in several.
        is_stale: Whether the table has got another column, or another shape, since, so that the
            row is not what the table would have.
    """

    seq: int
    transaction: str
    id: str
    row: Row | None
    written_ms: int
    problem: str = ""
    part: Part | None = None
    is_stale: bool = False


@attrs.frozen
class Part:
    """A row of one of the tables that a record is in.

    Attributes:
        table: The table.
        values: By column, with ids in place of numbers; None where it was deleted.
        number: The key that the database has counted; None if it counts none.
    """

    table: Table
    values: Mapping[str, Any] | None
    number: int | None


def last_waiting(connection: Connection, outbox: Outbox) -> int | None:
    """Return the number of the last row that waits for the log; None where nothing waits."""
    sql = f"SELECT seq FROM {outbox.table} WHERE problem IS NULL ORDER BY seq DESC LIMIT 1"
    found: int | None = execute_sql(connection, sql).scalar_one_or_none()
    return found


def has_waiting(connection: Connection, outbox: Outbox, end: int) -> bool:
    """Return whether any row up to a number waits for the log."""
    sql = f"SELECT 1 FROM {outbox.table} WHERE problem IS NULL AND seq <= {end} LIMIT 1"
    return execute_sql(connection, sql).first() is not None


@attrs.frozen
class Batch:
    """Rows of the outbox that go into the log together.

    A batch has transactions as a whole, and whatever they have seen of others: a row that another
    transaction has written before has a lower number.

    Attributes:
        end: The last number.
        collections: The mirrored collections that it has rows of. The store's own records have
            their id and their line there already.
        has_own: Whether it has rows of the store's own records.
        is_last: Whether it has all that its snapshot has.
        has_problems: Whether the outbox keeps rows that no line can carry.
    """

    end: int
    collections: tuple[str, ...]
    has_own: bool
    is_last: bool
    has_problems: bool


def next_batch(connection: Connection, outbox: Outbox, limit: int = BATCH) -> Batch | None:
    """Return the next batch; None where nothing waits.

    Args:
        connection: In a transaction with one snapshot, which is that of the batch.
        outbox: Where to look.
        limit: How many rows to take, where transactions are that small.
    """
    there = f"FROM {outbox.table} WHERE problem IS NULL"
    end, count, collections, has_own, problems = execute_sql(
        connection,
        f"SELECT max(seq), count(*), {_MIRRORED}, count(id) > 0, "
        f"EXISTS (SELECT 1 FROM {outbox.table} WHERE problem IS NOT NULL) "
        f"FROM (SELECT seq, collection, id {there} ORDER BY seq LIMIT {limit}) batch",
    ).one()
    if end is None:
        return None
    if count < limit:
        return Batch(end, tuple(collections or ()), has_own, is_last=True, has_problems=problems)
    while True:
        # By groups, because PostgreSQL may join the rows of a large transaction with each other.
        reached, collections, has_own = execute_sql(
            connection,
            f"SELECT max(last), (SELECT {_MIRRORED} {there} AND seq <= {end}), "
            f"(SELECT count(id) > 0 {there} AND seq <= {end}) "
            f"FROM (SELECT min(seq) AS first, max(seq) AS last {there} GROUP BY xid) transactions "
            f"WHERE first <= {end}",
        ).one()
        if reached == end:
            return Batch(
                end, tuple(collections or ()), has_own, is_last=False, has_problems=problems
            )
        end = reached


def delete_batch(connection: Connection, outbox: Outbox, end: int) -> None:
    """Delete the rows of a batch: those that the transaction's snapshot has up to a number."""
    execute_sql(connection, f"DELETE FROM {outbox.table} WHERE problem IS NULL AND seq <= {end}")


def note_all(connection: Connection, outbox: Outbox, mirror: Mirror) -> None:
    """Put every row of a mirrored model into the outbox, as if it had just been written."""
    for source in mirror.tables:
        sql = (
            f"INSERT INTO {outbox.table} (collection, deleted, content) "
            f"SELECT '{mirror.collection}', false, {content_of(mirror, source, 't')} "
            f"FROM {quoted_table(source, connection.dialect)} t"
        )
        execute_sql(connection, sql)


def put_problems(
    connection: Connection, outbox: Outbox, changes: Iterable[Change], solved: Mapping[str, Any]
) -> None:
    """Keep rows that no line can carry, and drop those that a newer row has put right.

    Args:
        connection: In the transaction of the batch.
        outbox: Where they are.
        changes: The rows, with their problems.
        solved: For each collection, the records that this batch has lines for.
    """
    for change in changes:
        connection.execute(
            text(
                f"UPDATE {for_text(outbox.table)} SET problem = :problem, id = :id WHERE seq = :seq"
            ),
            {"problem": change.problem, "id": change.id or None, "seq": change.seq},
        )
    for collection, ids in solved.items():
        connection.execute(
            text(
                f"DELETE FROM {for_text(outbox.table)} WHERE problem IS NOT NULL "
                "AND collection = :collection AND id = ANY(:ids)"
            ),
            {"collection": collection, "ids": list(ids)},
        )


def retry_unknown(connection: Connection, outbox: Outbox) -> None:
    """Let changes wait again whose records have lines of a revision that nothing stated."""
    connection.execute(
        text(
            f"UPDATE {for_text(outbox.table)} SET problem = NULL, id = NULL "
            "WHERE pg_catalog.strpos(problem, :reason) > 0"
        ),
        {"reason": UNKNOWN_REVISION},
    )


@attrs.frozen
class ChangeReader:
    """Reads the rows of a batch that are from one table of a mirrored model.

    PostgreSQL makes a row of its table out of the JSON again, so the column types of the model
    read the same values that they would read from the table. Of rows that may be from before the
    last evolution only the keys are read, because their columns may have been others.
    """

    connection: Connection
    outbox: Outbox
    mirror: Mirror
    table: Table
    naming: Naming
    mark: Mark | None = None
    source: Any = attrs.field(init=False)
    _keys: Sequence[Column[Any]] = attrs.field(init=False)
    _numbered: Sequence[tuple[Column[Any], Translated]] = attrs.field(init=False)

    @_keys.default
    def _key_columns(self) -> Sequence[Column[Any]]:
        return keys_in(self.mirror, self.table)

    @_numbered.default
    def _numbered_columns(self) -> Sequence[tuple[Column[Any], Translated]]:
        return translated_in(self.mirror, self.table)

    @source.default
    def _source(self) -> Any:
        return table(
            f"{self.outbox.prefix}taskstore_outbox",
            column("seq", BigInteger),
            column("xid", Text),
            column("written", DateTime(timezone=True)),
            column("collection", Text),
            column("deleted", Boolean),
            column("content", JSON),
            column("problem", Text),
            schema=self.outbox.schema,
        ).alias("o")

    def read(self, end: int) -> list[Change]:
        """Return the changes up to a number, oldest first; unreadable ones with their problem."""
        numbers = self.source.c.seq <= end
        try:
            with self.connection.begin_nested():
                return list(self._changes(numbers))
        except Exception as error:  # noqa: BLE001 - a type of the application's own raises anything
            _check_data(error)
        return [self._one(seq) for seq in self._numbers(end)]

    def _numbers(self, end: int) -> list[int]:
        source = self.source
        statement = (
            select(source.c.seq).where(*self._mine, source.c.seq <= end).order_by(source.c.seq)
        )
        return list(self.connection.execute(statement).scalars())

    @property
    def _mine(self) -> tuple[Any, ...]:
        """The conditions that a row of the outbox is one of those that are read."""
        source = self.source
        return (
            source.c.collection == self.mirror.collection,
            source.c.problem.is_(None),
            literal_column(is_from(self.mirror, self.table, "o")),
        )

    def _one(self, seq: int) -> Change:
        number = self.source.c.seq == seq
        try:
            with self.connection.begin_nested():
                [found] = self._changes(number)
        except Exception as error:  # noqa: BLE001 - as above
            _check_data(error)
            reason = f"it cannot be read: {getattr(error, 'orig', None) or error}"
            return Change(seq, "", self._id_of(number), None, 0, reason)
        return found

    def _id_of(self, number: Any) -> str:
        """The record of a row that cannot be read; "" where not even its key can."""
        try:
            with self.connection.begin_nested():
                [found] = self._changes(number, only_key=True)
        except Exception as error:  # noqa: BLE001 - as above
            _check_data(error)
            return ""
        return found.id

    def _changes(self, condition: Any, *, only_key: bool = False) -> Iterator[Change]:
        columns = self._keys if only_key else columns_in(self.mirror, self.table)
        source = self.source
        shape: Any = literal_column(f"NULL::{quoted_table(self.table, self.connection.dialect)}")
        made = (
            func.json_populate_record(shape, self._content)
            .table_valued(*(column(one.name, one.type) for one in columns))
            .lateral("made")
        )
        statement = (
            select(
                source.c.seq,
                literal_column("o.xid::text"),
                source.c.written,
                source.c.deleted,
                literal_column(self._is_stale(columns)),
                *(made.c[one.name] for one in columns),
            )
            .select_from(source.join(made, true()))
            .where(*self._mine, condition)
            .order_by(source.c.seq)
        )
        for seq, xid, written, deleted, is_stale, *values in self.connection.execute(statement):
            raw = dict(zip((one.name for one in columns), values, strict=True))
            change = self._change(seq, xid, written, raw, is_deleted=deleted or only_key)
            yield attrs.evolve(change, is_stale=True) if is_stale and not deleted else change

    @property
    def _content(self) -> Any:
        if self.mark is None:
            return self.source.c.content
        names = (literal(key.name) for key in self._keys)
        keys = ", ".join(f"{name}, o.content->{name}" for name in names)
        return literal_column(
            f"CASE WHEN {self.mark.covers('o')} THEN json_build_object({keys}) ELSE o.content END"
        )

    def _is_stale(self, columns: Iterable[Column[Any]]) -> str:
        """Return the SQL condition that a row is not as its table would have it today."""
        lacks = _lacks(columns)
        return lacks if self.mark is None else f"({self.mark.covers('o')} OR {lacks})"

    def _change(
        self, seq: int, xid: str, written: datetime, raw: dict[str, Any], *, is_deleted: bool
    ) -> Change:
        mirror = self.mirror
        ms = int(written.timestamp() * 1000)
        named = self.naming.named(self._numbered, seq, raw)
        number = raw[self._keys[0].name] if mirror.is_counted else None
        try:
            id = mirror.id_of([named[key.name] for key in self._keys])
            if mirror.is_joined:
                part = Part(self.table, None if is_deleted else named, number)
                return Change(seq, xid, id, None, ms, part=part)
            row = None if is_deleted else row_of(mirror, id, named)
        except (ValueError, InvalidIdError) as error:
            return Change(seq, xid, "", None, ms, str(error))
        if row is not None:
            row.number = number
        return Change(seq, xid, id, row, ms)


def _lacks(columns: Iterable[Column[Any]]) -> str:
    """Return the SQL condition that a row was written when its table lacked one of some columns."""
    names = ", ".join(literal(one.name) for one in columns)
    return f"NOT jsonb_exists_all(o.content::jsonb, ARRAY[{names}])"


def _check_data(error: Exception) -> None:
    """Raise an error again that is not about the data of a row."""
    if isinstance(error, SQLAlchemyError) and not isinstance(error, DataError):
        raise error


def row_of(mirror: Mirror, id: str, named: Mapping[str, Any]) -> Row:
    """Return a row by the values of its columns.

    Raises:
        ValueError: No class has its discriminator.
    """
    shape = shape_of(mirror, named)
    values = {name: named[field.column.name] for name, field in shape.fields.items()}
    return Row(id, shape, values, version_in(mirror, named))


def shape_of(mirror: Mirror, named: Mapping[str, Any]) -> Shape:
    """Return the class of a row by the values of its columns.

    Raises:
        ValueError: No class has its discriminator.
    """
    if mirror.discriminator is None:
        return mirror.base
    return mirror.shape_of(named[mirror.base.fields[mirror.discriminator].column.name])


def version_in(mirror: Mirror, named: Mapping[str, Any]) -> Any:
    """Return the version among the values of a row's columns; None without a version column."""
    return None if mirror.version is None else in_utc(named[mirror.version.column.name])


def in_utc(version: Any) -> Any:
    """Return a version as lines have it, in whichever zone the session is."""
    if isinstance(version, datetime) and version.tzinfo is not None:
        return version.astimezone(UTC)
    return version


def rows_now(connection: Connection, mirror: Mirror, ids: Iterable[str]) -> dict[str, Row]:
    """Return the rows of some records as their tables have them; see `read_rows` for flaws."""
    found = read_rows(connection, mirror, ids, lenient=True)
    for row in found.values():
        row.version = in_utc(row.version)
    return found


def brought_up(connection: Connection, mirror: Mirror, changes: list[Change]) -> list[Change]:
    """Give stale changes the rows that their table has now.

    A row in the outbox has the columns from when it was written. If a migration has renamed or
    added one since, its value is in the table alone.
    """
    stale = {change.id for change in changes if change.is_stale and change.id}
    if not stale:
        return changes
    there = rows_now(connection, mirror, stale)
    return [_brought_up(change, there.get(change.id)) for change in changes]


def _brought_up(change: Change, now: Row | None) -> Change:
    if not change.is_stale or change.problem:
        return change
    if now is None:
        # It was deleted since.
        return attrs.evolve(change, row=None)
    if now.flaw:
        return attrs.evolve(change, row=None, problem=now.flaw)
    number = None if change.row is None else change.row.number
    return attrs.evolve(change, row=attrs.evolve(now, number=number))


def ids_of_problems(connection: Connection, outbox: Outbox, collection: str) -> set[str]:
    """Return the records of a collection that the outbox keeps rows of which no line can carry."""
    found = connection.execute(
        text(
            f"SELECT id FROM {for_text(outbox.table)} WHERE problem IS NOT NULL "
            "AND collection = :collection AND id IS NOT NULL"
        ),
        {"collection": collection},
    )
    return set(found.scalars())


def mirror_of(mirrors: Mapping[str, Mirror], collection: str) -> Mirror:
    """Return the model of a collection that the outbox has rows of.

    Raises:
        InvalidDeclarationError: There is none.
    """
    found = mirrors.get(collection)
    if found is None:
        raise InvalidDeclarationError(
            collection,
            reason="the outbox has rows of this collection, and the store has no model for it: "
            "open the store with all models that were captured, "
            "or remove the triggers with taskstore.migrations.release(op, mirrors)",
        )
    return found
