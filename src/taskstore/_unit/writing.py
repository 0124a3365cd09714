"""The store's own writes: driver-level statements inside a hooked session.

Each call reads the stored record under the write lock, decides on the version and the line, writes
the row, and passes the line to the transaction's changes, as a flush does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import attrs

from taskstore._cache.rows.records import Stored
from taskstore._cache.rows.rows import Rows
from taskstore._format.lines import raw_fields
from taskstore._records.interface import RecordCodec
from taskstore._records.versions import Claim
from taskstore._unit.changes import Changes, Key, collect_lines, collect_tombstones
from taskstore._unit.drafts import checked_line, line_of
from taskstore._unit.versions import Version, next_version
from taskstore.errors import (
    InvalidIdError,
    InvalidRecordError,
    RecordExistsError,
    RecordNotFoundError,
    StaleRecordError,
)


class _Write(NamedTuple):
    """One record's write, decided.

    Attributes:
        id: The record's.
        line: The line; None if nothing changes.
        version: The record's from now on.
        born: Whether the cache had nothing of the id, no tombstone either.
    """

    id: str
    line: bytes | None
    version: Version
    born: bool


@attrs.define
class Writer:
    """Writes records of one collection in an open write transaction.

    Attributes:
        codec: The record type, or that of plain dicts.
        rows: On the transaction's connection.
        changes: Of the transaction.
        now_ms: The time of all that it writes, in milliseconds since the epoch.
        touched: The ids of records that were written or deleted.
    """

    codec: RecordCodec[Any]
    rows: Rows
    changes: Changes
    now_ms: int
    touched: list[str] = attrs.field(factory=list)

    def create(self, records: Sequence[Any]) -> list[Any]:
        """Write new records.

        Raises:
            RecordExistsError: A live record has one of the ids.
            InvalidIdError: The batch repeats an id.
        """
        return self._put(records, self._created)

    def update(self, records: Sequence[Any], *, if_updated_at: Claim | None = None) -> list[Any]:
        """Replace existing records.

        Raises:
            RecordNotFoundError: No live record has one of the ids.
            StaleRecordError: The record was changed since, or is not at `if_updated_at`.
        """

        def decide(record: Any, id: str, stored: Stored | None) -> _Write:
            if stored is None or stored.line is None:
                raise RecordNotFoundError(collection=self.codec.collection, id=id)
            if if_updated_at is not None:
                self._check_version(id, stored, if_updated_at)
            return self._updated(record, id, stored, if_updated_at)

        return self._put(records, decide)

    def save(self, records: Sequence[Any]) -> list[Any]:
        """Create or replace records."""

        def decide(record: Any, id: str, stored: Stored | None) -> _Write:
            if stored is None or stored.line is None:
                return self._created(record, id, stored)
            return self._updated(record, id, stored, None)

        return self._put(records, decide)

    def delete(self, ids: Iterable[str]) -> int:
        """Write tombstones for the ids of live records; return their number."""
        collection = self.codec.collection
        tombstones: dict[Key, Version] = {}
        for id, stored in self.rows.stored(collection, list(ids)).items():
            if stored.line is not None:
                tombstones[collection, id] = self._version(None, id, stored)
        collect_tombstones(self.rows, self.changes, tombstones)
        self.touched.extend(id for _, id in tombstones)
        return len(tombstones)

    def _put(
        self, records: Sequence[Any], decide: Callable[[Any, str, Stored | None], _Write]
    ) -> list[Any]:
        ids = self._ids(records)
        stored = self.rows.stored(self.codec.collection, ids)
        stamps: list[int | str] = []
        self._apply(map(decide, records, ids, map(stored.get, ids)), stamps)
        stamper = _Stamper(self.codec)
        self.changes.on_undo(stamper.undo)
        return list(map(stamper.put, records, ids, stamps))

    def _ids(self, records: Sequence[Any]) -> list[str]:
        ids = [self.codec.id_of(record) for record in records]
        if len(set(ids)) != len(ids):
            seen: set[str] = set()
            repeated = next(id for id in ids if id in seen or seen.add(id))  # type: ignore[func-returns-value]
            raise InvalidIdError(
                repeated, collection=self.codec.collection, reason="the batch repeats it"
            )
        return ids

    def _apply(self, writes: Iterable[_Write], stamps: list[int | str]) -> None:
        """Carry out what was decided, and note what each record's `updated_at` is to say."""
        collection = self.codec.collection
        lines: dict[Key, bytes] = {}
        born: set[Key] = set()
        rows: dict[bool, list[tuple[str, str, int, int]]] = {}
        for id, line, version, is_born in writes:
            stamps.append(version.value)
            if line is not None:
                lines[collection, id] = line
                row = (id, line.decode(), version.ms, version.order_us)
                rows.setdefault(is_born, []).append(row)
                if is_born:
                    born.add((collection, id))
        self.changes.mark_born(born)
        self.touched.extend(id for _, id in lines)
        for are_new, some in rows.items():
            self.rows.replace(collection, some, new=are_new)
        collect_lines(self.rows, self.changes, lines, new=born)

    def _created(self, record: Any, id: str, stored: Stored | None) -> _Write:
        if stored is not None and stored.line is not None:
            raise RecordExistsError(collection=self.codec.collection, id=id)
        version = self._version(self.codec.claim(record), id, stored)
        line = self.codec.quick_line(record, version.value)
        if line is None:
            fields = self.codec.encode(record)
            fields.pop("updated_at", None)
            line = checked_line(line_of(fields, version, None), self.codec.collection, id)
        return _Write(id, line, version, stored is None)

    def _updated(self, record: Any, id: str, stored: Stored, base: Claim | None) -> _Write:
        assert stored.line is not None
        previous = raw_fields(stored.line)
        fields = dict(self.codec.merge(stored.line, record))
        version = self._version(base or self.codec.claim(record), id, stored)
        before = {key: value for key, value in previous.items() if key != "updated_at"}
        fields.pop("updated_at", None)
        if fields == before and not version.kept:
            # Reading a record and writing it back appends nothing.
            current = Version(stored.updated_at or 0, stored.order_us)
            return _Write(id, None, current, False)
        line = checked_line(line_of(fields, version, stored.line), self.codec.collection, id)
        return _Write(id, line, version, False)

    def _version(self, claim: Claim | None, id: str, stored: Stored | None) -> Version:
        return next_version(
            claim,
            stored.order_us if stored is not None else None,
            stored.updated_at if stored is not None else None,
            self.now_ms,
            collection=self.codec.collection,
            id=id,
        )

    def _check_version(self, id: str, stored: Stored, expected: Claim) -> None:
        found = stored.order_us - stored.order_us % expected.precision_us
        if found != expected.order_us:
            raise StaleRecordError(
                collection=self.codec.collection,
                id=id,
                carried=expected.value,
                stored=stored.updated_at,
            )


