"""Import records into a collection, and report what was new, newer or skipped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

from taskstore._api.store import Store
from taskstore._cache.sql.survey import tombstones
from taskstore._exchange.formats import Item
from taskstore._format.instants import parse_instant
from taskstore._format.names import check_id
from taskstore._records.dicts import DictType
from taskstore._records.ids import new_id
from taskstore.errors import InvalidIdError, InvalidRecordError, TaskstoreError

_BATCH = 1_000

Policy = Literal["newer", "skip", "overwrite"]
Row = dict[str, Any]


class ImportRefusedError(TaskstoreError):
    """A strict import could not import everything. Nothing was written."""

    skipped: tuple[Skipped, ...]

    def __init__(self, skipped: Sequence[Skipped]) -> None:
        super().__init__(
            f"nothing was imported, for {len(skipped)} of the records cannot be: fix them, or "
            "leave them out by not asking for all",
            skipped=tuple(skipped),
        )


@attrs.frozen
class Skipped:
    """A skipped item.

    Attributes:
        place: Its line, or its number in a JSON array.
        id: Its id, if it has one.
        reason: The reason.
        is_fault: Whether it is not a usable record. If not, it did not have to be written.
    """

    place: int
    id: str | None
    reason: str
    is_fault: bool = True


@attrs.define
class ImportPlan:
    """The result of an import or a dry run.

    Attributes:
        created, updated, deleted, unchanged: The numbers of records.
        skipped: The skipped items.
    """

    created: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    skipped: list[Skipped] = attrs.field(factory=list)

    @property
    def faults(self) -> int:
        """How many items were not usable records."""
        return sum(item.is_fault for item in self.skipped)


@attrs.define
class _Importer:
    store: Store
    collection: str
    policy: Policy
    replace: bool
    id_field: str | None
    make_ids: bool
    tombstones: Mapping[str, int | str]
    plan: ImportPlan = attrs.field(factory=ImportPlan, init=False)
    codec: DictType = attrs.field(init=False)
    writes: list[Row] = attrs.field(factory=list)
    deaths: list[str] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.codec = DictType(self.collection)

    def reduced(self, items: Iterable[Item]) -> Iterator[tuple[int, Row]]:
        """Yield the newest record of each id, as a reader of a log would, and its place."""
        newest: dict[str, tuple[int, int, Row]] = {}
        for item in items:
            try:
                id, order_us, record = self._checked(item)
            except (InvalidIdError, InvalidRecordError) as error:
                found = None if item.record is None else item.record.get("id")
                self._skip(item.place, found if isinstance(found, str) else None, error.reason)
                continue
            before = newest.get(id)
            if before is not None:
                older = item.place if order_us < before[1] else before[0]
                self._skip(older, id, "another version of the same id is newer", is_fault=False)
                if order_us < before[1]:
                    continue
            newest[id] = (item.place, order_us, record)
        for place, _, record in newest.values():
            yield place, record

    def _checked(self, item: Item) -> tuple[str, int, Row]:
        if item.record is None:
            raise InvalidRecordError(collection=self.collection, id=None, reason=item.reason or "")
        record = item.record
        if self.id_field is not None and self.id_field in record:
            value = record[self.id_field]
            record = {**record, "id": value if isinstance(value, str) else str(value)}
        if "id" not in record:
            if not self.make_ids:
                raise InvalidRecordError(collection=self.collection, id=None, reason="no id")
            record = {"id": new_id(), **record}
        id = check_id(record["id"], self.collection)
        try:
            if record.get("deleted") is not True:
                self.codec.encode(record)
            return id, _order(record), record
        except ValueError as error:
            if isinstance(error, InvalidRecordError):
                raise
            raise InvalidRecordError(collection=self.collection, id=id, reason=str(error)) from None

    def decide(self, place: int, record: Row) -> None:
        """Decide what to do with one record."""
        stored = self.store.get(self.collection, record["id"])
        if record.get("deleted") is True:
            self._decide_death(place, record, stored)
            return
        if stored is None:
            self._decide_birth(place, record)
            return
        wanted = record if self.replace else {**stored, **record}
        if _same(wanted, stored) and not _order(record) > _order(stored):
            self.plan.unchanged += 1
        elif self.policy == "skip":
            self._skip(place, record["id"], "exists already", is_fault=False)
        elif self.policy == "newer" and self._is_older(record, stored):
            self._skip(place, record["id"], "older than the stored version", is_fault=False)
        else:
            self.plan.updated += 1
            if self.policy == "overwrite" and self._is_older(record, stored):
                wanted = {**wanted, "updated_at": stored.get("updated_at")}
            self.writes.append(wanted)

    def _decide_birth(self, place: int, record: Row) -> None:
        deleted_at = self.tombstones.get(record["id"])
        if deleted_at is not None and 0 != _order(record) < parse_instant(deleted_at):
            if self.policy != "overwrite":
                reason = "deleted here after that version"
                self._skip(place, record["id"], reason, is_fault=False)
                return
            # With the time of its tombstone, its stamp comes after it and keeps its form.
            record = {**record, "updated_at": deleted_at}
        self.plan.created += 1
        self.writes.append(record)

    def _decide_death(self, place: int, record: Row, stored: Row | None) -> None:
        if stored is None:
            self._skip(place, record["id"], "deleted, and not here", is_fault=False)
        elif self.policy == "skip" or (self.policy == "newer" and self._is_older(record, stored)):
            self._skip(place, record["id"], "deleted before the stored version", is_fault=False)
        else:
            self.plan.deleted += 1
            self.deaths.append(record["id"])

    def _is_older(self, record: Row, stored: Row) -> bool:
        return 0 != _order(record) < _order(stored)

    def write(self, on_progress: Callable[[int, int], None]) -> None:
        """Write what was decided."""
        for start in range(0, len(self.writes), _BATCH):
            self.store.save_many(self.writes[start : start + _BATCH], collection=self.collection)
            on_progress(min(start + _BATCH, len(self.writes)), len(self.writes))
        for id in self.deaths:
            self.store.delete(self.collection, id)

    def _skip(self, place: int, id: str | None, reason: str, *, is_fault: bool = True) -> None:
        self.plan.skipped.append(Skipped(place, id, reason, is_fault))


def _order(record: Mapping[str, Any]) -> int:
    return parse_instant(record.get("updated_at"))


def _same(record: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two records are equal, apart from their versions."""
    # As JSON, because in Python 1, 1.0 and True are equal.
    texts = [json.dumps({**it, "updated_at": None}, sort_keys=True) for it in (record, other)]
    return texts[0] == texts[1]


