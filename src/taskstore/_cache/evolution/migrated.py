"""Notes of what an application's migrations did to mirrored tables, in their transaction.

The notes are states of mirrored tables. The next store that mirrors the tables logs the rows, so
an end of the process between the COMMIT of the migrations and their log loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from taskstore._cache.schema.models import Models
from taskstore._cache.schema.names import BEHIND, CREATED, MIGRATED

_VERSION_COLUMNS = ["version_num"]
"""The columns of a table in which Alembic keeps its version."""


class ChangeWatch:
    """Tells whether a transaction has changed more than Alembic's version.

    SQLite alone counts changes; for another database the answer is no.
    """

    def __init__(self, connection: Connection) -> None:
        """Begin to watch; the transaction must have begun."""
        self._connection = connection
        self._versions = 0
        self._before = self._counted()
        sa.event.listen(connection, "after_cursor_execute", self._count)

    def has_changes(self) -> bool:
        """Say whether there were changes so far. `alembic stamp` makes none."""
        changes, schema = self._counted()
        return (changes - self._versions, schema) != self._before

    def end(self) -> None:
        """Stop watching."""
        sa.event.remove(self._connection, "after_cursor_execute", self._count)

    def _counted(self) -> tuple[int, int]:
        """Return how many rows the connection has changed, and the version of the schema."""
        if self._connection.dialect.name != "sqlite":
            return 0, 0
        driver = self._connection.connection.driver_connection
        schema = self._connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
        return getattr(driver, "total_changes", 0), schema

    def _count(
        self, connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool
    ) -> None:
        table = getattr(getattr(context.compiled, "statement", None), "table", None)
        if isinstance(table, sa.Table) and list(table.c.keys()) == _VERSION_COLUMNS:
            self._versions += cursor.rowcount


def note_migrated(connection: Connection, models: Models, filled: Mapping[str, bool]) -> None:
    """Note, in the transaction of migrations, that they may have written mirrored tables.

    Args:
        connection: In that transaction.
        models: Of our tables.
        filled: For each mirrored collection, whether its table had rows before.
    """
    table: Any = models.MirrorState.__table__
    found = connection.execute(sa.select(table.c.collection, table.c.digest))
    states: dict[str, str] = {row.collection: row.digest for row in found}
    for collection, had_rows in filled.items():
        place = table.c.collection == collection
        before = states.get(collection)
        if before is None and not had_rows:
            values = {"collection": collection, "digest": CREATED}
            connection.execute(table.insert().values(values))
        elif before == "":
            connection.execute(table.update().where(place).values(digest=BEHIND))
        elif before not in (None, CREATED, BEHIND):
            connection.execute(table.update().where(place).values(digest=MIGRATED))
