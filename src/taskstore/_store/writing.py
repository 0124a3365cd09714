"""The store's own writes: driver-level statements inside a hooked session.

Each call reads what is stored under the write lock, decides the version and the line, writes the
row, and hands the line to the same collection as a flush does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any

import attrs

from taskstore._cache.rows import Rows, Stored
from taskstore._format.lines import raw_fields
from taskstore._records.types import RecordCodec
from taskstore._records.versions import Claim
from taskstore._store.changes import Changes, Key
from taskstore._store.collect import collect_graves, collect_lines
from taskstore._store.drafts import checked_line, line_of
from taskstore._store.versions import Version, next_version
from taskstore.errors import (
    InvalidIdError,
    InvalidRecordError,
    RecordExistsError,
    RecordNotFoundError,
    StaleRecordError,
)


@attrs.frozen
class _Write:
    """One record's write, decided: its line and version, or None where nothing changes."""

    id: str
    line: bytes | None
    version: Version
    born: bool


@attrs.define
class Writer:
    """Writes records of one collection in an open write transaction.

    Attributes:
        codec: the record type, or that of plain dicts.
        rows: on the transaction's connection.
        changes: of the transaction.
        clock: the time in milliseconds since the epoch.
        touched: the ids of records that were written or deleted.
    """

    codec: RecordCodec[Any]
    rows: Rows
    changes: Changes
    clock: Callable[[], int]
    touched: list[str] = attrs.field(factory=list)

    def create(self, records: Sequence[Any]) -> list[Any]:
        """Write records that do not exist yet.

        Raises:
            RecordExistsError: a live record has one of the ids.
            InvalidIdError: the batch repeats an id.
        """
        return self._put(records, self._created)

    def update(self, records: Sequence[Any], *, if_updated_at: Claim | None = None) -> list[Any]:
        """Write records that exist.

        Raises:
            RecordNotFoundError: no live record has one of the ids.
            StaleRecordError: the record was changed since, or is not at `if_updated_at`.
        """

        def decide(record: Any, id: str, stored: Stored | None) -> _Write:
            if stored is None or stored.line is None:
                raise RecordNotFoundError(collection=self.codec.collection, id=id)
            if if_updated_at is not None:
                self._check_version(id, stored, if_updated_at)
            return self._updated(record, id, stored, if_updated_at)

        return self._put(records, decide)

    def save(self, records: Sequence[Any]) -> list[Any]:
        """Write records, whether they exist or not."""

        def decide(record: Any, id: str, stored: Stored | None) -> _Write:
            if stored is None or stored.line is None:
                return self._created(record, id, stored)
            return self._updated(record, id, stored, None)

        return self._put(records, decide)

    def delete(self, ids: Iterable[str]) -> int:
        """Write tombstones for those ids that are alive; returns how many were."""
        collection = self.codec.collection
        graves: dict[Key, Version] = {}
        for id, stored in self.rows.stored(collection, list(ids)).items():
            if stored.line is not None:
                graves[collection, id] = self._version(None, id, stored)
        collect_graves(self.rows, self.changes, graves)
        self.touched.extend(id for _, id in graves)
        return len(graves)

    def _put(
        self, records: Sequence[Any], decide: Callable[[Any, str, Stored | None], _Write]
    ) -> list[Any]:
        ids = self._ids(records)
        stored = self.rows.stored(self.codec.collection, ids)
        writes = [
            decide(record, id, stored.get(id)) for record, id in zip(records, ids, strict=True)
        ]
        self._apply(writes)
        return [self._stamped(record, write) for record, write in zip(records, writes, strict=True)]

    def _ids(self, records: Sequence[Any]) -> list[str]:
        ids = [self.codec.id_of(record) for record in records]
        if len(set(ids)) != len(ids):
            seen: set[str] = set()
            repeated = next(id for id in ids if id in seen or seen.add(id))  # type: ignore[func-returns-value]
            raise InvalidIdError(
                repeated, collection=self.codec.collection, reason="the batch repeats it"
            )
        return ids

    def _apply(self, writes: Sequence[_Write]) -> None:
        collection = self.codec.collection
        changed = [write for write in writes if write.line is not None]
        self.changes.mark_born((collection, write.id) for write in changed if write.born)
        self.touched.extend(write.id for write in changed)
        self.rows.replace(
            collection,
            [
                (write.id, (write.line or b"").decode(), write.version.ms, write.version.order_us)
                for write in changed
            ],
        )
        collect_lines(
            self.rows,
            self.changes,
            {(collection, write.id): write.line for write in changed if write.line is not None},
        )

    def _created(self, record: Any, id: str, stored: Stored | None) -> _Write:
        if stored is not None and stored.line is not None:
            raise RecordExistsError(collection=self.codec.collection, id=id)
        fields = self.codec.encode(record)
        fields.pop("updated_at", None)
        version = self._version(self.codec.claim(record), id, stored)
        line = checked_line(line_of(fields, version, None), self.codec.collection, id)
        return _Write(id, line, version, born=stored is None)

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
            return _Write(id, None, current, born=False)
        line = checked_line(line_of(fields, version, stored.line), self.codec.collection, id)
        return _Write(id, line, version, born=False)

    def _version(self, claim: Claim | None, id: str, stored: Stored | None) -> Version:
        return next_version(
            claim,
            stored.order_us if stored is not None else None,
            stored.updated_at if stored is not None else None,
            self.clock(),
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

    def _stamped(self, record: Any, write: _Write) -> Any:
        """The record with its new version, which it loses again with the transaction."""
        restore = _restorer(record)
        try:
            stamped = self.codec.stamped(record, write.version.value)
        except (TypeError, ValueError) as error:
            # A validator of the class that does not take a time as it is.
            raise InvalidRecordError(
                collection=self.codec.collection,
                id=write.id,
                field="updated_at",
                reason=f"cannot be stamped with {write.version.value!r}: {error}",
            ) from error
        if stamped is record and restore is not None:
            self.changes.on_undo(restore)
        return stamped


def _restorer(record: Any) -> Callable[[], None] | None:
    """What gives a record back the version that it has now; None for one that has none."""
    if isinstance(record, MutableMapping):
        had, before = "updated_at" in record, record.get("updated_at")

        def restore_key() -> None:
            if had:
                record["updated_at"] = before
            else:
                record.pop("updated_at", None)

        return restore_key
    if not hasattr(record, "updated_at"):
        return None
    before = record.updated_at
    return lambda: object.__setattr__(record, "updated_at", before)
