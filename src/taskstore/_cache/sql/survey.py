"""Counts and field names of collections, read from the tables of a store's own cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

Execute: TypeAlias = Callable[..., Iterable[Any]]
"""Executes SQL with a sequence of parameters, as a cursor of the driver does."""

_KINDS = """
    SELECT DISTINCT kind FROM (
        SELECT json_type(data_json, ?) AS kind FROM records
        WHERE collection = ? AND kind IS NOT NULL LIMIT ?
    )
"""
_NAMES = """
    SELECT DISTINCT key FROM records, json_each(data_json) WHERE collection = ? ORDER BY key
"""
_FIELDS = """
    SELECT key, type, count(*) FROM records, json_each(data_json)
    WHERE collection = ? GROUP BY key, type ORDER BY key, type
"""
_VALUES = """
    SELECT DISTINCT value FROM (
        SELECT CASE json_type(data_json, ?1)
            WHEN 'true' THEN 'true' WHEN 'false' THEN 'false'
            WHEN 'array' THEN NULL WHEN 'object' THEN NULL
            ELSE CAST(json_extract(data_json, ?1) AS TEXT) END AS value
        FROM records WHERE collection = ?2 LIMIT ?3
    )
    WHERE value IS NOT NULL AND substr(value, 1, ?4) = ?5 ORDER BY value LIMIT ?6
"""
_IDS = "SELECT id FROM records WHERE collection = ? LIMIT ?"
_IDS_FROM = """
    SELECT id FROM records WHERE collection = ? AND id >= ? AND substr(id, 1, ?) = ?
    ORDER BY id LIMIT ?
"""
_COUNT = "SELECT count(*) FROM records WHERE collection = ?"
_ANY = "SELECT 1 FROM records WHERE collection = ? LIMIT 1"
_LAST = """
    SELECT max(updated_at) FROM (
        SELECT max(updated_at) AS updated_at FROM records WHERE collection = ?1
        UNION ALL SELECT max(updated_at) FROM tombstones WHERE collection = ?1
    )
"""
_INDEXES = """
    SELECT fields.collection, field_name, field_type, (
        SELECT count(*) FROM record_indexes AS rows
        WHERE rows.collection = fields.collection AND rows.field_name = fields.field_name
    )
    FROM record_index_fields AS fields ORDER BY 1, 2
"""
_INDEXED = "SELECT field_name FROM record_index_fields WHERE collection = ?"
_TOMBSTONES = "SELECT id, updated_at, updated_at_text FROM tombstones WHERE collection = ?"


def field_kinds(execute: Execute, collection: str, name: str, sample: int) -> frozenset[str]:
    """Return the JSON types that SQLite finds under a field: text, integer, real, true, ...

    They are those of the first `sample` records that have the field; none where no record has it.
    """
    if '"' in name:
        # SQLite's paths cannot say it.
        return frozenset()
    return frozenset(_column(execute, _KINDS, f'$."{name}"', collection, sample))


def field_names(execute: Execute, collection: str) -> list[str]:
    """Return the names of all fields that any record of a collection has, sorted."""
    return _column(execute, _NAMES, collection)


def contents(execute: Execute, collections: Sequence[str]) -> Sequence[tuple[str, int, list[str]]]:
    """Return each of some collections with the number of its records and their `field_names`."""
    return [
        (name, *_column(execute, _COUNT, name), field_names(execute, name)) for name in collections
    ]


def fields(execute: Execute, collection: str) -> Sequence[tuple[str, str, int]]:
    """Return each field with each JSON type that it has, and how many records have it."""
    return [tuple(row) for row in execute(_FIELDS, (collection,))]


def indexed_fields(execute: Execute, collection: str) -> list[str]:
    """Return the names of the indexed fields of a collection."""
    return _column(execute, _INDEXED, collection)


def values_from(
    execute: Execute, collection: str, name: str, start: str, sample: int, limit: int
) -> list[str]:
    """Return values of a field that begin with a text, as text; lists and objects left out.

    They are those of the first `sample` records.
    """
    if '"' in name:
        return []
    path = f'$."{name}"'
    return _column(execute, _VALUES, path, collection, sample, len(start), start, limit)


def some_ids(execute: Execute, collection: str, limit: int) -> list[str]:
    """Return ids of a collection, in no order."""
    return _column(execute, _IDS, collection, limit)


def ids_from(execute: Execute, collection: str, start: str, limit: int) -> list[str]:
    """Return the first ids that begin with a text, in their order."""
    return _column(execute, _IDS_FROM, collection, start, len(start), start, limit)


def has_records(execute: Execute, collection: str) -> bool:
    """Say whether a collection has a record."""
    return bool(_column(execute, _ANY, collection))


def last_write(execute: Execute, collection: str) -> int | None:
    """Return the newest version in a collection, in ms since the epoch; None if there is none."""
    found: int | None = _column(execute, _LAST, collection)[0]
    return found or None


def index_sizes(execute: Execute) -> Sequence[tuple[str, str, str, int]]:
    """Return the collection, name and type of each indexed field, and how many rows it has."""
    return [tuple(row) for row in execute(_INDEXES)]


def tombstones(execute: Execute, collection: str) -> Sequence[tuple[str, int, str | None]]:
    """Return the id of each deleted record, and its version: in ms, and as text if it is one."""
    return [tuple(row) for row in execute(_TOMBSTONES, (collection,))]


def _column(execute: Execute, sql: str, *parameters: Any) -> list[Any]:
    return [row[0] for row in execute(sql, parameters)]
