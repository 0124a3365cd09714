"""Read changed mirrored rows back, and encode, stamp and collect their lines for the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import attrs

from taskstore._cache.capture.triggers import RawKey, Touched
from taskstore._cache.rows.records import Stored
from taskstore._cache.rows.rows import Rows
from taskstore._format.lines import (
    HARMLESS_LENGTH,
    MAX_LINE_BYTES,
    encode_value,
    join_fields,
    raw_fields,
    tombstone_line,
)
from taskstore._mirror.capture.missing_logs import check_there
from taskstore._mirror.capture.next_versions import NextVersions
from taskstore._mirror.capture.numbers import Named, Numbering
from taskstore._mirror.capture.versions import (
    form_in,
    form_of,
)
from taskstore._mirror.model.shape import Mirror, Row
from taskstore._mirror.tables.encoding import (
    encoded,
    encoded_row,
    line_of_values,
    next_fields,
    next_values,
    own_fields,
)
from taskstore._mirror.tables.stored_rows import Beside, StoredRows
from taskstore._store.context import StoreContext
from taskstore._unit.changes import Key, write_indexes
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


@attrs.define
class _Batch:
    """The decisions for the rows of one table.

    Attributes:
        ids: The ids of the keys that make one.
        lines: The next lines of records, tombstones among them.
        deleted: The versions of the tombstones.
        written: For each live record, its version in microseconds, and what the cache has of it:
            whether it lives there, and whether there is anything at all.
        stamps: The versions of the rows to be stamped.
        told: These rows, if anybody is to learn of them.
    """

    ids: dict[RawKey, str] = attrs.field(factory=dict)
    lines: dict[Key, bytes] = attrs.field(factory=dict)
    deleted: dict[Key, Version] = attrs.field(factory=dict)
    written: dict[Key, tuple[int, bool, bool]] = attrs.field(factory=dict)
    stamps: dict[RawKey, Any] = attrs.field(factory=dict)
    told: list[Stamped] = attrs.field(factory=list)

    def put(self, key: Key, line: bytes, order_us: int, *, lives: bool, is_new: bool) -> None:
        """Note the line of a live record."""
        self.lines[key] = line
        self.written[key] = order_us, lives, is_new
        # Another key that makes the same id is gone.
        self.deleted.pop(key, None)

    def bury(self, key: Key, version: Version) -> None:
        """Note the tombstone of a record, unless another key makes the same id."""
        if key not in self.written:
            self.lines[key] = tombstone_line(key[1], version.value)
            self.deleted[key] = version

    def put_in_order(self, collection: str, keys: Iterable[RawKey]) -> None:
        """Put the lines in the order of their rows; those of other records come last."""
        ordered = {}
        for raw in keys:
            key = collection, self.ids.get(raw, "")
            if (line := self.lines.pop(key, None)) is not None:
                ordered[key] = line
        self.lines = {**ordered, **self.lines}


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
    """

    context: StoreContext
    cursor: Any
    unit: Unit
    named: dict[StoredRows, Named] = attrs.field(factory=dict)
    rewriting: bool = False
    stamps: dict[StoredRows, set[RawKey]] = attrs.field(factory=dict)
    telling: bool = False
    stamped: list[Stamped] = attrs.field(factory=list)
    _numbering: Numbering = attrs.field(init=False)
    _answered: bool | None = None
    _versions: NextVersions = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._numbering = Numbering(self.context, self.cursor)
        self._versions = NextVersions(self.context.clock())

    def run(self, table: StoredRows, touched: Touched) -> int:
        """Reconcile some rows; return how many lines and tombstones there are for it.

        Raises:
            MissingLogError: Something would be written to a log that is not that of the rows.
            InvalidRecordError: A value cannot be carried.
            UntrackedWriteError: A row would not be found again by its id.
        """
        rows = Rows(self.cursor, self.context.models)
        keys = list(touched.keys)
        batch = _Batch()
        # Their places in the tables and indexes are beside each other then.
        ordered = _sorted(keys) if len(keys) > AT_ONCE else keys
        for start in range(0, len(keys), AT_ONCE):
            self._decide(batch, table, rows, ordered[start : start + AT_ONCE], touched)
        self._bury_left(batch, table, rows, keys)
        if ordered is not keys:
            batch.put_in_order(table.mirror.collection, keys)
        if batch.lines:
            check_there(self.context, self.cursor, self.unit, table, keys, existed=touched.existed)
            with rows.writing_many(len(batch.lines)):
                self._apply(table, rows, batch)
        return len(batch.lines)

    def _decide(
        self,
        batch: _Batch,
        table: StoredRows,
        rows: Rows,
        keys: Sequence[RawKey],
        touched: Touched,
    ) -> None:
        ids = self._ids(table, keys)
        batch.ids.update(ids)
        origins = {
            raw: id
            for raw, former in touched.origins.items()
            if raw in ids and (id := self._former_id(table, former)) not in (None, ids[raw])
        }
        chosen = None if table.has_references else table.beside(self.context.models.record_table)
        if chosen is None:
            self._decide_apart(batch, table, rows, ids, origins)
        else:
            self._decide_beside(batch, table, rows, chosen, ids, origins)
        rows.settle_problems(table.mirror.collection, ids.values())

    def _decide_apart(
        self,
        batch: _Batch,
        table: StoredRows,
        rows: Rows,
        ids: Mapping[RawKey, str],
        origins: Mapping[RawKey, str],
    ) -> None:
        """Decide about rows that are read apart from their records."""
        found = table.read(self.cursor, ids)
        self._numbering.name_references(found.values())
        stored = rows.stored(table.mirror.collection, list({*ids.values(), *origins.values()}))
        for raw, id in ids.items():
            row, before = found.get(raw), stored.get(id)
            if row is not None:
                if not table.finds(id, raw):
                    raise _lost(table, id, raw)
                origin = stored.get(origins.get(raw, id))
                self._live(batch, table, raw, row, before, origin)
            elif before is not None and before.line is not None:
                self._bury(batch, table.mirror, id, before)

    def _decide_beside(
        self,
        batch: _Batch,
        table: StoredRows,
        rows: Rows,
        chosen: Beside,
        ids: Mapping[RawKey, str],
        origins: Mapping[RawKey, str],
    ) -> None:
        """Decide about rows that are read together with their records."""
        width, twice = chosen.width, 2 * chosen.width
        found = table.read_beside(self.cursor, chosen, ids)
        collection = table.mirror.collection
        dead = rows.dead(collection, [ids[one[:width]] for one in found if one[-2] is None])
        former = rows.stored(collection, list(set(origins.values()))) if origins else {}
        usual = table.usual_lines(chosen)
        for one in found:
            given, line = one[:width], one[-2]
            id = ids[given]
            if (
                usual is not None
                and given == one[width:twice]
                and given not in origins
                and (line is not None or id not in dead)
            ):
                # With few calls for each row, because each takes as long as the rest of it.
                values = one[twice:-2]
                fields = usual.new(id, values) if line is None else usual.next(id, values, line)
                if fields is not None:
                    self._put_usual(batch, table, chosen, given, id, fields, one)
                    continue
            before = Stored(line, one[-1]) if line is not None else dead.get(id)
            if given != one[width:twice]:
                # There is no row.
                if before is not None and before.line is not None:
                    self._bury(batch, table.mirror, id, before)
                continue
            if not table.finds(id, given):
                raise _lost(table, id, given)
            row = table.row_of(chosen, id, given, one[twice:-2])
            origin = former.get(origins[given]) if given in origins else before
            self._live(batch, table, given, row, before, origin)

    def _put_usual(
        self,
        batch: _Batch,
        table: StoredRows,
        chosen: Beside,
        raw: RawKey,
        id: str,
        fields: dict[str, Any],
        one: tuple[Any, ...],
    ) -> None:
        """Note the line of a row in the usual case, given with its fields but for the version."""
        mirror, (line, us) = table.mirror, one[-2:]
        form = form_in(fields.get("updated_at"))
        version = self._versions.known(mirror, one[-3], line is None, us, form)
        if version is None:
            before = Stored(line, us) if line is not None else None
            reader = chosen.readers[-1] if mirror.version is not None else None
            version = self._versions.of_column(mirror, reader, id, one[-3], before, form)
        if not version.kept and mirror.version is not None:
            values = one[2 * chosen.width : -2]
            row = table.row_of(chosen, id, raw, values) if self.telling else None
            self._stamp(batch, mirror, raw, row, version)
        fields["updated_at"] = version.value
        made = encoded(fields)
        key = mirror.collection, id
        if len(made) > (HARMLESS_LENGTH if chosen.shape in table.nesting else MAX_LINE_BYTES):
            checked_line(made, *key)
        batch.put(key, made, version.order_us, lives=line is not None, is_new=line is None)

    def _bury_left(
        self, batch: _Batch, table: StoredRows, rows: Rows, keys: Sequence[RawKey]
    ) -> None:
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
        for id in gone:
            known = stored.get(id)
            if known is not None and known.line is not None:
                self._bury(batch, mirror, id, known)

    def _bury(self, batch: _Batch, mirror: Mirror, id: str, before: Stored) -> None:
        batch.bury((mirror.collection, id), self._versions.burial(mirror, id, before))

    def _ids(self, table: StoredRows, keys: Sequence[RawKey]) -> dict[RawKey, str]:
        named = self.named.get(table)
        if named is not None and named.after is not None:
            return {raw: named.after[raw] for raw in keys if raw in named.after}
        if (usual := table.usual_ids(keys)) is not None:
            return usual
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
        key = table.mirror.collection, row.id
        if len(line) > (HARMLESS_LENGTH if row.shape in table.nesting else MAX_LINE_BYTES):
            checked_line(line, *key)
        lives = before is not None and before.line is not None
        batch.put(key, line, order_us, lives=lives, is_new=before is None)

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
            version = self._row_version(batch, mirror, raw, row, before, form_of(before))
            return encoded_row(row, version.value), version.order_us
        own = own_fields(origin.line)
        previous = own if own is not None else raw_fields(origin.line)
        fields = next_values(row, own) if own is not None else next_fields(row, previous)
        is_same = origin is before and fields == previous
        if is_same and self._versions.is_same(mirror, row, before):
            return (origin.line.encode(), origin.order_us) if self.rewriting else None
        form = form_in(previous.get("updated_at")) if origin is before else None
        version = self._row_version(batch, mirror, raw, row, before, form)
        if own is not None:
            return line_of_values(fields, version.value), version.order_us
        return _following(fields, version, origin.line), version.order_us

    def _row_version(
        self,
        batch: _Batch,
        mirror: Mirror,
        raw: RawKey,
        row: Row,
        before: Stored | None,
        form: type | None,
    ) -> Version:
        version = self._versions.next(mirror, row.id, row.version, before, form)
        if not version.kept and mirror.version is not None:
            self._stamp(batch, mirror, raw, row, version)
        return version

    def _stamp(
        self, batch: _Batch, mirror: Mirror, raw: RawKey, row: Row | None, version: Version
    ) -> None:
        batch.stamps[raw] = value = self._versions.in_column(mirror, version)
        if self.telling and row is not None:
            batch.told.append(Stamped(mirror, row, value, raw))

    def _is_answered(self) -> bool:
        """Return whether triggers of the application may answer a stamp."""
        if self._answered is None:
            notes = self.unit.notes
            self._answered = notes is not None and notes.has_others(self.cursor)
        return self._answered

    def _apply(self, table: StoredRows, rows: Rows, batch: _Batch) -> None:
        collection, lines = table.mirror.collection, batch.lines
        parts: tuple[list[Key], list[Key], list[Key]] = [], [], []
        for key, (_, lives, is_new) in batch.written.items():
            parts[0 if lives else 1 if is_new else 2].append(key)
        changed, new, revived = (_rows(batch, keys) for keys in parts)
        if parts[0]:
            rows.update(collection, changed)
        if parts[1]:
            rows.replace(collection, new, new=True)
        if parts[2]:
            rows.replace(collection, revived)
        self.unit.changes.put_all(lines)
        write_indexes(rows, {key: lines[key] for key in batch.written}, new=frozenset(parts[1]))
        if batch.deleted:
            rows.bury(collection, {id: one for (_, id), one in batch.deleted.items()})
        if batch.stamps:
            self._stamp_rows(table, batch)

    def _stamp_rows(self, table: StoredRows, batch: _Batch) -> None:
        if self._is_answered():
            table.stamp(self.cursor, batch.stamps.items())
            self.stamps.setdefault(table, set()).update(batch.stamps)
        else:
            rows = Rows(self.cursor, self.context.models)
            target = table.mirror.base.tables[0].name
            with (
                unnoticed(self.unit, self.cursor),
                rows.writing_many(len(batch.stamps), target),
            ):
                table.stamp(self.cursor, batch.stamps.items())
        self.stamped += batch.told


def _rows(batch: _Batch, keys: Sequence[Key]) -> Iterator[tuple[str, str, int, int]]:
    """Yield what the cache gets of live records: id, line, and version in ms and in us."""
    for key in sorted(keys):
        order_us = batch.written[key][0]
        yield key[1], batch.lines[key].decode(), order_us // 1000, order_us


def _sorted(keys: list[RawKey]) -> list[RawKey]:
    """Return keys in their order, the same list if they are in it or have none."""
    try:
        found = sorted(keys)
    except TypeError:
        return keys
    return keys if found == keys else found


def _following(fields: dict[str, bytes], version: Version, previous: str) -> bytes:
    """The line of some fields, with the keys in their order and spelling in the previous one."""
    if "\\" in previous:
        fields.pop("updated_at", None)
        return line_of(fields, version, previous)
    fields["updated_at"] = encode_value(version.value)
    return join_fields(fields)


def _lost(table: StoredRows, id: str, raw: RawKey) -> UntrackedWriteError:
    return UntrackedWriteError(
        statement=f"a row of {table.mirror.name} that is stored under {raw!r}, where the id {id!r} "
        "does not find it",
        remedy="let its column's type return what was bound, and write what it would bind",
    )
