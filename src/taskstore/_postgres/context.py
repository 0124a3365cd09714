"""The state that the parts of a store on PostgreSQL share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.sql import text

from taskstore._cache.evolution.marks import Mark
from taskstore._evolution.graph import Position
from taskstore._format.names import EVOLUTIONS
from taskstore._mirror.model.registry import registry
from taskstore._mirror.model.shape import Mirror
from taskstore._postgres.cache import CacheTables
from taskstore._postgres.names import SCHEMA_VERSION, Outbox, execute_sql, for_text
from taskstore._postgres.stated import StatedEvolutions
from taskstore._postgres.triggers import PROJECTING
from taskstore._store.context import StoreContext
from taskstore.errors import OutboxOwnerError, SchemaVersionError

Reached = tuple[Position, Position]
"""The evolutions that a table has behind it, and those that were reverted."""


@attrs.define(eq=False)
class PostgresContext:
    """The facts and resources of one open store on PostgreSQL.

    Attributes:
        store: What it has in common with stores on SQLite.
        engine: Of our own connections, which the application's pool does not count.
        outbox: The names of its tables.
        place: How other clones are told where this one is.
        guard: Called before a log is read or written for the database; it raises to prevent that.
        stated: What evolutions.jsonl states.
        shared: The mirrored collections of the last batch, whose tables a drain holds.
        held: The mirrored collections whose tables cannot be migrated before the transaction under
            the log lock ends; None for all.
        marks: Which rows of the outbox are from before the last evolution, by collection. As the
            shapes of `store`, it is only changed under the log lock.
        hidden: The mirrored records whose newest line is of a newer revision, by collection;
            likewise.
        reached: The evolutions that the database had behind it when the store was opened, by
            mirrored collection.
    """

    store: StoreContext
    engine: Engine
    outbox: Outbox
    place: str
    guard: Callable[[], None] = lambda: None
    stated: StatedEvolutions = attrs.field(init=False)
    shared: frozenset[str] = frozenset()
    held: frozenset[str] | None = None
    marks: Mapping[str, Mark] = attrs.field(factory=dict)
    hidden: Mapping[str, set[str]] = attrs.field(factory=dict)
    reached: Mapping[str, Reached] = attrs.field(factory=dict)

    @stated.default
    def _stated(self) -> StatedEvolutions:
        return StatedEvolutions(self.store.layout)

    @property
    def mirrors(self) -> Mapping[str, Mirror]:
        """The mirrored models by collection."""
        return registry(self.store).by_collection

    def own_collections(self, connection: Connection) -> list[str]:
        """Return the names of the store's own collections: all that are not those of models."""
        stored = CacheTables(connection, self.store.models).collections()
        logs, _ = self.store.layout.collections()
        return sorted({*stored, *logs} - self.mirrors.keys() - {EVOLUTIONS})

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction with one snapshot, on a connection of our own."""
        with self.engine.connect() as connection:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    def claim(self, connection: Connection) -> None:
        """Wait for the other scribes, and see that this clone has the logs.

        Args:
            connection: In the transaction that is to write them.

        Raises:
            OutboxOwnerError: Another clone has them.
            SchemaVersionError: A newer library made the outbox.
        """
        scribe, mark = self.outbox.scribe, self.store.mark.id
        # What a crash of the server takes back is done again from the log, so nothing waits for the
        # disk of the database here. The driver reads all digits, dates and intervals whatever the
        # settings of the role are. Timeouts are for applications: a scribe would only begin again.
        version, clone, place, *_ = execute_sql(
            connection,
            "SELECT version, clone, place, set_config('synchronous_commit', 'off', true), "
            "set_config('extra_float_digits', '1', true), set_config('datestyle', 'ISO', true), "
            "set_config('intervalstyle', 'postgres', true), "
            "set_config('statement_timeout', '0', true), "
            "set_config('idle_in_transaction_session_timeout', '0', true) "
            f"FROM {scribe} FOR UPDATE",
        ).one()
        if version > SCHEMA_VERSION:
            raise SchemaVersionError(found=f"outbox {version}", expected=f"outbox {SCHEMA_VERSION}")
        if clone == mark:
            return
        if clone is not None:
            raise OutboxOwnerError(place=place or "unknown")
        self.put_owner(connection)

    def put_owner(self, connection: Connection) -> None:
        """Note that this clone has the logs."""
        connection.execute(
            text(f"UPDATE {for_text(self.outbox.scribe)} SET clone = :clone, place = :place"),
            {"clone": self.store.mark.id, "place": self.place},
        )

    def begin_projecting(self, connection: Connection) -> None:
        """Allow a transaction to write tables from the log; `projecting` says which."""
        execute_sql(
            connection, f"UPDATE {self.outbox.scribe} SET projecting = pg_current_xact_id()"
        )


def projecting(connection: Connection, mirror: Mirror) -> None:
    """Exempt the statements that follow, on the table of one model, from capture and stamps."""
    connection.execute(_PROJECTING, {"name": PROJECTING, "value": mirror.collection})


_PROJECTING: Any = text("SELECT pg_catalog.set_config(:name, :value, true)")


def own_engine(engine: Engine) -> Engine:
    """Return an engine on the same database, with a pool and a dialect of its own."""
    with engine.connect():
        # Asks the server what it can do, once.
        pass
    return Engine(engine.pool.recreate(), copy.copy(engine.dialect), engine.url)
