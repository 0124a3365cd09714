"""Keeps the ids and the numbers of counted rows together while rows come, go and move.

A transaction may give the number of a row that it has deleted to a new one, and another number to
one that stays. So what its rows were called is found before anything is written, then each row gets
the id that it had, or a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import attrs
from sqlalchemy.engine import Connection

from taskstore._cache.capture.triggers import RawKey, Touched
from taskstore._cache.engine.bridge import closing, driver_cursor
from taskstore._cache.rows.keys import KeyRows, Pair
from taskstore._mirror.capture.adopted_ids import adopted_ids
from taskstore._mirror.model.links import is_enforcing
from taskstore._mirror.model.registry import registry
from taskstore._mirror.model.shape import Mirror, Row
from taskstore._mirror.tables.counted_rows import (
    all_numbers,
    count_numbers,
    keys_by_number,
    numbers_by_key,
    numbers_there,
    referring_keys,
    refers_to,
)
from taskstore._mirror.tables.stored_rows import StoredRows
from taskstore._records.ids import new_id
from taskstore._store.context import StoreContext


class Named(NamedTuple):
    """The ids of the rows of one table that a transaction has touched.

    Attributes:
        before: What they were before it, by their keys then.
        after: What they are now, by their keys; None if the keys themselves tell.
    """

    before: dict[RawKey, str]
    after: dict[RawKey, str] | None = None


@attrs.define
class Numbering:
    """The ids of counted rows in one write transaction.

    Attributes:
        context: The store.
        cursor: Of the driver, in the transaction.
        tables: The mirrored tables by collection, if rows may have to be touched.
        keys: The pairs of ids and numbers.
    """

    context: StoreContext
    cursor: Any
    tables: Mapping[str, StoredRows] = attrs.field(factory=dict)
    keys: KeyRows = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.keys = KeyRows(self.cursor, self.context.models)

    def settle(self, touched: dict[StoredRows, Touched]) -> dict[StoredRows, Named]:
        """Give the counted rows that were touched their ids; return which, and which they had.

        Args:
            touched: The rows. Takes in those that refer to a row whose key names it otherwise now.
        """
        named = [table for table in list(touched) if table.mirror.number is not None]
        known = {table: self._known(table, touched[table]) for table in named}
        for table in named:
            self._touch_referring(table, self._renamed(table, known[table]), touched)
        for table in [table for table in touched if table.mirror.is_counted]:
            self._touch_referring(table, self._reused(table, touched[table]), touched)
        translated = [table for table in touched if table.mirror.is_translated]
        found = {table: Named(self._former(table, touched[table])) for table in translated}
        for table in named:
            self._name(table, touched[table], known[table])
        for table in translated:
            if table.mirror.is_counted:
                before = found[table].before
                found[table] = Named(before, self._renumber(table, touched[table], before))
        for table in translated:
            if not table.mirror.is_counted:
                self._adopt_parts(table, touched[table].keys)
        return found

    def _former(self, table: StoredRows, touched: Touched) -> dict[RawKey, str]:
        raws = {*touched.keys, *touched.origins.values()}
        if not table.mirror.is_counted:
            return table.ids_of(self.keys, raws)
        pairs = self.keys.by_number(table.mirror.collection, [raw[0] for raw in raws])
        return {(pair.number,): pair.id for pair in pairs.values() if not pair.gone}

    def _known(self, table: StoredRows, touched: Touched) -> list[Pair]:
        """The numbers of rows whose ids another column says, as they are now."""
        raws = [key for (key,) in touched.keys]
        return _pairs_of(table, numbers_by_key(self.cursor, table.mirror, raws))

    def _renamed(self, table: StoredRows, pairs: Sequence[Pair]) -> list[int]:
        """The numbers of rows whose ids another column says, where it says another one now."""
        numbers = [pair.number for pair in pairs]
        before = self.keys.by_number(table.mirror.collection, numbers)
        return [p.number for p in pairs if p.number in before and before[p.number].id != p.id]

    def _reused(self, table: StoredRows, touched: Touched) -> list[int]:
        """The numbers under which another row is now than the one that had them."""
        mirror = table.mirror
        if not any(refers_to(other.mirror, mirror.collection) for other in self.tables.values()):
            return []
        pairs = self.keys.by_number(mirror.collection, [number for (number,) in touched.keys])
        there = numbers_there(self.cursor, mirror, pairs)
        # Where the database checks, no row refers to one that is gone.
        is_loose = bool(pairs) and not is_enforcing(self.cursor)
        return [
            number
            for raw in touched.keys
            for number in raw
            if number in there
            and not pairs[number].awaited
            and (
                raw in touched.reborn
                or touched.origins.get(raw, raw) != raw
                or (pairs[number].gone and is_loose)
            )
        ]

    def _touch_referring(
        self, table: StoredRows, numbers: Sequence[int], touched: dict[StoredRows, Touched]
    ) -> None:
        """Touch the rows that refer to some numbers: their lines say whose those are."""
        for other in self.tables.values() if numbers else ():
            keys = referring_keys(self.cursor, other.mirror, table.mirror.collection, numbers)
            if keys:
                some = touched.setdefault(other, Touched())
                some.existed = some.existed or not some.keys.keys() >= set(keys)
                some.keys.update(dict.fromkeys(keys))

    def _name(self, table: StoredRows, touched: Touched, pairs: Sequence[Pair]) -> None:
        ids = set(table.ids_of(self.keys, touched.keys).values())
        self.keys.leave(table.mirror.collection, sorted(ids - {pair.id for pair in pairs}))
        self.keys.put(table.mirror.collection, pairs)

    def _renumber(
        self, table: StoredRows, touched: Touched, former: Mapping[RawKey, str]
    ) -> dict[RawKey, str]:
        collection = table.mirror.collection
        there = numbers_there(self.cursor, table.mirror, [raw[0] for raw in touched.keys])
        kept: dict[RawKey, str] = {}
        unknown: list[int] = []
        pairs: list[Pair] = []
        for raw in touched.keys:
            [number] = raw
            if number not in there:
                continue
            id = None if raw in touched.reborn else former.get(touched.origins.get(raw, raw))
            if id is None:
                unknown.append(number)
                continue
            kept[raw] = id
            if former.get(raw) != id:
                pairs.append(Pair(id, number))
        reborn = {number for (number,) in touched.reborn}
        pairs += self._new(table.mirror, unknown, reborn)
        self.keys.leave(collection, sorted(set(former.values()) - set(kept.values())))
        self.keys.put(collection, pairs)
        return kept | {(pair.number,): pair.id for pair in pairs}

    def _new(
        self, mirror: Mirror, numbers: Iterable[int], reborn: Iterable[int] = ()
    ) -> list[Pair]:
        """The pairs of rows without an id: one that others have used for the row, or a new one."""
        wanted = dict.fromkeys(numbers)
        known = self.keys.by_number(mirror.collection, wanted.keys() - set(reborn))
        awaited = {number: pair.id for number, pair in known.items() if pair.awaited}
        return [Pair(awaited.get(number) or new_id(), number) for number in wanted]

    def _adopt_parts(self, table: StoredRows, raws: Iterable[RawKey]) -> None:
        some = list(raws)
        for place, field in enumerate(table.mirror.key_fields):
            if field.translated is not None:
                numbers = {raw[place] for raw in some} - {None}
                self.ids_of(field.translated.collection, numbers)

    def ids_of(self, collection: str, numbers: Iterable[int]) -> dict[int, str]:
        """Return the ids of rows that others refer to, be they in the log or not."""
        wanted = set(numbers)
        pairs = self.keys.by_number(collection, wanted)
        missing = sorted(number for number in wanted - pairs.keys() if type(number) is int)
        if missing:
            mirror = registry(self.context).by_collection[collection]
            if mirror.number is not None:
                table = StoredRows(mirror, self.context.engine.dialect)
                found = _pairs_of(table, keys_by_number(self.cursor, mirror, missing))
                self.keys.put(collection, found)
                pairs |= {pair.number: pair for pair in found}
                missing = [number for number in missing if number not in pairs]
            there = numbers_there(self.cursor, mirror, missing)
            new = self._adopted(mirror, sorted(there))
            new += [Pair(new_id(), n, gone=True, awaited=True) for n in missing if n not in there]
            self.keys.put(collection, new)
            pairs |= {pair.number: pair for pair in new}
        return {number: pair.id for number, pair in pairs.items()}

    def name_references(self, rows: Iterable[Row]) -> None:
        """Put ids for the numbers in rows that none stood for yet."""
        unnamed: dict[str, list[tuple[Row, str]]] = {}
        for row in rows:
            for field in row.shape.references:
                assert field.translated is not None
                # One that cannot be read has its key alone.
                if type(row.values.get(field.name)) is int:
                    some = unnamed.setdefault(field.translated.collection, [])
                    some.append((row, field.name))
        for collection, places in unnamed.items():
            ids = self.ids_of(collection, [row.values[name] for row, name in places])
            for row, name in places:
                row.values[name] = ids[row.values[name]]

    def adopt(self, table: StoredRows) -> None:
        """Give an id to each row of a table that has none, or to what their keys refer to."""
        mirror = table.mirror
        if mirror.number is not None:
            pairs = _pairs_of(table, keys_by_number(self.cursor, mirror))
            known = self.keys.by_number(mirror.collection, [pair.number for pair in pairs])
            self.keys.put(
                mirror.collection, [pair for pair in pairs if known.get(pair.number) != pair]
            )
        if not mirror.is_counted:
            self._adopt_parts(table, table.keys(self.cursor))
            return
        numbers = all_numbers(self.cursor, mirror)
        known = self.keys.by_number(mirror.collection, numbers)
        unknown = [n for n in numbers if n not in known or known[n].gone]
        awaited = [n for n in unknown if n in known and known[n].awaited]
        pairs = self._adopted(mirror, sorted({*unknown} - {*awaited}))
        self.keys.put(mirror.collection, [*pairs, *self._new(mirror, awaited)])

    def _adopted(self, mirror: Mirror, numbers: Sequence[int]) -> list[Pair]:
        """The pairs of rows that were there before: copies of them elsewhere get the same ids."""
        ids = adopted_ids(self.cursor, mirror, numbers) if mirror.is_counted else {}
        # Where a row came with that id, and got another number since, this is another row.
        taken = self.keys.by_id(mirror.collection, ids.values())
        return [Pair(ids[n] if n in ids and ids[n] not in taken else new_id(), n) for n in numbers]


def _pairs_of(table: StoredRows, rows: Iterable[tuple[int, Any]]) -> list[Pair]:
    """The pairs of rows that another column identifies."""
    pairs = []
    for number, key in rows:
        with suppress(ValueError):
            pairs.append(Pair(table.id_of((key,)), number))
    return pairs


def adopt(context: StoreContext, connection: Connection, mirror: Mirror) -> None:
    """Give an id to each row of a mirrored table that has none, in a write transaction."""
    if mirror.is_translated or mirror.number is not None:
        with closing(driver_cursor(connection)) as cursor:
            Numbering(context, cursor).adopt(StoredRows(mirror, connection.dialect))


def complete(context: StoreContext, connection: Connection) -> None:
    """Note the numbers of rows that another column identifies, where some are missing."""
    with closing(driver_cursor(connection)) as cursor:
        run = Numbering(context, cursor)
        for mirror in registry(context):
            if mirror.number is not None:
                there = count_numbers(cursor, mirror)
                if there != run.keys.count(mirror.collection):
                    run.adopt(StoredRows(mirror, connection.dialect))


def name_references(context: StoreContext, connection: Connection, rows: Iterable[Row]) -> None:
    """Put ids for the numbers in rows that none stood for yet, in a write transaction."""
    with closing(driver_cursor(connection)) as cursor:
        Numbering(context, cursor).name_references(rows)
