"""The fields that the cache indexes because of the settings, besides those of record types."""

from __future__ import annotations

from collections.abc import Iterable

from taskstore._cache.rows.rows import Rows
from taskstore._log.layout import Layout
from taskstore._records.indexing import IndexField
from taskstore._store.settings import read_settings

UNTYPED = "any"
"""The type of an indexed field from the settings."""

INDEX_FAULTS = frozenset({"", "indexes"})
"""The faults of settings with which the indexes stay as they were."""


def settings_want(layout: Layout, rows: Rows) -> dict[str, list[IndexField]]:
    """Return the fields to index, for collections whose settings differ from the cache."""
    settings = read_settings(layout)
    if INDEX_FAULTS & settings.faults.keys():
        return {}
    known = rows.all_index_fields()
    untyped = {name for name, fields in known.items() if any(map(is_untyped, fields.values()))}
    wanted = {}
    for collection in sorted({*settings.indexes, *untyped}):
        now = dict(known.get(collection, {}))
        typed = [field for field in now.values() if not is_untyped(field)]
        fields = with_untyped(typed, settings.indexes.get(collection, ()))
        if fields != now:
            wanted[collection] = list(fields.values())
    return wanted


def is_untyped(field: IndexField) -> bool:
    """Return whether the settings name a field."""
    return field.type == UNTYPED


def with_untyped(typed: Iterable[IndexField], names: Iterable[str]) -> dict[str, IndexField]:
    """Return fields by name: those of a record type, and the others that settings name."""
    fields = {field.name: field for field in typed}
    for name in names:
        fields.setdefault(name, IndexField(name, UNTYPED))
    return fields
