"""Logs what an application's migrations have written to mirrored tables."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from sqlalchemy.engine import Connection

from taskstore._api.opening import mirrors_of
from taskstore._api.store import Store
from taskstore._cache.evolution.migrated import ChangeWatch, note_migrated
from taskstore._cache.schema.models import Models
from taskstore._cache.schema.names import HEAD
from taskstore._cache.schema.revisions import read_revision
from taskstore._mirror.tables.reading import any_row
from taskstore.errors import InvalidDeclarationError


class Upgrade:
    """A transaction of migrations on the tables of a store.

    Args:
        connection: In that transaction, in which nothing has been done yet.
        path: The store directory.
        targets: The mirrored models, as for `Store.open`.
        models: Of our tables.

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
        self._filled = {
            mirror.collection: _has_rows(connection, mirror)
            for mirror in mirrors_of(targets, connection.engine, models)
        }
        self._watch = ChangeWatch(connection)

    def note(self) -> bool:
        """At the end of the transaction, note in it what is to be logged; False for nothing."""
        if not self._watch.has_changes():
            return False
        if read_revision(self._connection, self._models.version_table) != HEAD:
            return False
        note_migrated(self._connection, self._models, self._filled)
        return True

    def end(self) -> None:
        """Leave the connection as it was, whatever has become of the transaction."""
        self._watch.end()

    def log(self) -> None:
        """After the commit, log what was noted: any store that mirrors the tables does.

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
