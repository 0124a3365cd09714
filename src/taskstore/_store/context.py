"""What the parts of one open store share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
from sqlalchemy.engine import Engine

from taskstore._cache.schema.models import Models
from taskstore._format.fingerprint import Fingerprint
from taskstore._format.problems import Problem
from taskstore._log.commit import LogWriter
from taskstore._log.digest import Digester
from taskstore._log.gate import Gate, LocalGate
from taskstore._log.layout import Layout
from taskstore._log.locks import Lock
from taskstore._log.recovery import recover
from taskstore._log.trust import Mark
from taskstore._store.mirrored_models import MirroredModels
from taskstore._store.seal import CacheSeal
from taskstore._store.shapes import Shapes
from taskstore.errors import StoreClosedError, StoreReadOnlyError


@attrs.define(eq=False)
class StoreContext:
    """The facts and resources of one open store.

    Attributes:
        layout: Where its files are.
        engine: The cache's engine.
        models: The cache's declarative models.
        gate: The lock for fairness among writers, first open and upgrades.
        log_lock: The lock under which logs are read and written.
        writer: Appends to the logs.
        clock: The time in milliseconds since the epoch.
        lock_timeout: How long to wait for a lock, in seconds.
        read_only: Whether nothing may be written anywhere.
        own_engine: Whether the engine, and so the cache file, is the store's own.
        refresh: Whether a unit of work first looks whether the logs have changed.
        migrate: Whether the schema may be upgraded.
        create: Whether the directory may be made, also when it vanishes later.
        mirrors: The application's models that live in collections.
        seal: That of the store's own cache file; None where the cache is elsewhere.
        known: The fingerprint of each log as the cache last committed it; a hint that saves a
            query, never more than the cache itself says.
        shapes: In which shape lines are read and written.
        rows_count: Whether rows of mirrored tables were just written by migrations: where one
            differs from a line that has not changed since it was last read, the row counts.
        recovered: What recovery could not settle since the store was opened, and journals that it
            set aside.
        on_progress: Called while a log is read, with its collection and the bytes read and to
            read.
        past: What a store of the past is called in messages; None for any other store.
        on_close: Called when the store is closed.
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
    mirrors: MirroredModels
    seal: CacheSeal | None = None
    shapes: Shapes = attrs.field(factory=Shapes)
    rows_count: bool = False
    recovered: list[Problem] = attrs.field(factory=list)
    known: dict[str, Fingerprint] = attrs.field(factory=dict)
    closed: bool = False
    on_progress: Callable[[str, int, int], None] | None = None
    past: str | None = None
    on_close: Callable[[], None] | None = None

    @property
    def digester(self) -> Digester:
        """What digests the logs of this clone."""
        return self.layout.reader_digester if self.read_only else self.layout.digester

    @property
    def path(self) -> Path:
        """The store directory."""
        return self.layout.directory

    @property
    def mark(self) -> Mark:
        """What shows that a cache or a journal was made by this clone."""
        return self.layout.reader_mark if self.read_only else self.layout.mark

    def recover(self) -> None:
        """Settle what a crash has left; the caller holds the log lock.

        Raises:
            RecoveryError: The journal cannot be read, applied or removed.
            LockTimeoutError: Another program has locked a log for too long.
        """
        self.recovered += recover(self.layout, lock_timeout=self.lock_timeout)

    def read_only_error(self, operation: str) -> StoreReadOnlyError:
        """Return the error for a write on what is only for reading.

        Args:
            operation: What was to be done.
        """
        if self.past is None:
            return StoreReadOnlyError(self.path, operation=operation)
        remedy = "what was cannot be changed: write to the store itself"
        return StoreReadOnlyError(self.past, operation=operation, remedy=remedy)

    def check_open(self) -> None:
        """Raise StoreClosedError after `close`."""
        if self.closed:
            raise StoreClosedError(self.path)
