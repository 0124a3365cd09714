"""What the parts of one open store share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
from sqlalchemy.engine import Engine

from taskstore._cache.models import Models
from taskstore._format.fingerprint import Fingerprint
from taskstore._log.commit import LogWriter
from taskstore._log.gate import Gate
from taskstore._log.layout import Layout
from taskstore._log.locks import Lock
from taskstore._mirror.registry import Mirrors
from taskstore._store.local_gate import LocalGate
from taskstore.errors import StoreClosedError


@attrs.define(eq=False)
class StoreContext:
    """The facts and resources of one open store.

    Attributes:
        layout: where its files are.
        engine: the cache's engine.
        models: the cache's declarative models.
        gate: the lock for fairness among writers, first open and upgrades.
        log_lock: the lock under which logs are read and written.
        writer: appends to the logs.
        clock: the time in milliseconds since the epoch.
        lock_timeout: how long to wait for a lock, in seconds.
        read_only: whether nothing may be written anywhere.
        own_engine: whether the engine, and so the cache file, is the store's own.
        refresh: whether a unit of work first looks whether the logs have changed.
        migrate: whether the schema may be upgraded.
        create: whether the directory may be made, also when it vanishes later.
        mirrors: the application's models that live in collections.
        known: the fingerprint of each log as the cache last committed it; a hint that saves a
            query, never more than the cache itself says.
        on_progress: called while a log is read, with its collection and the bytes read and to
            read.
    """

    layout: Layout
    engine: Engine
    models: Models
    gate: Gate | LocalGate
    log_lock: Lock
    writer: LogWriter
    clock: Callable[[], int]
    lock_timeout: float
    read_only: bool
    own_engine: bool
    refresh: bool
    migrate: bool
    create: bool
    mirrors: Mirrors = attrs.field(factory=Mirrors)
    known: dict[str, Fingerprint] = attrs.field(factory=dict)
    closed: bool = False
    on_progress: Callable[[str, int, int], None] | None = None

    @property
    def path(self) -> Path:
        """The store directory."""
        return self.layout.directory

    def check_open(self) -> None:
        """Raise StoreClosedError after `close`."""
        if self.closed:
            raise StoreClosedError(self.path)
