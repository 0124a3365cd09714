"""A store at a glance."""

from __future__ import annotations

import os

import attrs

from taskstore._api.store import Store
from taskstore._cache.sql import survey
from taskstore._sync.report import SyncReport


@attrs.frozen
class CollectionSummary:
    """A collection at a glance.

    Attributes:
        collection: Its name.
        records: Live records.
        tombstones: Dead ones.
        problems: Lines that are no record.
        bytes: The length of the log.
        last_write: The newest version in it, in milliseconds since the epoch; None if there is
            none.
        state: What the sync found: "fresh", "noted", "tail", "replayed" or "removed".
        new_lines: How many lines the cache did not have yet.
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
            found.append(
                CollectionSummary(
                    part.collection,
                    part.records or 0,
                    part.tombstones or 0,
                    part.problem_count,
                    _size(store, part.collection),
                    survey.last_write(connection, part.collection),
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


@attrs.frozen
class Index:
    """An indexed field.

    Attributes:
        collection: Its collection.
        field: Its name.
        type: The type that a record class gives it; "any" where the settings name it.
        source: "config.toml" or "record type".
        records: How many records have a value in it.
    """

    collection: str
    field: str
    type: str
    source: str
    records: int


def indexes(store: Store) -> list[Index]:
    """Return the indexed fields of a store, by collection and name."""
    with store.session(read_only=True) as session:
        rows = survey.index_sizes(session.connection())
    return [
        Index(collection, field, type, "config.toml" if type == "any" else "record type", count)
        for collection, field, type, count in rows
    ]
