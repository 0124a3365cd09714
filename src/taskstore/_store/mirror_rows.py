"""What mirrored rows have become, for the log: read back, encoded, stamped, and collected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import attrs
from sqlalchemy.engine import Connection
from sqlalchemy.orm.exc import StaleDataError

from taskstore._cache.bridge import driver_cursor
from taskstore._cache.rows import Rows, Stored
from taskstore._format.lines import raw_fields
from taskstore._mirror.reading import read_rows
from taskstore._mirror.shape import Mirror, Row
from taskstore._mirror.writing import stamp_rows
from taskstore._records.reasons import StructureError
from taskstore._records.stability import merge_fields
from taskstore._records.versions import Claim
from taskstore._store.changes import Key
from taskstore._store.collect import collect_graves, collect_lines
from taskstore._store.context import StoreContext
from taskstore._store.drafts import checked_line, line_of
from taskstore._store.mirror_guard import check_there
from taskstore._store.transaction import Unit
from taskstore._store.versions import Version, next_version
from taskstore.errors import InvalidRecordError, StaleRecordError

_AT_ONCE = 500


@attrs.define
class _Batch:
    """What a reconciliation has decided."""

    lines: dict[Key, bytes] = attrs.field(factory=dict)
    versions: dict[Key, Version] = attrs.field(factory=dict)
    graves: dict[Key, Version] = attrs.field(factory=dict)
    born: list[Key] = attrs.field(factory=list)
    stamps: list[tuple[str, Any]] = attrs.field(factory=list)


class StaleRowError(StaleRecordError, StaleDataError):
    """A mirrored row was changed since it was loaded.

    Applications wait for SQLAlchemy's error where a row has a version.
    """


@attrs.define
class Reconciler:
    """Brings `records` and the transaction's lines to what mirrored tables hold.

    Attributes:
        context: the store.
        connection: in a write transaction.
        unit: of that transaction.
        planned: the versions that rows were stamped with before they were written.
        origins: the ids under which rows that got a new key were known.
        on_stamp: told a mirror, an id and its version where a row was stamped after the fact.
        rewriting: whether to write also lines that have not changed, for a log that is new.
        absent: what was found to have no row.
    """

    context: StoreContext
    connection: Connection
    unit: Unit
    planned: Mapping[Key, Version] = attrs.field(factory=dict)
    origins: Mapping[Key, str] = attrs.field(factory=dict)
    on_stamp: Callable[[Mirror, str, Any], None] | None = None
    rewriting: bool = False
    absent: set[Key] = attrs.field(factory=set)

    def run(self, keys: Iterable[Key]) -> int:
        """Reconcile some rows; return how many lines and tombstones there are for it.

        Raises:
            MissingLogError: something would be written to a log that is not that of the rows.
            InvalidRecordError: a value cannot be carried.
        """
        wanted: dict[str, dict[str, None]] = {}
        for collection, id in keys:
            wanted.setdefault(collection, {})[id] = None
        count = 0
        for collection, ids in wanted.items():
            mirror = self.context.mirrors.by_collection[collection]
            some = list(ids)
            for start in range(0, len(some), _AT_ONCE):
                count += self._some(mirror, some[start : start + _AT_ONCE])
        return count

    def _some(self, mirror: Mirror, ids: Sequence[str]) -> int:
        collection = mirror.collection
        with closing(driver_cursor(self.connection)) as cursor:
            rows = Rows(cursor, self.context.models)
            origins = [
                self.origins[collection, id] for id in ids if (collection, id) in self.origins
            ]
            stored = rows.stored(collection, [*ids, *origins])
            current = read_rows(self.connection, mirror, ids)
            batch = _Batch()
            for id in ids:
                row, before = current.get(id), stored.get(id)
                if row is not None:
                    origin = stored.get(self.origins.get((collection, id), id))
                    self._live(batch, mirror, row, before, origin)
                    continue
                self.absent.add((collection, id))
                if before is not None and before.line is not None:
                    batch.graves[collection, id] = self._version(mirror, id, before, None)
            if batch.lines or batch.graves:
                check_there(self.context, self.unit, mirror)
                self._apply(mirror, rows, batch)
            rows.settle_problems(collection, ids)
        return len(batch.lines) + len(batch.graves)

    def _live(
        self, batch: _Batch, mirror: Mirror, row: Row, before: Stored | None, origin: Stored | None
    ) -> None:
        key = (mirror.collection, row.id)
        fields, previous = self._fields(mirror, row, origin)
        alive = before is not None and before.line is not None
        same = alive and origin is before and fields == previous
        if same and self._same_version(mirror, row, before):
            if self.rewriting and before is not None and before.line is not None:
                batch.lines[key] = before.line.encode()
                batch.versions[key] = Version(0, before.order_us)
            return
        version = self._of_row(batch, mirror, row, before)
        like = origin.line if origin is not None else None
        batch.lines[key] = checked_line(line_of(fields, version, like), *key)
        batch.versions[key] = version
        if before is None:
            batch.born.append(key)

    def _fields(
        self, mirror: Mirror, row: Row, origin: Stored | None
    ) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """The fields of the row's next line, and those of its last, both without the version."""
        try:
            fields = row.encoded()
        except ValueError as error:
            raise InvalidRecordError(
                collection=mirror.collection, id=row.id, reason=str(error)
            ) from None
        if origin is None or origin.line is None:
            return fields, {}
        previous = raw_fields(origin.line)
        previous.pop("updated_at", None)

        def canonical(name: str, raw: bytes) -> bytes | None:
            field = row.shape.fields.get(name)
            return raw if field is None or name == "id" else field.codec.canonical(raw)

        def default(name: str) -> bytes | None:
            field = row.shape.fields.get(name)
            return field.default() if field is not None else None

        merged = merge_fields(previous, fields, defaults=default, canonical=canonical)
        return merged, previous

    def _same_version(self, mirror: Mirror, row: Row, before: Stored | None) -> bool:
        if mirror.version is None or before is None:
            return True
        if mirror.version.codec.python == "int":
            version = row.version or 0
            if type(version) is not int:
                version = (mirror.order_of(version) or 0) // 1000
            return bool(version == before.order_us // 1000)
        return (self._claim(mirror, row) or Claim(0, 0, 1)).order_us == before.order_us

    def _of_row(self, batch: _Batch, mirror: Mirror, row: Row, before: Stored | None) -> Version:
        """The version of a changed row: that which it has, if it is newer, or a stamp."""
        claim = self._claim(mirror, row) if mirror.version is not None else None
        planned = self.planned.get((mirror.collection, row.id))
        known = before.order_us if before is not None else None
        is_newer = planned is not None and (known is None or planned.order_us > known)
        is_there = mirror.version is None or (
            claim is not None and planned is not None and self._is_at(claim, planned)
        )
        if planned is not None and is_newer and is_there:
            return planned
        if claim is not None and known is not None and claim.order_us <= known:
            claim = None
        version = self._version(mirror, row.id, before, claim)
        if mirror.version is not None and not version.kept:
            batch.stamps.append((row.id, mirror.version_value(version.value)))
        return version

    def _is_at(self, claim: Claim, version: Version) -> bool:
        return claim.order_us == version.order_us - version.order_us % claim.precision_us

    def _claim(self, mirror: Mirror, row: Row) -> Claim | None:
        try:
            return mirror.claim(row.version) if mirror.version is not None else None
        except StructureError as error:
            raise InvalidRecordError(
                collection=mirror.collection,
                id=row.id,
                field=mirror.version.name if mirror.version is not None else None,
                reason=str(error),
            ) from None

    def _version(
        self, mirror: Mirror, id: str, before: Stored | None, claim: Claim | None
    ) -> Version:
        return stamp_for(self.context, mirror, id, before, claim)

    def _apply(self, mirror: Mirror, rows: Rows, batch: _Batch) -> None:
        changes = self.unit.changes
        changes.mark_born(batch.born)
        written = [
            (key[1], line.decode(), batch.versions[key].ms, batch.versions[key].order_us)
            for key, line in batch.lines.items()
        ]
        rows.replace(mirror.collection, written)
        collect_lines(rows, changes, batch.lines)
        collect_graves(rows, changes, batch.graves)
        if batch.stamps:
            with mirroring(self.unit):
                stamp_rows(self.connection, mirror, batch.stamps)
            for id, value in batch.stamps:
                if self.on_stamp is not None:
                    self.on_stamp(mirror, id, value)


def stamp_for(
    context: StoreContext, mirror: Mirror, id: str, before: Stored | None, claim: Claim | None
) -> Version:
    """The version of a row's next line.

    Raises:
        StaleRowError: the claim is older than what is stored.
    """
    previous = before.updated_at if before is not None else None
    if previous is None and mirror.version is not None and mirror.version.codec.python != "int":
        # The form of the column; it is what a person reads in the log.
        previous = ""
    try:
        return next_version(
            claim,
            before.order_us if before is not None else None,
            previous,
            context.clock(),
            collection=mirror.collection,
            id=id,
        )
    except StaleRecordError as error:
        raise StaleRowError(
            collection=error.collection, id=error.id, carried=error.carried, stored=error.stored
        ) from None


@contextmanager
def mirroring(unit: Unit) -> Iterator[None]:
    """A block in which the store itself writes mirrored tables."""
    before, unit.mirroring = unit.mirroring, True
    try:
        yield
    finally:
        unit.mirroring = before
