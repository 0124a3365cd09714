"""Log the rows of mirrored tables that an application's migrations have changed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from taskstore._api.opening import mirrors_of
from taskstore._api.store import Store
from taskstore._cache.evolution.migrated import ChangeWatch, note_migrated
from taskstore._cache.schema.models import Models
from taskstore._cache.schema.names import HEAD
from taskstore._cache.schema.revisions import read_revision
from taskstore._mirror.tables.reading import any_row
from taskstore.errors import InvalidDeclarationError, RecordSkippedWarning


class Upgrade:
    """A transaction of migrations on the tables of a store.

    Args:
        connection: A connection in a transaction that has done nothing yet.
        path: The store directory.
        targets: The mirrored models, as for `Store.open`.
        models: The models of our tables.

    Raises:
        InvalidDeclarationError: A model cannot be mirrored.
    """

    def __init__(
        self,
        connection: Connection,
        path: str | os.PathLike[str],
        targets: Iterable[Any],
        models: Models,
    ) -> None:
        self._connection = connection
        self._path = path
        self._targets = targets
        self._models = models
        self._mirrors = mirrors_of(targets, connection.engine, models)
        self._filled = {
            mirror.collection: _has_rows(connection, mirror) for mirror in self._mirrors
        }
        self._watch = ChangeWatch(connection)

    def note(self) -> bool:
        """At the end of the transaction, note in it which rows to log.

        Returns:
            Whether they can be logged now.

        Warns:
            RecordSkippedWarning: They cannot, because the tables do not fit the models, for example
                after a downgrade. The next store with models that fit logs them.
        """
        if not self._watch.has_changes():
            return False
        if read_revision(self._connection, self._models.version_table) != HEAD:
            return False
        note_migrated(self._connection, self._models, self._filled)
        missing = self._missing()
        if missing:
            warnings.warn(
                f"{missing}, which its model has: what these revisions have written is logged when "
                "the store is opened with models of this revision",
                RecordSkippedWarning,
                stacklevel=5,
            )
        return not missing

    def _missing(self) -> str:
        """Return which column of a model its table lacks, as text; empty if the models fit."""
        inspector = sa.inspect(self._connection)
        for mirror in self._mirrors:
            for table in {table for shape in mirror.shapes for table in shape.tables}:
                if not inspector.has_table(table.name):
                    return f"there is no table {table.name!r}"
                there = {column["name"] for column in inspector.get_columns(table.name)}
                for column in table.columns:
                    if column.name not in there:
                        return f"the table {table.name!r} lacks the column {column.name!r}"
        return ""

    def end(self) -> None:
        """Restore the connection, whether the transaction succeeded or not."""
        self._watch.end()

    def log(self) -> None:
        """After the commit, log the noted rows. Any store that mirrors the tables can do that.

        Raises:
            TaskstoreError: As for `Store.open` and `Store.export`.
        """
        engine = self._connection.engine
        Store.open(self._path, engine=engine, mirrors=self._targets, models=self._models).close()


def _has_rows(connection: Connection, mirror: Any) -> bool:
    try:
        return any_row(connection, mirror)
    except InvalidDeclarationError:
        # The migrations are about to create it.
        return False
