"""Triggers with which a database notes changed rows of some tables, whatever changes them.

TEMP triggers on one connection write the key of each inserted, updated or deleted row into a TEMP
table. They leave no trace in the schema. They see what cascades, other triggers and a bare cursor
do. When a savepoint is rolled back, what they wrote in it is undone, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import attrs

from taskstore._cache.capture.record_notes import RecordTables, notes_sql, record_triggers
from taskstore._cache.capture.unique_keys import UniqueKey, quoted, unique_keys
from taskstore._cache.rows.driver import NOTING

RawKey = tuple[Any, ...]
"""The values of a key as they are stored."""

INSERTED, UPDATED, DELETED, REPLACED = 1, 2, 3, 4
"""The kinds of change to a row."""


@attrs.define
class Touched:
    """The rows of some tables that a transaction has touched.

    Attributes:
        keys: Their keys as they are stored, in the order in which they were first touched.
        origins: The key that a row had before the transaction gave it another one.
        existed: Whether one of them was there before.
        reborn: Those that another row had before, which was deleted or got another key.
        lost: Those that a row had that was deleted or got another key.
    """

    keys: dict[RawKey, None] = attrs.field(factory=dict)
    origins: dict[RawKey, RawKey] = attrs.field(factory=dict)
    existed: bool = False
    reborn: set[RawKey] = attrs.field(factory=set)
    lost: set[RawKey] = attrs.field(factory=set)

    def add(self, key: RawKey, op: int, *, is_first: bool) -> None:
        """Note that a row was written or deleted.

        Args:
            key: Its key.
            op: What was done to it.
            is_first: Whether it was done in the table that every row is in.
        """
        if op != INSERTED and not self.existed:
            self.existed = key not in self.keys
        self.keys[key] = None
        if is_first and op == DELETED:
            self.lost.add(key)
            self.reborn.discard(key)
        elif is_first and op == INSERTED and key in self.lost:
            self.reborn.add(key)

    def move(self, key: RawKey, former: RawKey) -> None:
        """Note that a row has got another key."""
        self.lost.add(former)
        if former in self.reborn:
            self.reborn.discard(former)
            self.reborn.add(key)
        self.existed = self.existed or former not in self.keys
        self.keys.setdefault(former)
        self.keys.setdefault(key)
        self.origins[key] = self.origins.pop(former, former)


REFUSAL = "taskstore: this write would bypass the log"
"""The database's message about a refused write."""

UNNUMBERED = "taskstore: the row has no key, and the database must not number it"
"""The database's message about a new row whose number another clone could give, too."""

GUARD = "_guard"
"""The suffix of the names of triggers that refuse deletions."""

_captures = count(1)


@attrs.frozen
class Tracked:
    """A table whose changed rows are noted.

    Attributes:
        name: Its name.
        key: The columns that identify a row.
        schema: The database that has it; None for the first that has one of this name.
        is_given: Whether a new row must come with its key, which the database would count up.
    """

    name: str
    key: tuple[str, ...]
    schema: str | None = None
    is_given: bool = False


