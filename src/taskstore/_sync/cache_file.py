"""The store's own cache file: create it, upgrade it, notice a replaced one, rebuild a bad one.

The file is never replaced under a connection. An unusable or missing file is rebuilt under the
gate, together with its `-wal` and `-shm`, because an old `-shm` beside a new file makes SQLite
fail.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Engine

from taskstore._cache.engine.forks import KeptConnections
from taskstore._cache.engine.sqlite import enable_wal
from taskstore._cache.schema.names import HEAD
from taskstore._cache.schema.schema import current_revision, ensure_schema
from taskstore._log import files
from taskstore._log.files import access
from taskstore._log.gate import LocalGate
from taskstore._store.catalog import Catalog
from taskstore._store.context import StoreContext
from taskstore._store.seal import CacheSeal
from taskstore._store.shapes import Shapes
from taskstore._store.sqlite_errors import DatabaseErrors, is_unusable, reason_of, translated
from taskstore._sync.refresh import Refresher
from taskstore.errors import (
    CacheError,
    InvalidDeclarationError,
    StoreAccessError,
    StoreNotFoundError,
    TaskstoreError,
)

T = TypeVar("T")


class CacheFile:
    """Keeps the engine's file present, current and usable.

    Attributes:
        kept: Connections to it for reading.
        openings: How many times a file was left for another one; `rebuild` takes it.
        is_remade: Whether the last open replaced the file, so that the new one is empty.
    """

    def __init__(self, context: StoreContext, catalog: Catalog, refresher: Refresher) -> None:
        self._context = context
        self._catalog = catalog
        self._refresher = refresher
        self._identity: tuple[int, int] | None = None
        # Threads take turns to leave a file.
        self._turn = LocalGate(context.path)
        self.openings = 0
        self.is_remade = False
        self.kept = KeptConnections(context.engine, keep=context.own_engine)
        # If nobody closes the store, the last connection would change the file unnoticed.
        self._end = weakref.finalize(self, _close, self.kept, context.engine, context.seal)
        if context.seal is None:
            self._end.detach()

    def open(self) -> None:
        """Make the cache ready. If it is ready already, this takes one SELECT.

        Raises:
            StoreAccessError: The file cannot be made or opened.
            SchemaVersionError: A newer library has upgraded it.
            CacheError: It is still unusable after it was rebuilt.
        """
        if self._context.seal is None:
            ensure_schema(self._context.engine, self._context.models, migrate=self._context.migrate)
            return
        self._identity = self._ready(self._context.seal)

    def check(self) -> None:
        """Notice a file that was replaced or removed since the last look, and open the new one."""
        seal, openings = self._context.seal, self.openings
        if seal is None:
            return
        found = self._found()
        if found is None or found != self._identity:
            self._in_turn(openings, lambda: self._reopen(seal))

    def retried(self, call: Callable[[], T]) -> T:
        """Call a function. If the cache turns out to be unusable, rebuild it and call again.

        Raises:
            TaskstoreError: The database failed, translated to our errors.
        """
        openings = self.openings
        try:
            return call()
        except DatabaseErrors as error:
            if not is_unusable(error):
                meant = translated(error, self._context)
                if meant is None:
                    raise
                raise meant from error
            if not self._context.own_engine:
                # The database is the application's, and not ours to rebuild.
                raise CacheError(
                    self._context.engine.url.render_as_string(),
                    reason=reason_of(error),
                    is_shared=True,
                ) from error
        if self.openings != openings:
            # The failed call may have begun with the previous file.
            return self.retried(call)
        self.rebuild(openings)
        return call()

    def rebuild(self, openings: int) -> None:
        """Rebuild a cache that turned out to be unusable.

        Args:
            openings: The attribute before that. If another thread has left the file since then,
                nothing is done, because the new file must stay.
        """
        seal = self._context.seal
        if seal is None:
            raise CacheError(self._context.layout.cache_path, reason="it is damaged")
        self._in_turn(openings, lambda: self._rebuild(seal))

    def _in_turn(self, openings: int, work: Callable[[], None]) -> None:
        """Do the work in one thread at a time, unless another thread has done it already."""

        def unless_done() -> None:
            if self.openings == openings:
                work()

        self._turn.run(self._context.lock_timeout, unless_done)

    def _rebuild(self, seal: CacheSeal) -> None:
        self._context.gate.run(self._context.lock_timeout, self._remove_unless_replaced)
        self._reopen(seal)

    def _reopen(self, seal: CacheSeal) -> None:
        """Leave the old file and open the present one, or create one."""
        context = self._context
        context.layout.check_place()
        if not context.path.is_dir():
            # Do not create what an open would not have created, or a project that is gone.
            if not context.create or not context.path.parent.is_dir():
                raise StoreNotFoundError(context.path)
            context.layout.create()
        self.close()
        context.reopenings += 1
        context.known, context.shapes = {}, Shapes()
        self._catalog.forget()
        identity = self._ready(seal)
        self._refresher.teach_settings(self._catalog)
        if not context.refresh:
            # No unit of work will check the logs, and the known fingerprints are gone.
            self._refresher.before_read(None)
        # Last, because other threads have to wait until then.
        self._identity = identity
        self.openings += 1

    def _ready(self, seal: CacheSeal) -> tuple[int, int] | None:
        self.is_remade = False
        if not self._is_ready(seal):
            self._context.gate.run(self._context.lock_timeout, lambda: self._make_ready(seal))
        return self._found()

    def close(self) -> None:
        """Close all connections to the file that nobody is using."""
        _close(self.kept, self._context.engine, self._context.seal)

    def end(self) -> None:
        """Close the file finally."""
        self._end.detach()
        self.close()

    def _remove_unless_replaced(self) -> None:
        if self._found() == self._identity:
            self._remove()

    def _found(self) -> tuple[int, int] | None:
        try:
            found = os.lstat(self._context.layout.cache_path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _is_ready(self, seal: CacheSeal) -> bool:
        """Return whether there is a current, readable cache that this clone made."""
        if not seal.is_whole():
            return False
        try:
            with self._context.engine.connect() as connection:
                return current_revision(connection, self._context.models) == HEAD
        except DatabaseErrors as error:
            if not is_unusable(error):
                raise self._refused(error) from error
            return False

    def _make_ready(self, seal: CacheSeal) -> None:
        context = self._context
        # Another process may have created it while we waited for the gate.
        if self._is_ready(seal):
            return
        if seal.is_whole():
            try:
                self._set_up()
            except (*DatabaseErrors, InvalidDeclarationError) as error:
                # A file with other tables counts as damaged.
                if not (isinstance(error, InvalidDeclarationError) or is_unusable(error)):
                    raise self._refused(error) from error
            else:
                return
        self.is_remade = self._found() is not None
        self._remove()
        try:
            with access(context.layout.cache_path, "make"):
                seal.make()
            self._set_up()
        except DatabaseErrors as error:
            raise CacheError(context.layout.cache_path, reason=reason_of(error)) from error

    def _set_up(self) -> None:
        enable_wal(self._context.engine)
        ensure_schema(self._context.engine, self._context.models, migrate=True)

    def _remove(self) -> None:
        """Remove an unusable file and what belongs to it."""
        self.close()
        path = self._context.layout.cache_path
        with access(path, "remove"):
            for suffix in ("", "-wal", "-shm", "-journal"):
                files.clear_away(path.with_name(path.name + suffix))

    def _refused(self, error: BaseException) -> TaskstoreError:
        return translated(error, self._context) or StoreAccessError(
            self._context.layout.cache_path, operation="open", reason=reason_of(error)
        )


def _close(kept: KeptConnections, engine: Engine, seal: CacheSeal | None) -> None:
    kept.release()
    engine.dispose()
    if seal is not None:
        seal.close()
