"""The facts of a store on PostgreSQL without a directory: the database, and where the log is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import attrs
from sqlalchemy.engine import Engine

from taskstore._cache.schema.models import Models
from taskstore._mirror.model.registry import Registry
from taskstore._postgres.names import Outbox, execute_sql
from taskstore.errors import LogElsewhereError, StoreClosedError


@attrs.define(eq=False, kw_only=True)
class ServerContext:
    """The facts of one open store without a directory.

    Attributes:
        engine: The application's.
        models: The models of our tables.
        mirrors: The mirrored models.
        outbox: The names of our tables that only PostgreSQL has.
        lock_timeout: How long a call repeats itself if other transactions are in the way, in
            seconds.
        clock: Returns the time that versions get, in milliseconds since the epoch.
        closed: Whether the store was closed.
        read_only: Always False: such a store writes to the database.
        past: Always None: such a store has today's records.
    """

    engine: Engine
    models: Models
    mirrors: Registry
    outbox: Outbox
    lock_timeout: float
    clock: Callable[[], int]
    closed: bool = False
    read_only: bool = False
    past: str | None = None

    @property
    def name(self) -> str:
        """The store's name in messages."""
        return self.engine.url.render_as_string(hide_password=True)

    @property
    def path(self) -> NoReturn:
        """Raise LogElsewhereError: there is no path here."""
        self.refuse("path")

    def check_open(self) -> None:
        """Raise StoreClosedError after `close`."""
        if self.closed:
            raise StoreClosedError(self.name)

    def refuse(self, call: str) -> NoReturn:
        """Raise LogElsewhereError for a call of the store that needs the log.

        Args:
            call: The call's name.
        """
        self.check_open()
        with self.engine.connect() as connection:
            place = execute_sql(connection, f"SELECT place FROM {self.outbox.scribe}").scalar()
        raise LogElsewhereError(operation=f"Store.{call}", place=place)
