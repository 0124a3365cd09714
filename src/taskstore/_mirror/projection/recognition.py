"""Recognises rows that have no id yet in the records of a log.

So are the rows of a database that was filled before another clone gave them their ids, and those of
one whose pairs of ids and numbers got lost. A row is taken for a record if it holds the same, and
has the number that the record states or is the only one like it. It is taken for one that differs,
too, if it has its number and shares a value with it that nothing else has: then it was changed
before it was logged.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from itertools import chain
from operator import itemgetter
from typing import Any

import attrs
from sqlalchemy.engine import Connection, Dialect

from taskstore._cache.engine.bridge import closing, driver_cursor
from taskstore._cache.rows.keys import KeyRows, Pair
from taskstore._cache.rows.rows import Rows
from taskstore._mirror.model.registry import registry
from taskstore._mirror.model.shape import Mirror, Row
from taskstore._mirror.projection.projecting import tables_in_order
from taskstore._mirror.tables.counted_rows import all_numbers, count_numbers
from taskstore._mirror.tables.stored_rows import StoredRows
from taskstore._store.context import StoreContext
from taskstore.errors import InvalidRecordError

_AT_ONCE = 200

Print = tuple[Any, ...]
"""The values of a row, without its key and its version."""


def recognise(
    context: StoreContext, connection: Connection, changed: Mapping[str, Collection[str]]
) -> None:
    """Give rows without an id those of the records that they are, if there are such.

    Args:
        context: The store.
        connection: In a write transaction.
        changed: The ids of the records that may have no row, by collection.
    """
    by_table = {mirror.table: mirror for mirror in registry(context)}
    with closing(driver_cursor(connection)) as cursor:
        keys = KeyRows(cursor, context.models)
        done: set[str] = set()
        for table in tables_in_order(by_table):
            mirror = by_table[table]
            if mirror.is_counted:
                ids = changed.get(mirror.collection, ())
                run = _Recognition(mirror, connection.dialect, keys, cursor, frozenset(done))
                run.run(Rows(cursor, context.models), ids)
            done.add(mirror.collection)


@attrs.frozen
class _Recognition:
    """Finds the rows of one mirror.

    Attributes:
        mirror: The mirror.
        dialect: Of the application's engine.
        keys: The pairs of ids and numbers.
        cursor: Of the driver.
        done: The collections whose rows have their ids, so that references to them can be told.
    """

    mirror: Mirror
    dialect: Dialect
    keys: KeyRows
    cursor: Any
    done: frozenset[str]

    def run(self, rows: Rows, ids: Collection[str]) -> None:
        """Give rows the ids of some records."""
        collection = self.mirror.collection
        known = self.keys.by_id(collection, ids)
        new = [id for id in ids if id not in known or known[id].gone]
        if new and count_numbers(self.cursor, self.mirror) > self.keys.count(collection):
            records, there = self._records(rows, new), self._rows(self._unnamed())
            pairs = _matched(records, there)
            self.keys.put(collection, [*pairs, *_changed(records, there, pairs, self._telling)])

    def _unnamed(self) -> list[int]:
        numbers = all_numbers(self.cursor, self.mirror)
        known = self.keys.by_number(self.mirror.collection, numbers)
        return [number for number in numbers if number not in known or known[number].gone]

    def _records(self, rows: Rows, ids: list[str]) -> dict[str, tuple[int | None, Print]]:
        """The number that each record states, and what it holds."""
        found = {}
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            for id, stored in rows.stored(self.mirror.collection, some).items():
                if stored.line is None:
                    continue
                try:
                    row = self.mirror.decoded(id, stored.line)
                    found[id] = row.number, self._print(row)
                except ValueError:
                    # The projection reports it.
                    continue
        return found

    def _rows(self, numbers: list[int]) -> dict[int, Print]:
        table = StoredRows(self.mirror, self.dialect)
        found: dict[int, Print] = {}
        for start in range(0, len(numbers), _AT_ONCE):
            some = {(number,): str(number) for number in numbers[start : start + _AT_ONCE]}
            for (number,), row in _readable(table, self.cursor, some):
                with suppress(ValueError):
                    found[number] = self._print(row)
        return found

    def _telling(self, holds: Print) -> Print:
        """The texts that a row holds and that may tell it from others."""
        _, *values = holds
        fields = self.mirror.base.fields
        return tuple(
            (name, raw)
            for name, raw in values
            if raw is not None
            and raw.startswith(b'"')
            and name in fields
            and name != self.mirror.discriminator
            and fields[name].translated is None
            and raw != fields[name].default()
        )

    def _print(self, row: Row) -> Print:
        found = []
        for name, field in row.shape.fields.items():
            if field.translated is None or field.translated.collection in self.done:
                raw = field.codec.raw(row.values[name]) if name in row.values else field.default()
                found.append((name, raw))
        return row.shape.identity, *sorted(found, key=itemgetter(0))


def _readable(
    table: StoredRows, cursor: Any, some: dict[tuple[Any, ...], str]
) -> Iterable[tuple[tuple[Any, ...], Row]]:
    try:
        return table.read(cursor, some).items()
    except InvalidRecordError:
        if len(some) == 1:
            return ()
    return [found for raw, id in some.items() for found in _readable(table, cursor, {raw: id})]


def _matched(
    records: Mapping[str, tuple[int | None, Print]], rows: Mapping[int, Print]
) -> list[Pair]:
    pairs = [
        Pair(id, number)
        for id, (number, holds) in records.items()
        if number is not None and rows.get(number) == holds
    ]
    ids, numbers = {pair.id for pair in pairs}, {pair.number for pair in pairs}
    alike: dict[Print, tuple[list[str], list[int]]] = defaultdict(lambda: ([], []))
    for id, (_, holds) in records.items():
        if id not in ids:
            alike[holds][0].append(id)
    for number, holds in rows.items():
        if number not in numbers:
            alike[holds][1].append(number)
    pairs += [Pair(i[0], n[0]) for i, n in alike.values() if len(i) == len(n) == 1]
    return pairs


def _changed(
    records: Mapping[str, tuple[int | None, Print]],
    rows: Mapping[int, Print],
    matched: Iterable[Pair],
    telling: Callable[[Print], Print],
) -> list[Pair]:
    """The pairs of rows that differ from their records, and share a value that nothing else has."""
    ids, numbers = {pair.id for pair in matched}, {pair.number for pair in matched}
    asked = {id: telling(holds) for id, (_, holds) in records.items()}
    there = {number: telling(holds) for number, holds in rows.items()}
    counts = [Counter(chain.from_iterable(each.values())) for each in (asked, there)]
    pairs = []
    for id, (number, holds) in records.items():
        if id in ids or number is None or number in numbers or number not in rows:
            continue
        shared = {*asked[id]} & {*there[number]} if holds[0] == rows[number][0] else ()
        if any(all(count[value] == 1 for count in counts) for value in shared):
            pairs.append(Pair(id, number))
    return pairs
