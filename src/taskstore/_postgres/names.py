"""Names of tables and columns, quoted for SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
from sqlalchemy import Column, Table
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import text

from taskstore._cache.schema.models import Models

SCHEMA_VERSION = 1
"""Of the outbox; a higher one in a database was made by a newer library."""


@attrs.frozen
class Outbox:
    """The names of our tables that only PostgreSQL has.

    Attributes:
        schema: Their schema, and that of the functions.
        prefix: What their names begin with.
    """

    schema: str
    prefix: str

    @property
    def table(self) -> str:
        """The table of the outbox, quoted, with its schema."""
        return f"{quoted(self.schema)}.{quoted(self.prefix + 'taskstore_outbox')}"

    @property
    def scribe(self) -> str:
        """The table that says which clone has the logs, quoted, with its schema."""
        return f"{quoted(self.schema)}.{quoted(self.prefix + 'taskstore_scribe')}"

    def function(self, kind: str, collection: str) -> str:
        """Return the name of a trigger function, quoted, with its schema."""
        # PostgreSQL cuts names after 63 bytes; a collection may have 64 characters.
        name = f"{self.prefix}taskstore_{kind}_{collection}"
        return f"{quoted(self.schema)}.{quoted(shortened(name))}"


def shortened(name: str) -> str:
    """Return a name that PostgreSQL does not cut."""
    if len(name.encode()) <= 63:
        return name
    import hashlib

    return f"{name[:46]}_{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def outbox_of(connection: Connection, models: Models) -> Outbox:
    """Return where the outbox of a database is, or would be created."""
    name = quoted(f"{models.prefix}taskstore_outbox")
    schema = connection.execute(_SCHEMA, {"name": name}).scalar_one()
    return Outbox(schema, models.prefix)


_SCHEMA: Any = text(
    "SELECT coalesce((SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
    "ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass(:name)), current_schema())"
)


def quoted(name: str) -> str:
    """Return a name, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def for_text(sql: str) -> str:
    """Return SQL for `text()`, which would take a colon in a name for a parameter."""
    return sql.replace(":", r"\:")


def execute_sql(connection: Connection, sql: str) -> Any:
    """Execute SQL without parameters. The driver would take each % in a name for one."""
    return connection.exec_driver_sql(sql.replace("%", "%%"))


def quoted_table(table: Table, dialect: Dialect) -> str:
    """Return the name of a table, with its schema if it states one."""
    found = quoted(table.name)
    return f"{quoted(table.schema)}.{found}" if table.schema else found


def quoted_columns(columns: Iterable[Column[Any]], of: str = "") -> str:
    """Return the names of columns, separated by commas.

    Args:
        columns: The columns.
        of: The alias of their table; "" for none.
    """
    dot = f"{of}." if of else ""
    return ", ".join(dot + quoted(column.name) for column in columns)
