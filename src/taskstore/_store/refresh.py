"""When to sync: before a unit of work, at open, and when asked.

Readers wait for nobody: while a writer holds a lock and the log has only grown, the last committed
cache is what they are served. Writers sync in their own transaction, so that what they stamp and
check against is what the log says.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection, Engine

from taskstore._cache.guard import permitted
from taskstore._cache.rows import Rows
from taskstore._cache.sqlite import no_waiting
from taskstore._format.fingerprint import Fingerprint
from taskstore._log import files
from taskstore._log.fingerprint import checksum
from taskstore._records.types import RecordCodec
from taskstore._store.access import access
from taskstore._store.catalog import Catalog
from taskstore._store.context import StoreContext
from taskstore._store.freshness import Stale, find_stale, looks_fresh, stat_log
from taskstore._store.report import SyncReport
from taskstore._store.sync import Progress, Sync
from taskstore._store.transaction import WRITER, TransactionHook, Unit

if TYPE_CHECKING:
    from taskstore._store.mirror_sync import MirrorSync


class Refresher:
    """Keeps one store's cache equal to its logs."""

    def __init__(self, context: StoreContext, transactions: TransactionHook) -> None:
        self._context = context
        self._transactions = transactions
        self._writing: Engine = context.engine.execution_options(**WRITER)

    def before_read(self, collections: Sequence[str] | None) -> None:
        """See to it that a read finds the logs as they are.

        Args:
            collections: those that will be read; None for all.

        Raises:
            StoreAccessError: a log cannot be read.
            LockTimeoutError: a log was rewritten, and a writer held a lock for too long.
        """
        if collections is not None and self._remembered(collections):
            return
        with self._context.engine.connect() as connection:
            rows = _rows(self._context, connection)
            stale = find_stale(self._context, rows, collections)
            names = self._with_these(stale, rows)
        if stale and not self._try(names) and not all(map(self._may_be_served, stale)):
            self.sync(names)

    def in_transaction(self, connection: Connection, collections: Iterable[str] | None) -> None:
        """See to it that an open write transaction works on the logs as they are."""
        if collections is not None and self._remembered(collections):
            return
        rows = _rows(self._context, connection)
        stale = find_stale(self._context, rows, collections)
        if stale:
            self._run(connection, self._with_these(stale, rows))

    def sync(
        self,
        collections: Iterable[str] | None = None,
        *,
        force: bool = False,
        on_progress: Progress | None = None,
        counted: bool = False,
        prune: bool = False,
    ) -> SyncReport:
        """Bring the cache up to date, waiting for whoever holds a lock."""
        with self._writing.begin() as connection:
            return self._run(
                connection,
                collections,
                force=force,
                on_progress=on_progress,
                counted=counted,
                prune=prune,
            )

    @contextmanager
    def rewriting(
        self, collections: Iterable[str] | None
    ) -> Iterator[tuple[Connection, Rows, Unit, SyncReport]]:
        """A write transaction under the log lock; nobody who takes locks disturbs it.

        Args:
            collections: those to bring up to date first; None for all that are stale.
        """
        context = self._context
        with self._writing.begin() as connection:
            rows = _rows(context, connection)
            unit = self._transactions.unit(connection)
            if collections is None:
                collections = [item.collection for item in find_stale(context, rows, None)]
            with context.log_lock.hold(context.lock_timeout):
                mirrored = _mirrored(context, connection, rows, unit)
                run = Sync(context, rows, unit, mirrored=mirrored)
                yield connection, rows, unit, run.run(collections)

    def catch_up(self) -> None:
        """Bring mirrored tables to what the cache has, where that was not done as they are now.

        Raises:
            InvalidDeclarationError: there is no table for a collection that has records.
        """
        if not self._context.mirrors:
            return
        from taskstore._store.mirror_sync import late_mirrors  # most stores mirror nothing

        with self._context.engine.connect() as connection:
            rows = _rows(self._context, connection)
            late = late_mirrors(self._context, connection, rows, rows.mirror_states())
        if late:
            self.sync(())

    def teach(self, catalog: Catalog, codec: RecordCodec[Any]) -> None:
        """Have the cache index what a record type asks for."""
        with self._context.engine.connect() as connection:
            wanted = catalog.wants(codec, _rows(self._context, connection))
        if wanted:
            with self._writing.begin() as connection:
                catalog.teach(codec, _rows(self._context, connection))
        catalog.mark_taught(codec)

    def teach_settings(self, catalog: Catalog) -> None:
        """Have the cache index what the settings name."""
        with self._context.engine.connect() as connection:
            wanted = catalog.settings_want(_rows(self._context, connection))
        if wanted:
            with self._writing.begin() as connection:
                catalog.teach_settings(_rows(self._context, connection))

    def is_stale(self) -> bool:
        """Whether any log is not what the cache holds; looks at bytes where times do not tell."""
        with self._context.engine.connect() as connection:
            rows = _rows(self._context, connection)
            stale = find_stale(self._context, rows, None)
            recorded = rows.fingerprints()
        return any(not self._same_bytes(item.collection, recorded) for item in stale)

    def _with_these(self, stale: list[Stale], rows: Rows) -> list[str]:
        """The collections to sync when some are stale: all that are.

        A transaction over several that a crash cut short, and recovery kept, must come into the
        cache at once: whoever reads without waiting is served half of it otherwise.
        """
        if not stale:
            return []
        others = find_stale(self._context, rows, None)
        return sorted({item.collection for item in (*stale, *others)})

    def _may_be_served(self, item: Stale) -> bool:
        """Whether the cache can answer for a log that cannot be read anew at the moment."""
        return item.only_grown or self._same_bytes(item.collection, self._context.known)

    def _same_bytes(self, collection: str, recorded: dict[str, Fingerprint]) -> bool:
        known = recorded.get(collection)
        if known is None:
            return False
        path = self._context.layout.log_path(collection)
        with access(path):
            try:
                fd = files.open_log(path)
            except FileNotFoundError:
                return False
            try:
                size = os.fstat(fd).st_size
                return size == known.size and checksum(fd, size) == known.checksum
            except EOFError:
                return False
            finally:
                os.close(fd)

    def _remembered(self, collections: Iterable[str]) -> bool:
        known = self._context.known
        return all(
            name in known and looks_fresh(known[name], stat_log(self._context, name))
            for name in collections
        )

    def _run(
        self,
        connection: Connection,
        collections: Iterable[str] | None,
        *,
        force: bool = False,
        on_progress: Progress | None = None,
        counted: bool = False,
        prune: bool = False,
    ) -> SyncReport:
        context = self._context
        unit = self._transactions.unit(connection)
        driver = connection.connection.driver_connection
        with context.log_lock.hold(context.lock_timeout), permitted(driver):
            rows = _rows(context, connection)
            mirrored = _mirrored(context, connection, rows, unit, prune=prune)
            run = Sync(context, rows, unit, force, on_progress, counted, mirrored)
            return run.run(collections)

    def _try(self, collections: list[str]) -> bool:
        """Sync if no lock has to be waited for; False if one would have to be."""
        context = self._context
        if not context.gate.try_acquire():
            return False
        try:
            return self._try_in_gate(collections)
        finally:
            context.gate.release()

    def _try_in_gate(self, collections: list[str]) -> bool:
        context = self._context
        with no_waiting(context.engine) as connection:
            if connection is None or not context.log_lock.try_acquire():
                return False
            try:
                rows = _rows(context, connection)
                with permitted(connection.connection.driver_connection):
                    unit = self._transactions.unit(connection)
                    mirrored = _mirrored(context, connection, rows, unit)
                    Sync(context, rows, unit, mirrored=mirrored).run(collections)
                connection.commit()
            finally:
                context.log_lock.release()
        return True


def _mirrored(
    context: StoreContext, connection: Connection, rows: Rows, unit: Unit, *, prune: bool = False
) -> MirrorSync | None:
    if not context.mirrors and not rows.mirror_states():
        return None
    from taskstore._store.mirror_sync import MirrorSync  # most stores mirror nothing

    return MirrorSync(context, connection, rows, unit, prune)


def _rows(context: StoreContext, connection: Connection) -> Rows:
    return Rows(connection.connection.cursor(), context.models)
