"""Give records from a sync their numbers in this database, before their rows are written.

A record gets the number that its creator has used, if that is free, or the next one. Then every
reference has a number as well, in whatever order rows are written, and also where they refer to
each other in circles.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import attrs
from sqlalchemy.engine import Connection

from taskstore._cache.engine.bridge import closing, driver_cursor
from taskstore._cache.rows.keys import KeyRows, Pair
from taskstore._mirror.model.links import enforced
from taskstore._mirror.model.registry import registry
from taskstore._mirror.model.shape import Mirror
from taskstore._mirror.projection.wanted import Key, WantedRow
from taskstore._mirror.tables.counted_rows import numbers_there, referred_numbers, span_of_numbers
from taskstore._store.context import StoreContext


def first_to_go(
    context: StoreContext, connection: Connection, targets: Sequence[WantedRow]
) -> list[WantedRow]:
    """Return the deletions that free numbers which other rows are to have; none if none do."""
    going = [target for target in targets if target.row is None]
    wanted = {
        (target.mirror.collection, target.row.number)
        for target in targets
        if target.row is not None and target.row.number is not None and target.current is None
    }
    ids: dict[str, list[str]] = {}
    for target in going if wanted else ():
        if target.mirror.is_counted:
            ids.setdefault(target.mirror.collection, []).append(target.id)
    with closing(driver_cursor(connection)) as cursor:
        keys = KeyRows(cursor, context.models)
        freed = {
            (collection, pair.number)
            for collection, some in ids.items()
            for pair in keys.by_id(collection, some).values()
        }
    return going if freed & wanted else []


@attrs.define
class Allocation:
    """The numbers for one projection.

    Attributes:
        context: The store.
        connection: In the sync's write transaction.
        targets: What rows are to become.
    """

    context: StoreContext
    connection: Connection
    targets: Sequence[WantedRow]
    _missed: dict[str, list[str]] = attrs.field(factory=dict)

    def begin(self) -> None:
        """Assign numbers to the wanted rows, and to the rows that they refer to."""
        counted = {
            mirror.collection: mirror
            for mirror in registry(self.context)
            if mirror.counted is not None
        }
        if not counted:
            return
        wanted: dict[str, list[WantedRow]] = {collection: [] for collection in counted}
        referred: dict[str, dict[str, None]] = {collection: {} for collection in counted}
        for target in self.targets:
            if target.mirror.collection in wanted:
                wanted[target.mirror.collection].append(target)
            if target.row is None:
                continue
            for field in target.row.shape.references:
                id = target.row.values.get(field.name)
                if id is not None and field.translated is not None:
                    referred[field.translated.collection][id] = None
        is_loose = not enforced(self.connection)
        with closing(driver_cursor(self.connection)) as cursor:
            keys = KeyRows(cursor, self.context.models)
            for collection, mirror in counted.items():
                if not (wanted[collection] or referred[collection]):
                    continue
                others = list(registry(self.context)) if is_loose else []
                run = _Numbers(mirror, cursor, keys, others)
                run.give(wanted[collection])
                self._missed[collection] = run.reserve(referred[collection])

    def end(self, refused: Collection[Key]) -> None:
        """Note which rows are gone, or were refused.

        Args:
            refused: What could not be brought to what the log says.
        """
        gone: dict[str, list[str]] = {}
        for target in self.targets:
            is_refused = target.key in refused
            is_gone = target.row is None and not is_refused
            if target.mirror.counted is not None and (
                is_gone or (is_refused and target.current is None)
            ):
                gone.setdefault(target.mirror.collection, []).append(target.id)
        is_enforced = enforced(self.connection)
        with closing(driver_cursor(self.connection)) as cursor:
            keys = KeyRows(cursor, self.context.models)
            for collection, ids in gone.items():
                keys.leave(collection, ids)
            for collection, ids in self._missed.items() if is_enforced else ():
                # No row can refer to what is not there: it may have its own number when it comes.
                keys.forget(collection, ids)


@attrs.define
class _Numbers:
    """The numbers of one counted table.

    Attributes:
        mirror: Whose table it is.
        cursor: Of the driver.
        keys: The pairs of ids and numbers.
        others: The mirrors whose rows may refer to rows that are gone.
    """

    mirror: Mirror
    cursor: Any
    keys: KeyRows
    others: Sequence[Mirror]
    _least: int = attrs.field(init=False)
    _greatest: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        least, greatest = span_of_numbers(self.cursor, self.mirror)
        known_least, known_greatest = self.keys.span(self.mirror.collection)
        self._least = min(least, known_least, 0)
        self._greatest = max(greatest, known_greatest, 0)

    def give(self, targets: Sequence[WantedRow]) -> None:
        """Give numbers to the rows that are not there yet."""
        collection = self.mirror.collection
        known = self.keys.by_id(collection, [target.id for target in targets])
        new = [target for target in targets if target.row is not None and target.current is None]
        wanted = {}
        for target in sorted(new, key=lambda target: target.id):
            assert target.row is not None
            # Rows may refer to it already by the number that was reserved for it.
            pair = known.get(target.id)
            wanted[target.id] = target.row.number if pair is None else pair.number
        taken = self._taken(wanted)
        pairs = []
        for id, number in wanted.items():
            if number is not None and number not in taken:
                taken.add(number)
                pairs.append(Pair(id, number))
        given = {pair.id for pair in pairs}
        self._greatest = max(self._greatest, *(n for n in wanted.values() if n is not None), 0)
        pairs += [Pair(id, self._next()) for id in wanted if id not in given]
        self.keys.put(collection, pairs)

    def _taken(self, wanted: dict[str, int | None]) -> set[int]:
        """Return the wanted numbers that rows or other records have, or that rows refer to."""
        numbers = {number for number in wanted.values() if number is not None}
        pairs = self.keys.by_number(self.mirror.collection, numbers).values()
        others = [pair for pair in pairs if pair.id not in wanted]
        taken = {pair.number for pair in others if not pair.gone}
        taken |= self._referred(pair.number for pair in others if pair.gone)
        return taken | numbers_there(self.cursor, self.mirror, numbers)

    def _referred(self, numbers: Iterable[int]) -> set[int]:
        return referred_numbers(self.cursor, self.others, self.mirror.collection, numbers)

    def reserve(self, ids: Collection[str]) -> list[str]:
        """Give numbers to records that rows refer to, and that are not there; return them.

        They are below 0, where the database does not come when it counts on.
        """
        known = self.keys.by_id(self.mirror.collection, ids)
        gone = {pair.id: pair.number for pair in known.values() if pair.gone and pair.number > 0}
        kept = self._referred(gone.values()) if self.others else set(gone.values())
        missing = [id for id in ids if id not in known or gone.get(id) not in {None, *kept}]
        pairs = [Pair(id, self._least - n, gone=True) for n, id in enumerate(missing, 1)]
        self.keys.put(self.mirror.collection, pairs)
        return missing

    def _next(self) -> int:
        self._greatest += 1
        return self._greatest
