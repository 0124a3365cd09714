"""Which fields a collection's records have, and which JSON types are in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taskstore._store.store import Store
from taskstore._survey.nearest import nearest
from taskstore.errors import UnknownFieldError

__all__ = ["KNOWN", "check_fields", "field_kinds", "field_names", "ids_from", "ids_meant"]

KNOWN = ("id", "updated_at")
"""The fields that every record may have."""

_SAMPLE = 1000
_MOST_IDS = 10_000

_KINDS = """
    SELECT DISTINCT kind FROM (
        SELECT json_type(data_json, ?) AS kind FROM records
        WHERE collection = ? AND kind IS NOT NULL LIMIT ?
    )
"""
_NAMES = """
    SELECT DISTINCT key FROM records, json_each(data_json) WHERE collection = ? ORDER BY key
"""
_IDS = "SELECT id FROM records WHERE collection = ? LIMIT ?"
_IDS_FROM = """
    SELECT id FROM records WHERE collection = ? AND id >= ? AND substr(id, 1, ?) = ?
    ORDER BY id LIMIT ?
"""
_ANY = "SELECT 1 FROM records WHERE collection = ? LIMIT 1"


def field_kinds(store: Store, collection: str, name: str) -> frozenset[str]:
    """Return the JSON types that SQLite finds under a field: text, integer, real, true, ...

    They are those of the first 1,000 records that have the field; none where no record has it.
    """
    if '"' in name:
        # SQLite's paths cannot say it.
        return frozenset()
    return frozenset(_column(store, _KINDS, f'$."{name}"', collection, _SAMPLE))


def field_names(store: Store, collection: str) -> list[str]:
    """Return the names of all fields that any record of a collection has, sorted."""
    return _column(store, _NAMES, collection)


def ids_meant(store: Store, collections: Iterable[str], id: str, most: int) -> list[str]:
    """Return the ids that were probably meant: those that begin with a text, or else the nearest.

    Of a large collection it knows 10,000 that may be near.

    Args:
        store: where to look.
        collections: in which of its collections.
        id: the id that is none.
        most: how many to return at most.
    """
    names = list(collections)
    if id:
        longer = {found for name in names for found in ids_from(store, name, id, most)}
        if longer:
            return sorted(longer)[:most]
    known = (found for name in names for found in _column(store, _IDS, name, _MOST_IDS))
    meant = nearest(id, known)
    return [] if meant is None else [meant]


def ids_from(store: Store, collection: str, start: str, limit: int) -> list[str]:
    """Return the first ids that begin with a text, in their order."""
    return _column(store, _IDS_FROM, collection, start, len(start), start, limit)


def check_fields(store: Store, collection: str, names: Iterable[str]) -> None:
    """See to it that some record has each of some fields; an empty collection may have any.

    Raises:
        UnknownFieldError: none has; with the nearest name.
    """
    for name in names:
        if name in KNOWN or field_kinds(store, collection, name):
            continue
        if _column(store, _ANY, collection):
            raise UnknownFieldError(
                name,
                type_name=f"collection {collection!r}",
                nearest=nearest(name, field_names(store, collection)),
            )


def _column(store: Store, sql: str, *parameters: Any) -> list[Any]:
    with store.session(read_only=True) as session:
        return [row[0] for row in session.connection().exec_driver_sql(sql, parameters)]
