"""The state that the parts of one open store share."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from sqlalchemy.engine import Engine

from taskstore._cache.schema.models import Models
from taskstore._log.commit import LogWriter
from taskstore._log.gate import Gate, LocalGate
from taskstore._log.locks import Lock
from taskstore._store.log_context import LogContext
from taskstore._store.seal import CacheSeal
from taskstore.errors import StoreClosedError, StoreReadOnlyError


@attrs.define(eq=False, kw_only=True)
class StoreContext(LogContext):
    """The facts and resources of one open store.

    Attributes:
        engine: The cache's engine.
        models: The cache's declarative models.
        gate: The lock for fairness among writers, first open and upgrades.
        log_lock: The lock under which logs are read and written.
        writer: Appends to the logs.
        own_engine: Whether the engine, and so the cache file, is the store's own.
        refresh: Whether a unit of work first checks whether the logs have changed.
        migrate: Whether the schema may be upgraded.
        create: Whether the directory may be created, also if it vanishes later.
        seal: The seal of the store's own cache file; None if the cache is elsewhere.
        reopenings: How many times the cache file was left for another one.
        closed: Whether the store was closed.
        on_close: Called when the store is closed.
    """

    engine: Engine
    models: Models
    gate: Gate | LocalGate
    log_lock: Lock
    writer: LogWriter
    own_engine: bool
    refresh: bool
    migrate: bool
    create: bool
    seal: CacheSeal | None = None
    reopenings: int = 0
    closed: bool = False
    on_close: Callable[[], None] | None = None

    def read_only_error(self, operation: str) -> StoreReadOnlyError:
        """Return the error for a write on a read-only store.

        Args:
            operation: The refused operation.
        """
        if self.past is None:
            return StoreReadOnlyError(self.path, operation=operation)
        remedy = "what was cannot be changed: write to the store itself"
        return StoreReadOnlyError(self.past, operation=operation, remedy=remedy)

    def check_open(self) -> None:
        """Raise StoreClosedError after `close`."""
        if self.closed:
            raise StoreClosedError(self.path)
