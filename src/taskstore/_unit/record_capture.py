"""Collect the lines of records that any statement has written.

A flush has already decided on its lines. Any other row is read as the application left it: its line
is built, stamped, and stored in the row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.orm.util import identity_key

from taskstore._cache.capture.record_notes import NotedRecord
from taskstore._cache.rows.records import Stored
from taskstore._cache.rows.rows import Rows
from taskstore._cache.schema.models import Models
from taskstore._format.lines import decode_envelope
from taskstore._records.versions import Claim
from taskstore._store.context import StoreContext
from taskstore._unit.changes import Key, collect_lines, collect_tombstones, write_indexes
from taskstore._unit.drafts import decide, draft_of_stored
from taskstore._unit.unit import Unit
from taskstore._unit.versions import Version, next_version
from taskstore.errors import InvalidRecordError, UntrackedWriteError


def collect_records(
    context: StoreContext, cursor: Any, unit: Unit, noted: Mapping[Key, NotedRecord]
) -> list[Key]:
    """Collect the lines of records that were touched.

    Args:
        context: The store.
        cursor: Of the driver, in the transaction that has touched them.
        unit: Of that transaction.
        noted: The records.

    Returns:
        Those whose rows are otherwise now than they were written.

    Raises:
        UntrackedWriteError: A record belongs to a mirrored table.
        InvalidRecordError, InvalidIdError, InvalidNameError: A row is not a record.
    """
    for collection in {key[0] for key in noted}:
        refuse_mirrored(context, collection)
    lock(context, unit, cursor)
    run = _Run(Rows(cursor, context.models), unit, context.clock())
    return run.run(noted)


@attrs.define
class _Run:
    rows: Rows
    unit: Unit
    now_ms: int
    lines: dict[Key, bytes] = attrs.field(factory=dict)
    tombstones: dict[Key, Version] = attrs.field(factory=dict)
    new: set[Key] = attrs.field(factory=set)
    revived: dict[str, list[str]] = attrs.field(factory=dict)
    same: dict[Key, bytes] = attrs.field(factory=dict)
    rewritten: dict[Key, tuple[str, int, int]] = attrs.field(factory=dict)

    def run(self, noted: Mapping[Key, NotedRecord]) -> list[Key]:
        """Decide, and carry it out."""
        dead = self._dead(noted)
        for key, record in noted.items():
            before = record.before or dead.get(key)
            if record.now is not None:
                self._live(key, record, record.now, before)
            elif before is not None and before.line is not None:
                self.tombstones[key] = _stamp(key, before, self.now_ms)
        self._apply()
        return list(self.rewritten)

    def _dead(self, noted: Mapping[Key, NotedRecord]) -> dict[Key, Stored]:
        """The tombstones of those that were not alive before."""
        wanted: dict[str, list[str]] = {}
        for key, record in noted.items():
            if record.before is None and record.now is not None and not self._is_new(key, record):
                wanted.setdefault(key[0], []).append(key[1])
        return {
            (collection, id): stored
            for collection, ids in wanted.items()
            for id, stored in self.rows.dead(collection, ids).items()
        }

    def _is_new(self, key: Key, record: NotedRecord) -> bool:
        """Return whether a flush has found nothing of a record, and has written it as it is."""
        planned = self.unit.planned.get(key)
        return planned is not None and planned[1] and planned[0] == record.now

    def _live(
        self, key: Key, record: NotedRecord, now: tuple[str, int, int], before: Stored | None
    ) -> None:
        line, ms, us = now
        planned = self.unit.planned.get(key)
        if planned is not None and planned[0] == now and (before is None or us > before.order_us):
            self._put(key, line.encode(), before)
            return
        origin = record.origin or before
        draft = draft_of_stored(key, line, ms, origin, _old_key(key, record))
        if draft.key != key:
            raise InvalidRecordError(
                collection=key[0],
                id=key[1],
                field="id",
                reason=f"the row says {key[1]!r} and its data {draft.key[1]!r}: write it in one "
                "place",
            )
        is_older = draft.claim is not None and _is_older(draft.claim, origin, before)
        if is_older:
            # A statement says what a row becomes, not which version its writer has read.
            draft = draft._replace(claim=None)
        new, version = decide(draft, before, origin, self.now_ms, anyway=is_older)
        if new is None:
            assert before is not None
            assert before.line is not None
            stored = (before.line, before.order_us // 1000, before.order_us)
            # It may have been deleted, and its index rows with it.
            self.same[key] = before.line.encode()
        else:
            stored = (new.decode(), version.ms, version.order_us)
            self._put(key, new, before)
        if stored != now:
            self.rewritten[key] = stored

    def _put(self, key: Key, line: bytes, before: Stored | None) -> None:
        self.lines[key] = line
        if before is None:
            self.new.add(key)
        elif before.line is None:
            self.revived.setdefault(key[0], []).append(key[1])

    def _apply(self) -> None:
        changes = self.unit.changes
        for collection in {key[0] for key in self.rewritten}:
            some = [(key[1], *row) for key, row in self.rewritten.items() if key[0] == collection]
            self.rows.replace(collection, some, new=True)
        changes.mark_born(self.new)
        for collection, ids in self.revived.items():
            self.rows.drop_tombstones(collection, ids)
        collect_lines(self.rows, changes, self.lines, new=self.new)
        collect_tombstones(self.rows, changes, self.tombstones)
        write_indexes(self.rows, self.same)


def refuse_mirrored(context: StoreContext, collection: str) -> None:
    """Raise UntrackedWriteError if the records of a collection are rows of a mirrored table."""
    mirror = context.mirrors.by_collection.get(collection)
    if mirror is not None:
        raise UntrackedWriteError(
            statement=f"a change of a StoredRecord of {collection!r}",
            remedy=f"write the rows of {mirror.name} in an attached session",
        )


def expire_records(models: Models, session: Session, keys: Iterable[Key]) -> None:
    """Expire the instances of some records in a session, so that they are reloaded."""
    known = session.identity_map
    if not known:
        return
    for key in keys:
        row = known.get(identity_key(models.StoredRecord, key))
        if row is not None:
            session.expire(row)


def lock(context: StoreContext, unit: Unit, cursor: Any) -> None:
    """Make a transaction take the write lock of the database.

    Raises:
        OperationalError: Another connection holds it.
    """
    if unit.locked and cursor.connection.in_transaction:
        return
    try:
        Rows(cursor, context.models).lock()
    except sqlite3.OperationalError as error:
        raise OperationalError("BEGIN IMMEDIATE", None, error) from error
    unit.locked = True


def _old_key(key: Key, record: NotedRecord) -> Key | None:
    if record.origin is not None and record.origin.line is not None:
        # Only its id is read in the line, and only that it is another key counts.
        return "", decode_envelope(record.origin.line.encode()).id
    return key if record.before is not None else None


def _is_older(claim: Claim, *known: Stored | None) -> bool:
    return any(
        one is not None and claim.order_us < one.order_us - one.order_us % claim.precision_us
        for one in known
    )


def _stamp(key: Key, before: Stored, now_ms: int) -> Version:
    return next_version(
        None, before.order_us, before.updated_at, now_ms, collection=key[0], id=key[1]
    )