def _tombstones(session: Any, collection: str) -> dict[str, int | str]:
    """Return when each deleted record of a collection was deleted, in the form of its line."""
    rows = tombstones(session.connection().exec_driver_sql, collection)
    return {id: text or updated_at for id, updated_at, text in rows}


class _Undone(Exception):  # noqa: N818 - it is no error, but the end of a dry run
    """Rolls a dry run back."""


def import_records(
    store: Store,
    collection: str,
    items: Iterable[Item],
    *,
    policy: Policy = "newer",
    replace: bool = False,
    id_field: str | None = None,
    make_ids: bool = False,
    dry_run: bool = False,
    strict: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImportPlan:
    """Import records in one transaction. Times are kept, so that no clone sees a difference.

    Args:
        store: The store, open for writing.
        collection: The collection to import into.
        items: The items to import.
        policy: Which existing records to change: "newer" (unless the stored one is newer), "skip"
            (none), "overwrite" (all). A record that was deleted here later comes back only with
            "overwrite".
        replace: Whether to remove fields that an imported record lacks. Otherwise they stay.
        id_field: The field to take ids from; by default `id`.
        make_ids: Whether records without an id get one.
        dry_run: Only report what would be done.
        strict: Write nothing if anything is not a usable record.
        on_progress: Called with the number of records read and to read, and then with the number
            written and to write.

    Raises:
        ImportRefusedError: `strict`, and something could not be imported.
    """
    try:
        with store.transaction() as session:
            tombstones = _tombstones(session, collection)
            importer = _Importer(store, collection, policy, replace, id_field, make_ids, tombstones)
            newest = list(importer.reduced(items))
            for done, (place, record) in enumerate(newest, 1):
                importer.decide(place, record)
                if done % _BATCH == 0:
                    on_progress(done, len(newest))
            if strict and importer.plan.faults:
                raise ImportRefusedError([it for it in importer.plan.skipped if it.is_fault])
            if dry_run:
                raise _Undone
            importer.write(on_progress)
    except _Undone:
        pass
    importer.plan.skipped.sort(key=lambda item: item.place)
    return importer.plan