class Capture:
    """The triggers for some tables; each connection gets its own with `Notes`.

    Args:
        tables: Those to be noted.
        owners: For each of them, under whom its rows are told; by default its place.
        records: The tables of a store, whose records are noted as well.
    """

    def __init__(
        self,
        tables: Iterable[Tracked],
        owners: Iterable[Any] | None = None,
        records: RecordTables | None = None,
    ) -> None:
        self.tables = tuple(tables)
        self.records = records
        self.owners = tuple(range(len(self.tables)) if owners is None else owners)
        self.name = f"{NOTING}{next(_captures)}"
        self.records_name = f"{self.name}_records"
        first = {owner: place for place, owner in reversed(list(enumerate(self.owners)))}
        self.is_first = [first[owner] == place for place, owner in enumerate(self.owners)]
        self.width = max((len(table.key) for table in self.tables), default=1)
        self._scripts: dict[tuple[Any, ...], tuple[str, ...]] = {}

    def script(self, cursor: Any, schemas: Sequence[tuple[str, str, int]]) -> tuple[str, ...]:
        """Return the statements that make the triggers for what a database has of the tables."""
        # Two databases in memory can have the same version, and different tables.
        is_kept = all(file for _, file, _ in schemas)
        key = tuple(schemas)
        if is_kept and key in self._scripts:
            return self._scripts[key]
        script = tuple(self._triggers(cursor, [name for name, _, _ in schemas]))
        if is_kept:
            self._scripts = {key: script}
        return script

    def guards(self, cursor: Any, schemas: Sequence[tuple[str, str, int]]) -> Iterator[str]:
        """Yield the statements that make triggers which refuse what the others only note."""
        names = [name for name, _, _ in schemas]
        for place, target, _, _ in self._found(_tables(cursor, names)):
            yield (
                f"CREATE TEMP TRIGGER IF NOT EXISTS {self.name}_{place}{GUARD} "
                f"BEFORE DELETE ON {target} WHEN {self.name}() = 2 "
                f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
            )

    def tables_sql(self) -> Iterator[str]:
        """Yield the statements that make the tables of notes."""
        if self.records is not None:
            yield notes_sql(self.records_name)
        if not self.tables:
            return
        columns = "".join(f", k{place}, p{place}" for place in range(self.width))
        # No unique key: a trigger's INSERT OR IGNORE obeys the statement that fired it.
        yield (
            f"CREATE TEMP TABLE IF NOT EXISTS {self.name} "
            f"(seq INTEGER PRIMARY KEY, tbl, op{columns})"
        )

    def _triggers(self, cursor: Any, schemas: Sequence[str]) -> Iterator[str]:
        there = _tables(cursor, schemas)
        for place, _, schema, name in self._found(there):
            yield from self._of_table(cursor, place, self.tables[place], schema, name)
        if self.records is not None:
            wanted = self.records.records.lower()
            found = next((schema for schema in schemas if wanted in there[schema]), None)
            if found is not None:
                name = self.records_name
                yield from record_triggers(
                    cursor, self.records, found, name, REFUSAL, there[found].keys()
                )

    def _found(self, there: dict[str, dict[str, str]]) -> Iterator[tuple[int, str, str, str]]:
        """Yield the tables that are there: the place, how SQL names it, its schema and its name."""
        for place, table in enumerate(self.tables):
            wanted = table.name.lower()
            for schema, names in there.items():
                is_meant = table.schema is None or table.schema.lower() == schema.lower()
                if is_meant and wanted in names:
                    name = names[wanted]
                    yield place, f"{quoted(schema)}.{quoted(name)}", schema, name
                    break

    def _of_table(
        self, cursor: Any, place: int, table: Tracked, schema: str, name: str
    ) -> Iterator[str]:
        columns, unique = unique_keys(cursor, schema, name)
        known = {column.lower() for column in columns}
        if not all(column.lower() in known for column in table.key):
            # The table is older than its model. Reading it raises an error that says so.
            return
        target = f"{quoted(schema)}.{quoted(name)}"
        key = [quoted(column) for column in table.key]
        new = [f"NEW.{column}" for column in key]
        old = [f"OLD.{column}" for column in key]
        is_moved = " OR ".join(
            f"{one} COLLATE BINARY IS NOT {other}" for one, other in zip(old, new, strict=True)
        )
        former = [f"CASE WHEN {is_moved} THEN {one} END" for one in old]
        yield self._trigger(
            f"{place}_insert AFTER INSERT ON {target}", [self._insert(place, INSERTED, new)]
        )
        # A function would make SQLite copy each page before each row, in case of its failure: that
        # takes longer than the rest. So deleted rows are always noted.
        yield (
            f"CREATE TEMP TRIGGER IF NOT EXISTS {self.name}_{place}_delete "
            f"AFTER DELETE ON {target} BEGIN {self._insert(place, DELETED, old)}; END"
        )
        yield self._trigger(
            f"{place}_update AFTER UPDATE ON {target}", [self._insert(place, UPDATED, new, former)]
        )
        if table.is_given:
            # So SQLite shows a number that it is to draw itself.
            refused = f"SELECT RAISE(ABORT, '{UNNUMBERED}') WHERE {new[0]} = -1"
            yield self._trigger(f"{place}_numbered BEFORE INSERT ON {target}", [refused])
        replacing = [one for one in unique if not _is_covered(one, table.key)]
        if replacing:
            found = self._insert(place, REPLACED, key, source=target)
            yield self._trigger(
                f"{place}_before_insert BEFORE INSERT ON {target}",
                [f"{found} WHERE {one.condition(columns, 'NEW')}" for one in replacing],
            )
            yield self._trigger(
                f"{place}_before_update BEFORE UPDATE ON {target}",
                [
                    f"{found} WHERE ({one.changes(columns)}) AND {one.condition(columns, 'NEW')}"
                    for one in replacing
                ],
            )

    def _insert(
        self,
        place: int,
        op: int,
        key: Sequence[str],
        former: Sequence[str] = (),
        source: str = "",
    ) -> str:
        names = [f"k{n}" for n in range(len(key))] + [f"p{n}" for n in range(len(former))]
        values = ", ".join([*key, *former])
        found = f"INSERT INTO {self.name} (tbl, op, {', '.join(names)}) "
        if source:
            return f"{found}SELECT {place}, {op}, {values} FROM {source}"
        return f"{found}VALUES ({place}, {op}, {values})"

    def _trigger(self, head: str, statements: Sequence[str]) -> str:
        body = " ".join(f"{statement};" for statement in statements)
        # RAISE takes effect here even if the statement has OR IGNORE.
        return (
            f"CREATE TEMP TRIGGER IF NOT EXISTS {self.name}_{head} "
            f"WHEN CASE {self.name}() WHEN 1 THEN 1 WHEN 0 THEN 0 "
            f"ELSE RAISE(ABORT, '{REFUSAL}') END BEGIN {body} END"
        )


def _tables(cursor: Any, schemas: Sequence[str]) -> dict[str, dict[str, str]]:
    """The tables of some schemas, by their names in lower case."""
    return {
        schema: {
            row[0].lower(): row[0]
            for row in cursor.execute(
                f"SELECT name FROM {quoted(schema)}.sqlite_master WHERE type = 'table'"
            ).fetchall()
        }
        for schema in schemas
    }


def _is_covered(unique: UniqueKey, key: Sequence[str]) -> bool:
    """Return whether rows that share a unique key always have one key, stored in one way."""
    columns = {column.lower() for column in unique.columns}
    return unique.is_binary and all(column.lower() in columns for column in key)
