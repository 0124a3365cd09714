"""The store's own cache file: made, upgraded, noticed when it is replaced, rebuilt when unusable.

The file is never swapped under a connection. One that is unusable, or gone, is made anew under the
gate, together with its `-wal` and `-shm`: an old `-shm` beside a new file makes SQLite fail.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from taskstore._cache.kept import KeptConnections
from taskstore._cache.schema import HEAD, current_revision, ensure_schema
from taskstore._cache.sqlite import enable_wal
from taskstore._log import files
from taskstore._store.catalog import Catalog
from taskstore._store.context import StoreContext
from taskstore._store.refresh import Refresher
from taskstore._store.sqlite_errors import DatabaseErrors, is_unusable, reason_of, translated
from taskstore.errors import (
    CacheError,
    InvalidDeclarationError,
    StoreAccessError,
    StoreNotFoundError,
    TaskstoreError,
)

T = TypeVar("T")


class CacheFile:
    """Keeps the engine's file there, current and usable.

    Attributes:
        kept: connections to it for reading.
    """

    def __init__(self, context: StoreContext, catalog: Catalog, refresher: Refresher) -> None:
        self._context = context
        self._catalog = catalog
        self._refresher = refresher
        self._identity: tuple[int, int] | None = None
        self.kept = KeptConnections(context.engine, keep=context.own_engine)

    def open(self) -> None:
        """Make the cache ready: one SELECT where it is.

        Raises:
            StoreAccessError: the file cannot be made or opened.
            SchemaVersionError: a newer library has upgraded it.
            CacheError: it stays unusable although it was made anew.
        """
        if not self._context.own_engine or self._context.read_only:
            ensure_schema(self._context.engine, self._context.models, migrate=self._context.migrate)
            return
        if not self._is_ready():
            with self._context.gate.hold(self._context.lock_timeout):
                self._make_ready()
        self._identity = self._found()

    def check(self) -> None:
        """Notice a file that was replaced or removed since the last look, and open the new one."""
        if self._identity is None:
            return
        if self._found() != self._identity:
            self.reopen()

    def retried(self, call: Callable[[], T]) -> T:
        """Call; once more on a cache made anew if this one turns out to be unusable.

        Raises:
            TaskstoreError: what the database refused, in our terms.
        """
        try:
            return call()
        except DatabaseErrors as error:
            if not is_unusable(error):
                meant = translated(error, self._context)
                if meant is None:
                    raise
                raise meant from error
        self.rebuild()
        return call()

    def reopen(self) -> None:
        """Leave the old file and open the one that is there now, or make one."""
        context = self._context
        if not context.path.is_dir():
            # What an open would not have made is not made now; nor a project that is gone.
            if not context.create or not context.path.parent.is_dir():
                raise StoreNotFoundError(context.path)
            context.layout.create()
        self.close()
        context.known = {}
        self._catalog.forget()
        self.open()
        self._refresher.teach_settings(self._catalog)
        if not context.refresh:
            # No unit of work will look at the logs, and what was known of them is gone.
            self._refresher.before_read(None)

    def close(self) -> None:
        """Close all connections to the file that nobody is using."""
        self.kept.release()
        self._context.engine.dispose()

    def rebuild(self) -> None:
        """Make the cache anew, for it turned out to be unusable while it was used."""
        if not self._context.own_engine or self._context.read_only:
            raise CacheError(self._context.layout.cache_path, reason="it is damaged")
        with self._context.gate.hold(self._context.lock_timeout):
            if self._found() == self._identity:
                self._remove()
        self.reopen()

    def _found(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._context.layout.cache_path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _is_ready(self) -> bool:
        """Whether the file is there, readable and current."""
        if self._found() is None:
            return False
        try:
            with self._context.engine.connect() as connection:
                return current_revision(connection, self._context.models) == HEAD
        except DatabaseErrors as error:
            if not is_unusable(error):
                raise self._refused(error) from error
            return False

    def _make_ready(self) -> None:
        context = self._context
        # Others may have made it while we waited for the gate.
        if self._found() is None:
            self._remove()
        elif self._is_ready():
            return
        try:
            self._set_up()
        except (*DatabaseErrors, InvalidDeclarationError) as error:
            # A file in this place with another program's tables is as good as damaged.
            if not (isinstance(error, InvalidDeclarationError) or is_unusable(error)):
                raise self._refused(error) from error
            self._remove()
            try:
                self._set_up()
            except DatabaseErrors as again:
                raise CacheError(context.layout.cache_path, reason=reason_of(again)) from again

    def _set_up(self) -> None:
        enable_wal(self._context.engine)
        ensure_schema(self._context.engine, self._context.models, migrate=True)

    def _remove(self) -> None:
        """Remove an unusable file and what belongs to it."""
        self.close()
        path = self._context.layout.cache_path
        try:
            for name in (
                path,
                _beside(path, "-wal"),
                _beside(path, "-shm"),
                _beside(path, "-journal"),
            ):
                with contextlib.suppress(FileNotFoundError):
                    files.unlink(name)
        except OSError as error:
            raise StoreAccessError(
                path, operation="remove", reason=error.strerror or str(error), errno=error.errno
            ) from error

    def _refused(self, error: BaseException) -> TaskstoreError:
        return translated(error, self._context) or StoreAccessError(
            self._context.layout.cache_path, operation="open", reason=reason_of(error)
        )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
