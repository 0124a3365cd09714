"""The tables of a mirrored model.

With joined inheritance a record has rows in several tables. Each table has triggers of its own. In
the outbox, a row of a subclass's table says which table it is from.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Table

from taskstore._mirror.model.counted_keys import Translated
from taskstore._mirror.model.shape import Mirror
from taskstore._mirror.tables.writing import key_columns
from taskstore._postgres.names import literal, quoted

PART = "$table"
"""The key that names the table in the content of an outbox row, if it is not that of the base."""


def content_of(mirror: Mirror, table: Table, alias: str) -> str:
    """Return SQL for the content of the outbox row of a row.

    Args:
        mirror: The model.
        table: The table that the row is in.
        alias: What SQL calls the row.
    """
    if table is mirror.table:
        return f"row_to_json({alias})"
    named = f"SELECT {alias}.*, {literal(table.name)} AS {quoted(PART)}"
    return f"(SELECT row_to_json(part) FROM ({named}) part)"


def is_from(mirror: Mirror, table: Table, alias: str) -> str:
    """Return the SQL condition that an outbox row of a model is from one of its tables.

    Args:
        mirror: The model.
        table: The table.
        alias: What SQL calls the outbox.
    """
    if not mirror.is_joined:
        return "true"
    named = f"{alias}.content->>{literal(PART)}"
    return f"{named} IS NULL" if table is mirror.table else f"{named} = {literal(table.name)}"


def keys_in(mirror: Mirror, table: Table) -> list[Column[Any]]:
    """Return the columns of a table that are the key of its records."""
    shape = next(shape for shape in mirror.shapes if table in shape.tables)
    return key_columns(mirror, shape, table)


def columns_in(mirror: Mirror, table: Table) -> list[Column[Any]]:
    """Return the columns of a table that lines need."""
    found: dict[str, Column[Any]] = {}
    for shape in mirror.shapes:
        found |= {column.name: column for column, _ in shape.columns_in(table)}
    for column in keys_in(mirror, table):
        found.setdefault(column.name, column)
    version = mirror.version
    if version is not None and version.column.table is table:
        found[version.column.name] = version.column
    return list(found.values())


def translated_in(mirror: Mirror, table: Table) -> list[tuple[Column[Any], Translated]]:
    """Return the columns of a table that have numbers of this database, and what they stand for."""
    columns = ((column, mirror.translated(column)) for column in columns_in(mirror, table))
    return [(column, found) for column, found in columns if found is not None]
