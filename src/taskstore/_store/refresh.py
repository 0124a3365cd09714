"""When to sync: before a unit of work, at open, and when asked.

Readers wait for nobody: while a writer holds a lock and the log has only grown, the last committed
cache is what they are served. Writers sync in their own transaction, so that what they stamp and
check against is what the log says.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import PoolProxiedConnection

from taskstore._cache.guard import permitted
from taskstore._cache.rows import Rows
from taskstore._cache.sqlite import BUSY_TIMEOUT_MS, WRITE_OPTION
from taskstore._format.fingerprint import Fingerprint
from taskstore._log import files
from taskstore._log.fingerprint import checksum
from taskstore._records.types import RecordCodec
from taskstore._store.catalog import Catalog
from taskstore._store.context import StoreContext
from taskstore._store.freshness import find_stale, looks_fresh, stat_log
from taskstore._store.report import SyncReport
from taskstore._store.sqlite_errors import is_busy
from taskstore._store.sync import Progress, Sync
from taskstore._store.transaction import WRITER, TransactionHook, Unit


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
            stale = find_stale(self._context, _rows(self._context, connection), collections)
        if stale:
            names = [item.collection for item in stale]
            if not self._try(names) and not all(item.only_grown for item in stale):
                self.sync(names)

    def in_transaction(self, connection: Connection, collections: Iterable[str] | None) -> None:
        """See to it that an open write transaction works on the logs as they are."""
        if collections is not None and self._remembered(collections):
            return
        stale = find_stale(self._context, _rows(self._context, connection), collections)
        if stale:
            self._run(connection, [item.collection for item in stale])

    def sync(
        self,
        collections: Iterable[str] | None = None,
        *,
        force: bool = False,
        on_progress: Progress | None = None,
        counted: bool = False,
    ) -> SyncReport:
        """Bring the cache up to date, waiting for whoever holds a lock."""
        with self._writing.begin() as connection:
            return self._run(
                connection, collections, force=force, on_progress=on_progress, counted=counted
            )

    @contextmanager
    def rewriting(self, collections: list[str]) -> Iterator[tuple[Rows, Unit]]:
        """A write transaction under the log lock, on collections that are up to date."""
        context = self._context
        with self._writing.begin() as connection:
            rows = _rows(context, connection)
            unit = self._transactions.unit(connection)
            with context.log_lock.hold(context.lock_timeout):
                Sync(context, rows, unit).run(collections)
                yield rows, unit

    def teach(self, catalog: Catalog, codec: RecordCodec[Any]) -> None:
        """Have the cache index what a record type asks for."""
        with self._context.engine.connect() as connection:
            wanted = catalog.wants(codec, _rows(self._context, connection))
        if wanted:
            with self._writing.begin() as connection:
                catalog.teach(codec, _rows(self._context, connection))
        catalog.mark_taught(codec)

    def is_stale(self) -> bool:
        """Whether any log is not what the cache holds; looks at bytes where times do not tell."""
        with self._context.engine.connect() as connection:
            rows = _rows(self._context, connection)
            stale = find_stale(self._context, rows, None)
            recorded = rows.fingerprints()
        return any(not self._same_bytes(item.collection, recorded) for item in stale)

    def _same_bytes(self, collection: str, recorded: dict[str, Fingerprint]) -> bool:
        known = recorded.get(collection)
        if known is None:
            return False
        try:
            fd = files.open_log(self._context.layout.log_path(collection))
        except FileNotFoundError:
            return False
        try:
            return os.fstat(fd).st_size == known.size and checksum(fd, known.size) == known.checksum
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
    ) -> SyncReport:
        context = self._context
        unit = self._transactions.unit(connection)
        driver = connection.connection.driver_connection
        with context.log_lock.hold(context.lock_timeout), permitted(driver):
            run = Sync(context, _rows(context, connection), unit, force, on_progress, counted)
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
        with _not_waiting(context.engine) as connection:
            if connection is None or not context.log_lock.try_acquire():
                return False
            try:
                rows = _rows(context, connection)
                with permitted(connection.connection.driver_connection):
                    Sync(context, rows, self._transactions.unit(connection)).run(collections)
                connection.commit()
            finally:
                context.log_lock.release()
        return True


def _rows(context: StoreContext, connection: Connection) -> Rows:
    return Rows(connection.connection.cursor(), context.models)


@contextmanager
def _not_waiting(engine: Engine) -> Iterator[Connection | None]:
    """A connection that holds the write lock, or None where another holds it."""
    with engine.connect().execution_options(**{WRITE_OPTION: True}) as connection:
        driver = connection.connection
        _set_timeout(driver, 0)
        try:
            try:
                connection.begin()
            except OperationalError as error:
                if not is_busy(error):
                    raise
                yield None
            else:
                yield connection
        finally:
            _set_timeout(driver, BUSY_TIMEOUT_MS)


def _set_timeout(driver: PoolProxiedConnection, ms: int) -> None:
    cursor = driver.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {ms}")
    cursor.close()
