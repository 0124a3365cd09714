"""The state of one database transaction until it ends."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import attrs
from sqlalchemy.orm import Session

from taskstore._cache.capture.notes import Notes
from taskstore._format.fingerprint import Fingerprint
from taskstore._log.mutex import Claim
from taskstore._unit.changes import Changes, Key
from taskstore._unit.log_port import Handover

READ_ONLY = "taskstore_read_only"
"""The key of `Session.info` that makes a session one for reading."""

Owner = tuple[int, int, Any]


def current_owner() -> Owner:
    """Return who calls."""
    asyncio = sys.modules.get("asyncio")
    task = None
    # A store that is used without asyncio does not import it.
    if asyncio is not None and asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
    return os.getpid(), threading.get_ident(), task


@attrs.define(eq=False)
class Unit:
    """The state of one database transaction until it ends.

    Attributes:
        changes: The lines that the log receives at commit.
        fingerprints: Of the logs that were read or written in this transaction; None for one that
            is gone or must be looked at again.
        reopenings: Those of the context when it began.
        owner: Who began it through the gate.
        claim: What holds the gate for it.
        locked: Whether the database's write lock was taken.
        notes: Of the rows that were changed; None if nothing is noted.
        planned: The records that a flush is writing, as the log will have them: the line with the
            version in ms and in us, and whether nothing was known of the record before.
        seen: How many rows the connection had changed when its records were last collected.
        marks: How many marks it has left among the notes; see `Notes.mark_records`.
        sessions: Those of the application that take part, and are to learn of stamps.
        missing: For each mirrored collection that was checked, how many rows there are beside a
            log that is not theirs.
        autocommit: Whether it commits what it should not: there is no transaction around it.
        handover: Its way into the log, once that has begun.
    """

    changes: Changes = attrs.field(factory=Changes)
    fingerprints: dict[str, Fingerprint | None] = attrs.field(factory=dict)
    reopenings: int = 0
    owner: Owner | None = None
    claim: Claim | None = None
    locked: bool = False
    notes: Notes | None = None
    planned: dict[Key, tuple[tuple[str, int, int], bool]] = attrs.field(factory=dict)
    seen: int = -1
    marks: int = 0
    sessions: WeakSet[Session] = attrs.field(factory=WeakSet)
    missing: dict[str, int] = attrs.field(factory=dict)
    autocommit: bool = False
    handover: Handover | None = None

    @property
    def is_committed(self) -> bool:
        """Whether lines of it are in the log for good."""
        return self.handover is not None and self.handover.committed

    def mark(self) -> None:
        """Count a mark, which goes with the savepoint in which it was left."""
        self.marks += 1
        self.changes.on_undo(self._unmark)

    def _unmark(self) -> None:
        self.marks -= 1


@contextmanager
def unnoticed(unit: Unit, cursor: Any) -> Iterator[None]:
    """A block in which the store itself writes mirrored tables.

    Args:
        unit: Of the transaction, which is rolled back if the block raises.
        cursor: Of the driver.
    """
    notes = unit.notes
    if notes is None:
        yield
        return
    state, since = notes.state, notes.last(cursor)
    notes.turn("paused")
    try:
        yield
    finally:
        notes.turn(state)
    if notes.last(cursor) > since:
        # Deleted rows are noted in any case.
        notes.clear(cursor, since)
