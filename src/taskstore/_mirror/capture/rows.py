"""Read changed mirrored rows back, and encode, stamp and collect their lines for the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

import attrs

from taskstore._cache.capture.triggers import RawKey, Touched
from taskstore._cache.rows.records import Stored
from taskstore._cache.rows.rows import Rows
from taskstore._format.instants import MAX_MS, format_rfc3339
from taskstore._format.lines import (
    HARMLESS_LENGTH,
    MAX_LINE_BYTES,
    encode_value,
    join_fields,
    raw_fields,
    tombstone_line,
)
from taskstore._mirror.capture.missing_logs import check_there
from taskstore._mirror.capture.numbers import Named, Numbering
from taskstore._mirror.capture.versions import (
    NOT_PLAIN,
    form_in,
    form_of,
    is_form,
    plain_order,
    plain_text,
    plain_value,
    stamp_for,
)
from taskstore._mirror.model.shape import Mirror, Row, rfc3339
from taskstore._mirror.tables.encoding import (
    encoded_row,
    line_of_values,
    next_fields,
    next_values,
    own_fields,
)
from taskstore._mirror.tables.stored_rows import StoredRows
from taskstore._records.reasons import StructureError
from taskstore._records.versions import Claim
from taskstore._store.context import StoreContext
from taskstore._unit.changes import Key, collect_lines
from taskstore._unit.drafts import checked_line, line_of
from taskstore._unit.unit import Unit, unnoticed
from taskstore._unit.versions import Version
from taskstore.errors import (
    InvalidRecordError,
    TaskstoreError,
    UntrackedWriteError,
)

AT_ONCE = 500
_VERSIONS = (int, datetime)


class Stamped(NamedTuple):
    """A row that was stamped after it was written.

    Attributes:
        mirror: Whose row it is.
        row: The row as it was read.
        version: What its version column has now.
        raw: Its key as it is stored.
    """

    mirror: Mirror
    row: Row
    version: Any
    raw: RawKey


class _Kept(NamedTuple):
    """A version that a row has brought along.

    Attributes:
        mirror: Whose row it was.
        value: The value of its version column, of the plain type.
        form: The type of the version in a line.
        version: That version.
    """

    mirror: Mirror
    value: Any
    form: type
    version: Version

    def fits(self, mirror: Mirror, value: Any, before: Stored | None, form: type | None) -> bool:
        """Return whether a row with this value gets the same version."""
        if mirror is not self.mirror or type(value) is not type(self.value) or value != self.value:
            return False
        return before is None or (
            form is self.form and 0 <= before.order_us < self.version.order_us
        )


@attrs.define
class _Batch:
    """The decisions for some rows.

    Attributes:
        lines: The next lines of live records.
        deleted: The versions of the tombstones of others.
        new: Those of which the cache has nothing.
        changed: What the cache gets of records that live there already.
        written: The same of others, by whether the cache has nothing of them.
        stamps: The rows to be stamped.
    """

    lines: dict[Key, bytes] = attrs.field(factory=dict)
    deleted: dict[Key, Version] = attrs.field(factory=dict)
    new: set[Key] = attrs.field(factory=set)
    changed: list[tuple[str, str, int, int]] = attrs.field(factory=list)
    written: dict[bool, list[tuple[str, str, int, int]]] = attrs.field(
        factory=lambda: {True: [], False: []}
    )
    stamps: dict[RawKey, Stamped] = attrs.field(factory=dict)


@attrs.define
class Reconciler:
    """Updates `records` and the transaction's lines from mirrored tables.

    Attributes:
        context: The store.
        cursor: Of the driver, in a write transaction.
        unit: Of that transaction.
        named: The ids of rows, and their former ids, if their keys have numbers.
        rewriting: Whether to write also lines that have not changed, for a log that is new.
        stamps: The keys of the rows that were stamped since they were last taken, by table.
        telling: Whether anybody is to learn of rows that were stamped.
        stamped: Those rows.
        now_ms: The time of all stamps, in milliseconds since the epoch.
    """

    context: StoreContext
    cursor: Any
    unit: Unit
    named: dict[StoredRows, Named] = attrs.field(factory=dict)
    rewriting: bool = False
    stamps: dict[StoredRows, set[RawKey]] = attrs.field(factory=dict)
    telling: bool = False
    stamped: list[Stamped] = attrs.field(factory=list)
    now_ms: int = attrs.field(init=False)
    _numbering: Numbering = attrs.field(init=False)
    _answered: bool | None = None
    _kept: _Kept | None = None
    _burials: dict[tuple[str, type], Version] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._numbering = Numbering(self.context, self.cursor)
        self.now_ms = self.context.clock()

    def run(self, table: StoredRows, touched: Touched) -> int:
        """Reconcile some rows; return how many lines and tombstones there are for it.

        Raises:
            MissingLogError: Something would be written to a log that is not that of the rows.
            InvalidRecordError: A value cannot be carried.
            UntrackedWriteError: A row would not be found again by its id.
        """
        rows = Rows(self.cursor, self.context.models)
        keys = list(touched.keys)
        count = 0
        batches = (
            self._decided(table, rows, keys[start : start + AT_ONCE], touched)
            for start in range(0, len(keys), AT_ONCE)
        )
        for batch in chain(batches, self._left(table, rows, keys)):
            if batch.lines or batch.deleted:
                check_there(
                    self.context, self.cursor, self.unit, table, keys, existed=touched.existed
                )
                self._apply(table, rows, batch)
            count += len(batch.lines) + len(batch.deleted)
        return count

    def _decided(
        self, table: StoredRows, rows: Rows, keys: Sequence[RawKey], touched: Touched
    ) -> _Batch:
        mirror = table.mirror
        ids = self._ids(table, keys)
        found = table.read(self.cursor, ids)
        if table.has_references:
            self._numbering.name_references(found.values())
        origins = {
            raw: id
            for raw, former in touched.origins.items()
            if raw in ids and (id := self._former_id(table, former)) is not None
        }
        stored = rows.stored(mirror.collection, list({*ids.values(), *origins.values()}))
        batch = _Batch()
        for raw, id in ids.items():
            row, before = found.get(raw), stored.get(id)
            if row is not None:
                if not table.finds(id, raw):
                    raise _lost(table, id, raw)
                origin = stored.get(origins.get(raw, id))
                self._live(batch, table, raw, row, before, origin)
            elif before is not None and before.line is not None:
                batch.deleted[mirror.collection, id] = self._burial(mirror, id, before)
        for key in batch.lines:
            # Another key that makes the same id is gone.
            batch.deleted.pop(key, None)
        rows.settle_problems(mirror.collection, ids.values())
        return batch

    def _left(self, table: StoredRows, rows: Rows, keys: Sequence[RawKey]) -> Iterator[_Batch]:
        """Bury the ids whose rows are gone, where others have taken their keys."""
        named = self.named.get(table)
        if named is None or not named.before:
            return
        mirror, before, after = table.mirror, named.before, named.after
        if after is None:
            after = table.ids_of(self._numbering.keys, keys)
        still = set(after.values())
        gone = [before[raw] for raw in keys if raw in before and before[raw] not in still]
        stored = rows.stored(mirror.collection, gone)
        batch = _Batch()
        for id in gone:
            known = stored.get(id)
            if known is not None and known.line is not None:
                batch.deleted[mirror.collection, id] = self._burial(mirror, id, known)
        yield batch

    def _burial(self, mirror: Mirror, id: str, before: Stored) -> Version:
        """The version of a tombstone: nearly all of them have the present time."""
        key = mirror.collection, type(before.updated_at)
        known = self._burials.get(key)
        if known is not None and before.order_us < known.order_us:
            return known
        version = stamp_for(mirror, id, before, None, self.now_ms)
        if version.order_us == self.now_ms * 1000:
            self._burials[key] = version
        return version

    def _ids(self, table: StoredRows, keys: Sequence[RawKey]) -> dict[RawKey, str]:
        named = self.named.get(table)
        if named is not None and named.after is not None:
            return {raw: named.after[raw] for raw in keys if raw in named.after}
        ids = {}
        for raw, parts in table.translated(self._numbering.keys, keys).items():
            try:
                ids[raw] = table.id_of(parts)
            except ValueError as error:
                if table.has(self.cursor, raw):
                    raise InvalidRecordError(
                        collection=table.mirror.collection, id=None, reason=str(error)
                    ) from error
        return ids

    def _former_id(self, table: StoredRows, raw: RawKey) -> str | None:
        if table in self.named:
            return self.named[table].before.get(raw)
        try:
            return table.id_of(raw)
        except ValueError:
            return None

    def _live(
        self,
        batch: _Batch,
        table: StoredRows,
        raw: RawKey,
        row: Row,
        before: Stored | None,
        origin: Stored | None,
    ) -> None:
        try:
            made = self._next(batch, table.mirror, raw, row, before, origin)
        except ValueError as error:
            if isinstance(error, TaskstoreError):
                raise
            raise InvalidRecordError(
                collection=table.mirror.collection, id=row.id, reason=str(error)
            ) from None
        if made is None:
            return
        line, order_us = made
        key = (table.mirror.collection, row.id)
        if len(line) > (HARMLESS_LENGTH if row.shape in table.nesting else MAX_LINE_BYTES):
            checked_line(line, *key)
        batch.lines[key] = line
        lives = before is not None and before.line is not None
        written = batch.changed if lives else batch.written[before is None]
        written.append((row.id, line.decode(), order_us // 1000, order_us))
        if before is None:
            batch.new.add(key)

    def _next(
        self,
        batch: _Batch,
        mirror: Mirror,
        raw: RawKey,
        row: Row,
        before: Stored | None,
        origin: Stored | None,
    ) -> tuple[bytes, int] | None:
        """The next line of a row with its version in microseconds, or None if it needs none."""
        if origin is None or origin.line is None:
            version = self._version(batch, mirror, raw, row, before, form_of(before))
            return encoded_row(row, version.value), version.order_us
        own = own_fields(origin.line)
        previous = own if own is not None else raw_fields(origin.line)
        fields = next_values(row, own) if own is not None else next_fields(row, previous)
        is_same = origin is before and fields == previous
        if is_same and self._same_version(mirror, row, before):
            return (origin.line.encode(), origin.order_us) if self.rewriting else None
        form = form_in(previous.get("updated_at")) if origin is before else None
        version = self._version(batch, mirror, raw, row, before, form)
        if own is not None:
            return line_of_values(fields, version.value), version.order_us
        return _following(fields, version, origin.line), version.order_us

    def _same_version(self, mirror: Mirror, row: Row, before: Stored | None) -> bool:
        if mirror.version is None or before is None:
            return True
        if mirror.version.codec.python == "int":
            version = row.version or 0
            if type(version) is not int:
                version = (mirror.order_of(version) or 0) // 1000
            return bool(version == before.order_us // 1000)
        return (self._claim(mirror, row) or Claim(0, 0, 1)).order_us == before.order_us

    def _version(
        self,
        batch: _Batch,
        mirror: Mirror,
        raw: RawKey,
        row: Row,
        before: Stored | None,
        form: type | None,
    ) -> Version:
        """The version of a changed row: that which it has, if it is newer, or a stamp.

        Args:
            batch: Receives the row if it must be stamped.
            mirror: Whose row it is.
            raw: Its key as it is stored.
            row: The row.
            before: What is stored of its id.
            form: The type of the version in its last line, where that is at hand.
        """
        # The rows of one flush mostly have one stamp.
        if (kept := self._kept) is not None and kept.fits(mirror, row.version, before, form):
            return kept.version
        plain = mirror.version.codec.plain if mirror.version is not None else None
        order_us = plain_order(plain, row.version) if plain in _VERSIONS else NOT_PLAIN
        if order_us != NOT_PLAIN and (before is None or is_form(plain, form)):
            found = self._plain(batch, mirror, raw, row, before, order_us)
            if found is not None:
                return found
        claim = self._claim(mirror, row) if mirror.version is not None else None
        if claim is not None and before is not None:
            stored = before.order_us - before.order_us % claim.precision_us
            claim = claim if claim.order_us > stored else None
        version = stamp_for(mirror, row.id, before, claim, self.now_ms)
        return version if version.kept else self._stamped(batch, mirror, raw, row, version)

    def _plain(
        self,
        batch: _Batch,
        mirror: Mirror,
        raw: RawKey,
        row: Row,
        before: Stored | None,
        order_us: int,
    ) -> Version | None:
        """The version of a row whose column is plain, in the usual case; None in others."""
        is_int = type(row.version) is int
        stored = before.order_us if before is not None else 0
        if stored < 0:
            return None
        if order_us > (stored - stored % 1000 if is_int else stored):
            value = row.version if is_int else plain_text(row.version)
            version = Version(value, order_us, kept=True)
            self._kept = _Kept(mirror, row.version, type(value), version)
            return version
        stamp = max(self.now_ms, stored // 1000 + 1)
        if row.version is None or not 0 < stamp <= MAX_MS:
            return None
        value = stamp if is_int else format_rfc3339(stamp)
        batch.stamps[raw] = Stamped(mirror, row, plain_value(type(row.version), stamp), raw)
        return Version(value, stamp * 1000)

    def _stamped(
        self, batch: _Batch, mirror: Mirror, raw: RawKey, row: Row, version: Version
    ) -> Version:
        if mirror.version is not None:
            value = mirror.version_value(version.value)
            batch.stamps[raw] = Stamped(mirror, row, value, raw)
        return version

    def _claim(self, mirror: Mirror, row: Row) -> Claim | None:
        assert mirror.version is not None
        try:
            claim = mirror.claim(row.version)
        except StructureError as error:
            raise InvalidRecordError(
                collection=mirror.collection,
                id=row.id,
                field=mirror.version.name,
                reason=str(error),
            ) from None
        if claim is not None and mirror.version.codec.python == "datetime":
            # In the form of a stamp.
            return attrs.evolve(claim, value=rfc3339(claim.order_us))
        return claim

    def _is_answered(self) -> bool:
        """Return whether triggers of the application may answer a stamp."""
        if self._answered is None:
            notes = self.unit.notes
            self._answered = notes is not None and notes.has_others(self.cursor)
        return self._answered

    def _apply(self, table: StoredRows, rows: Rows, batch: _Batch) -> None:
        collection = table.mirror.collection
        if batch.changed:
            rows.update(collection, batch.changed)
        for are_new, some in batch.written.items():
            if some:
                rows.replace(collection, some, new=are_new)
        changes = self.unit.changes
        collect_lines(rows, changes, batch.lines, new=batch.new)
        if batch.deleted:
            rows.set_tombstones(
                collection, [_tombstone(id, one) for (_, id), one in batch.deleted.items()]
            )
            for key, version in batch.deleted.items():
                changes.put(key, tombstone_line(key[1], version.value))
        if batch.stamps:
            versions = [(raw, one.version) for raw, one in batch.stamps.items()]
            if self._is_answered():
                table.stamp(self.cursor, versions)
                self.stamps.setdefault(table, set()).update(batch.stamps)
            else:
                with unnoticed(self.unit):
                    table.stamp(self.cursor, versions)
            if self.telling:
                self.stamped += batch.stamps.values()


def _following(fields: dict[str, bytes], version: Version, previous: str) -> bytes:
    """The line of some fields, with the keys in their order and spelling in the previous one."""
    if "\\" in previous:
        fields.pop("updated_at", None)
        return line_of(fields, version, previous)
    fields["updated_at"] = encode_value(version.value)
    return join_fields(fields)


def _tombstone(id: str, version: Version) -> tuple[str, int, int, str | None]:
    text = version.value if isinstance(version.value, str) else None
    return id, version.ms, version.order_us, text


def _lost(table: StoredRows, id: str, raw: RawKey) -> UntrackedWriteError:
    return UntrackedWriteError(
        statement=f"a row of {table.mirror.name} that is stored under {raw!r}, where the id {id!r} "
        "does not find it",
        remedy="let its column's type return what was bound, and write what it would bind",
    )
