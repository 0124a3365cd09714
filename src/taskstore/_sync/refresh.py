"""When to sync: before a unit of work, at open, and on request.

Readers do not wait. While a writer holds a lock and the log has only grown, they read the last
committed cache. Writers sync in their own transaction, so that they stamp and check against the
present log.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

from sqlalchemy.engine import Connection, Engine

from taskstore._cache.engine.bridge import closing
from taskstore._cache.engine.permission import permitted
from taskstore._cache.engine.sqlite import no_waiting
from taskstore._cache.rows.rows import Rows
from taskstore._evolution.graph import clashes
from taskstore._format.fingerprint import Fingerprint
from taskstore._format.names import EVOLUTIONS
from taskstore._log import files
from taskstore._log.files import access
from taskstore._log.mutex import Claim
from taskstore._records.interface import RecordCodec
from taskstore._store.catalog import Catalog
from taskstore._store.context import StoreContext
from taskstore._store.shapes import load_shapes
from taskstore._sync.freshness import Stale, find_stale, looks_fresh
from taskstore._sync.projection_port import late, projection
from taskstore._sync.report import SyncReport
from taskstore._sync.sync import Progress, Sync
from taskstore._text import visible
from taskstore._unit.changes import collect_lines
from taskstore._unit.transaction import WRITER, TransactionHook
from taskstore._unit.unit import Unit
from taskstore._unit.work import Work
from taskstore.errors import EvolutionClashWarning


class Refresher:
    """Keeps one store's cache equal to its logs."""

    def __init__(self, context: StoreContext, transactions: TransactionHook) -> None:
        self._context = context
        self._transactions = transactions
        self._writing: Engine = context.engine.execution_options(**WRITER)

    def before_read(self, collections: Sequence[str] | None) -> None:
        """Update the cache before a read.

        Args:
            collections: The collections that will be read; None for all.

        Raises:
            StoreAccessError: A log cannot be read.
            LockTimeoutError: A log was rewritten, and a writer held a lock for too long.
        """
        if collections is not None and self._remembered(collections):
            return
        with (
            self._context.engine.connect() as connection,
            _rows(self._context, connection) as rows,
        ):
            stale = find_stale(self._context, rows, collections)
            names = self._with_these(stale, rows)
        if stale and not self._try(names) and not all(map(self._may_be_served, stale)):
            self.sync(names)

    def in_transaction(self, work: Work, collections: Iterable[str] | None) -> None:
        """Update the cache inside an open write transaction."""
        if collections is not None and self._remembered(collections):
            return
        with work.cursor() as cursor:
            rows = Rows(cursor, self._context.models)
            stale = find_stale(self._context, rows, collections)
            names = self._with_these(stale, rows)
        if stale:
            self._run(work.connection(), names)

    def sync(
        self,
        collections: Iterable[str] | None = None,
        *,
        force: bool = False,
        on_progress: Progress | None = None,
        counted: bool = False,
        prune: bool = False,
    ) -> SyncReport:
        """Update the cache, and wait for other writers."""
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
        """Run a write transaction under the log lock, so that no other writer disturbs it.

        Args:
            collections: The collections to update first; None for all that are stale.
        """
        context = self._context
        with self._writing.begin() as connection, _rows(context, connection) as rows:
            unit = self._transactions.unit(connection)
            if collections is None:
                collections = [item.collection for item in find_stale(context, rows, None)]
            with context.log_lock.hold(context.lock_timeout):
                mirrored = projection(context, connection, rows, unit)
                run = Sync(context, rows, unit, mirrored=mirrored)
                yield connection, rows, unit, run.run(collections)

    def catch_up(self) -> None:
        """Update mirrored tables from the cache, if that was not done for their present models.

        Raises:
            InvalidDeclarationError: There is no table for a collection that has records.
        """
        if not self._context.mirrors:
            return
        with (
            self._context.engine.connect() as connection,
            _rows(self._context, connection) as rows,
        ):
            behind = late(self._context, connection, rows)
        if behind:
            self.sync(())

    def state_evolutions(self) -> None:
        """Write into the log what the database's migrations, or record classes, have stated."""
        context = self._context
        with context.engine.connect() as connection, _rows(context, connection) as rows:
            if not context.shapes.are_current(rows.fingerprints()):
                context.shapes = load_shapes(rows, context.mirrors.by_collection)
        if not context.read_only and context.shapes.pending:
            with self._writing.begin() as connection:
                self.reshape(connection)

    def warn_of_clashes(self) -> None:
        """Warn of evolutions whose result depends on the order of their names."""
        warn_of_clashes(self._context, stacklevel=7)

    def state(self, stated: Mapping[str, bytes]) -> None:
        """Write evolutions into the log, and read all logs that way.

        Args:
            stated: Their lines, by id.
        """
        with self._writing.begin() as connection:
            self.reshape(connection, stated)

    def reshape(
        self, connection: Connection, stated: Mapping[str, bytes] = MappingProxyType({})
    ) -> None:
        """In a write transaction, write missing evolutions into the log, and read logs that way.

        Args:
            connection: The connection of the transaction.
            stated: The lines of evolutions to write, besides those that the database has, by id.
        """
        context, unit = self._context, self._transactions.unit(connection)
        self._run(connection, (EVOLUTIONS,))
        with _rows(context, connection) as rows:
            unit.changes.on_undo(partial(setattr, context, "shapes", context.shapes))
            context.shapes = load_shapes(rows, context.mirrors.by_collection)
            missing = {**context.shapes.pending, **stated}
            if missing and not context.read_only:
                lines = {(EVOLUTIONS, id): line for id, line in missing.items()}
                new = [(id, line.decode(), 0, 0) for (_, id), line in lines.items()]
                rows.replace(EVOLUTIONS, new)
                collect_lines(rows, unit.changes, lines)
                context.shapes = load_shapes(rows, context.mirrors.by_collection)
        self._run(connection, ())

    def teach(self, catalog: Catalog, codec: RecordCodec[Any]) -> None:
        """Make the cache index the fields that a record type declares."""
        with (
            self._context.engine.connect() as connection,
            _rows(self._context, connection) as rows,
        ):
            wanted = catalog.wants(codec, rows)
        if wanted:
            with self._writing.begin() as connection:
                with _rows(self._context, connection) as rows:
                    catalog.teach(codec, rows)
                    is_evolved = catalog.is_evolved(codec, rows)
                if is_evolved:
                    self.reshape(connection)
        catalog.mark_taught(codec)

    def teach_settings(self, catalog: Catalog) -> None:
        """Make the cache index the fields that the settings name."""
        with (
            self._context.engine.connect() as connection,
            _rows(self._context, connection) as rows,
        ):
            wanted = catalog.settings_want(rows)
        if wanted:
            with self._writing.begin() as connection, _rows(self._context, connection) as rows:
                catalog.teach_settings(rows)

    def is_stale(self) -> bool:
        """Return whether any log differs from the cache. Compare bytes if times do not decide."""
        with (
            self._context.engine.connect() as connection,
            _rows(self._context, connection) as rows,
        ):
            stale = find_stale(self._context, rows, None)
            recorded = rows.fingerprints()
        return any(not self._same_bytes(item.collection, recorded) for item in stale)

    def _with_these(self, stale: list[Stale], rows: Rows) -> list[str]:
        """Return the collections to sync when some are stale: all stale ones.

        If recovery kept a transaction over several collections, all of it must come into the cache
        at once. Otherwise a reader that does not wait would see half of it.
        """
        if not stale:
            return []
        others = find_stale(self._context, rows, None)
        return sorted({item.collection for item in (*stale, *others)})

    def _may_be_served(self, item: Stale) -> bool:
        """Return whether the cache can serve a log that cannot be read at the moment."""
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
                if size != known.size:
                    return False
                return self._context.digester.read(fd, size).text() == known.digest
            except EOFError:
                return False
            finally:
                os.close(fd)

    def _remembered(self, collections: Iterable[str]) -> bool:
        known = self._context.known
        evolutions = self._context.layout.stat_log(EVOLUTIONS)
        return looks_fresh(known.get(EVOLUTIONS), evolutions) and all(
            name in known and looks_fresh(known[name], self._context.layout.stat_log(name))
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

        def work() -> SyncReport:
            with permitted(driver, context.models.record_table), _rows(context, connection) as rows:
                mirrored = projection(context, connection, rows, unit, prune=prune)
                run = Sync(context, rows, unit, force, on_progress, counted, mirrored)
                return run.run(collections)

        return context.log_lock.run(context.lock_timeout, work)

    def _try(self, collections: list[str]) -> bool:
        """Sync if no lock has to be waited for; False if one would have to be."""
        gate, claim = self._context.gate, Claim()
        try:
            done = gate.try_acquire(claim) and self._try_in_gate(collections)
            gate.release(claim)
            return done
        except BaseException:
            # Even if the release was interrupted.
            gate.release(claim)
            raise

    def _try_in_gate(self, collections: list[str]) -> bool:
        lock, claim = self._context.log_lock, Claim()
        connection = None
        try:
            with no_waiting(self._context.engine) as connection:
                if connection is None or not lock.try_acquire(claim):
                    return False
                self._sync_in(connection, collections)
                lock.release(claim)
                return True
        finally:
            # An exception at the end of the block prevents it from closing the connection.
            lock.release(claim)
            if connection is not None:
                connection.close()

    def _sync_in(self, connection: Connection, collections: list[str]) -> None:
        context = self._context
        with (
            permitted(connection.connection.driver_connection, context.models.record_table),
            _rows(context, connection) as rows,
        ):
            unit = self._transactions.unit(connection)
            mirrored = projection(context, connection, rows, unit)
            Sync(context, rows, unit, mirrored=mirrored).run(collections)
        connection.commit()


def warn_of_clashes(context: StoreContext, *, stacklevel: int = 6) -> None:
    """Warn of evolutions of a store whose result depends on the order of their names."""
    for collection, shape in sorted(context.shapes.by_collection.items()):
        for clash in clashes(shape.graph):
            message = f"{collection}: {clash}; `taskstore doctor` has the remedy"
            warnings.warn(visible(message), EvolutionClashWarning, stacklevel=stacklevel)


@contextmanager
def _rows(context: StoreContext, connection: Connection) -> Iterator[Rows]:
    """Yield the rows in a block.

    A cursor that an exception leaves open in the middle of a SELECT keeps the database locked.
    """
    with closing(connection.connection.cursor()) as cursor:
        yield Rows(cursor, context.models)
