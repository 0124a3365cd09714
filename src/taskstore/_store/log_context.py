"""The facts about a store's logs that a sync needs, without SQLAlchemy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from taskstore._format.fingerprint import Fingerprint
from taskstore._format.problems import Problem
from taskstore._log.digest import Digester
from taskstore._log.layout import Layout
from taskstore._log.trust import Mark
from taskstore._store.mirrored_models import MirroredModels
from taskstore._store.shapes import Shapes

LOCK_TIMEOUT = 30.0
"""How long to wait for another writer, in seconds."""


@attrs.define(eq=False, kw_only=True)
class LogContext:
    """The logs of one open store, and the known facts about them.

    Attributes:
        layout: Where its files are.
        clock: The time in milliseconds since the epoch.
        lock_timeout: How long to wait for a lock, in seconds.
        read_only: Whether nothing may be written anywhere.
        mirrors: The application's models that live in collections.
        known: The fingerprint of each log as the cache last committed it; a hint that saves a
            query, never more than the cache itself says.
        shapes: In which shape lines are read and written.
        recovered: What recovery could not settle since the store was opened, and journals that it
            set aside.
        on_progress: Called while a log is read, with its collection and the bytes read and to
            read.
        past: What a store of the past is called in messages; None for any other store.
    """

    layout: Layout
    clock: Callable[[], int]
    lock_timeout: float
    read_only: bool
    mirrors: MirroredModels
    known: dict[str, Fingerprint] = attrs.field(factory=dict)
    shapes: Shapes = attrs.field(factory=Shapes)
    recovered: list[Problem] = attrs.field(factory=list)
    on_progress: Callable[[str, int, int], None] | None = None
    past: str | None = None

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
        """The mark that shows whether this clone made a cache or a journal."""
        return self.layout.reader_mark if self.read_only else self.layout.mark

    def recover(self) -> None:
        """Settle what a crash has left. The caller holds the log lock.

        Raises:
            RecoveryError: The journal cannot be read, applied or removed.
            LockTimeoutError: Another program has locked a log for too long.
        """
        from taskstore._log.recovery import recover  # few reads need it

        self.recovered += recover(self.layout, lock_timeout=self.lock_timeout)