@attrs.define
class _Stamper:
    """Gives records their new versions, and back the old ones if the transaction is undone."""

    codec: RecordCodec[Any]
    _given: list[tuple[Any, Any]] = attrs.field(factory=list)

    def put(self, record: Any, id: str, stamp: int | str) -> Any:
        """Return the record with its new version."""
        before = _version_in(record)
        try:
            stamped = self.codec.stamped(record, stamp)
        except (TypeError, ValueError) as error:
            # A validator of the class refuses the time.
            raise InvalidRecordError(
                collection=self.codec.collection,
                id=id,
                field="updated_at",
                reason=f"cannot be stamped with {stamp!r}: {error}",
            ) from error
        if stamped is record and before is not _NEVER:
            self._given.append((record, before))
        return stamped

    def undo(self) -> None:
        """Restore them all; one that refuses keeps none of the others from it."""
        with ExitStack() as undone:
            for record, before in self._given:
                undone.callback(_restore, record, before)
            self._given.clear()


_NO_KEY, _NEVER = object(), object()


def _version_in(record: Any) -> Any:
    """The version of a record, or that it has no key for one, or never will have one."""
    if isinstance(record, dict):
        return record.get("updated_at", _NO_KEY)
    return getattr(record, "updated_at", _NEVER)


def _restore(record: Any, before: Any) -> None:
    if not isinstance(record, dict):
        object.__setattr__(record, "updated_at", before)
    elif before is _NO_KEY:
        record.pop("updated_at", None)
    else:
        record["updated_at"] = before
