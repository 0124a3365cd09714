"""A store at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from taskstore._api.driver_store import DriverStore, ask
from taskstore._cache.sql import survey
from taskstore._log.layout import Layout
from taskstore._sync.report import SyncReport

if TYPE_CHECKING:
    from taskstore._api.store import Store


@attrs.frozen
class CollectionSummary:
    """A collection at a glance.

    Attributes:
        collection: Its name.
        records: Live records.
        tombstones: Deleted records.
        problems: Lines that are not records.
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


def summaries(store: Store | DriverStore, report: SyncReport) -> list[CollectionSummary]:
    """Return each collection of a store that has just been synced, by name."""
    parts = [part for part in report if part.action != "removed"]
    last_writes = ask(store, _last_writes, [part.collection for part in parts])
    return [
        CollectionSummary(
            part.collection,
            part.records or 0,
            part.tombstones or 0,
            part.problem_count,
            _size(store, part.collection),
            last_writes[part.collection],
            part.action,
            part.lines,
        )
        for part in parts
    ]


def _last_writes(execute: survey.Execute, collections: list[str]) -> dict[str, int | None]:
    return {name: survey.last_write(execute, name) for name in collections}


def _size(store: Store | DriverStore, collection: str) -> int:
    found = Layout(store.path).stat_log(collection)
    return 0 if found is None else found.st_size


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


def indexes(store: Store | DriverStore) -> list[Index]:
    """Return the indexed fields of a store, by collection and name."""
    rows = ask(store, survey.index_sizes)
    return [
        Index(collection, field, type, "config.toml" if type == "any" else "record type", count)
        for collection, field, type, count in rows
    ]


@attrs.frozen
class FieldSummary:
    """A field of a collection at a glance.

    Attributes:
        field: Its name.
        types: The JSON types of its values ("string", "number", "boolean", "array", "object",
            "null"), each with the number of records.
        records: How many records have the field.
        indexed: Whether it is indexed.
    """

    field: str
    types: dict[str, int]
    records: int
    indexed: bool


_JSON_TYPES = {
    "text": "string",
    "integer": "number",
    "real": "number",
    "true": "boolean",
    "false": "boolean",
}
"""The JSON types by SQLite's names, if these differ."""


def field_summaries(store: Store | DriverStore, collection: str) -> list[FieldSummary]:
    """Return the fields that the records of a collection have, the most frequent ones first."""
    indexed = set(ask(store, survey.indexed_fields, collection))
    found: dict[str, dict[str, int]] = {}
    for name, kind, count in ask(store, survey.fields, collection):
        types = found.setdefault(name, {})
        type = _JSON_TYPES.get(kind, kind)
        types[type] = types.get(type, 0) + count
    fields = [
        FieldSummary(name, types, sum(types.values()), name in indexed)
        for name, types in found.items()
    ]
    return sorted(fields, key=lambda each: (-each.records, each.field))
