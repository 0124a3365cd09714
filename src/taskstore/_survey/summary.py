"""A store at a glance."""

from __future__ import annotations

import os

import attrs

from taskstore._store.report import SyncReport
from taskstore._store.store import Store

__all__ = ["CollectionSummary", "summaries"]

_LAST = """
    SELECT max(updated_at) FROM (
        SELECT max(updated_at) AS updated_at FROM records WHERE collection = ?1
        UNION ALL SELECT max(updated_at) FROM tombstones WHERE collection = ?1
    )
"""


@attrs.frozen
class CollectionSummary:
    """A collection at a glance.

    Attributes:
        collection: its name.
        records: live records.
        tombstones: dead ones.
        problems: lines that are no record.
        bytes: the length of the log.
        last_write: the newest version in it, in milliseconds since the epoch; None if there is
            none.
        state: what the sync found: "fresh", "noted", "tail", "replayed" or "removed".
        new_lines: how many lines the cache did not have yet.
    """

    collection: str
    records: int
    tombstones: int
    problems: int
    bytes: int
    last_write: int | None
    state: str
    new_lines: int


def summaries(store: Store, report: SyncReport) -> list[CollectionSummary]:
    """Return each collection of a store that has just been synced, by name."""
    found = []
    with store.session(read_only=True) as session:
        connection = session.connection()
        for part in report:
            if part.action == "removed":
                continue
            row = connection.exec_driver_sql(_LAST, (part.collection,)).one()
            found.append(
                CollectionSummary(
                    part.collection,
                    part.records or 0,
                    part.tombstones or 0,
                    part.problem_count,
                    _size(store, part.collection),
                    row[0] or None,
                    part.action,
                    part.lines,
                )
            )
    return found


def _size(store: Store, collection: str) -> int:
    try:
        return os.stat(store.path / f"{collection}.jsonl").st_size
    except FileNotFoundError:
        return 0
