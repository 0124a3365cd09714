"""The meaning of SQLite's errors for a cache."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from taskstore._cache.engine.driver import ForeignCacheError
from taskstore._cache.schema.models import DEFAULT
from taskstore._store.context import StoreContext
from taskstore.errors import (
    CacheError,
    LockTimeoutError,
    LogWriteError,
    StoreAccessError,
    TaskstoreError,
)

DatabaseErrors = (DBAPIError, sqlite3.Error)
"""The errors that a statement raises, with SQLAlchemy and without."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_UNUSABLE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR}
# Errors for a file whose tables were dropped or altered, or that was never ours. For
# any other table it is a mistake in somebody's own SQL, and the cache must stay.
_FOREIGN = re.compile(
    r"no such table: (?:main\.)?({0})$|table ({0}) (?:already exists|has no column named)".format(
        "|".join((*DEFAULT.table_names, DEFAULT.version_table))
    )
)


def _code(error: BaseException) -> int:
    """Return the primary result code; 0 if there is none."""
    driver = error.orig if isinstance(error, DBAPIError) else error
    return (getattr(driver, "sqlite_errorcode", None) or 0) & 0xFF


def is_unusable(error: BaseException) -> bool:
    """Return whether the cache file is unusable and must be rebuilt."""
    driver = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(driver, ForeignCacheError):
        return True
    return _code(error) in _UNUSABLE or _FOREIGN.search(reason_of(error)) is not None


def translated(error: BaseException, context: StoreContext) -> TaskstoreError | None:
    """Return our error for a SQLite error of a store's cache; see `meaning`."""
    return meaning(error, context.layout.cache_path, context.lock_timeout)


def meaning(error: BaseException, path: Path, lock_timeout: float) -> TaskstoreError | None:
    """Return our error for a SQLite error; None if there is none.

    Errors that the caller causes, such as a violated constraint, stay as they are.

    Args:
        error: What SQLite raised.
        path: The file of the database.
        lock_timeout: How long it has waited for its write lock, in seconds.
    """
    code = _code(error)
    reason = reason_of(error)
    if code in _BUSY:
        return LockTimeoutError(path, timeout=lock_timeout, lock="cache's write lock")
    if code == sqlite3.SQLITE_FULL:
        return LogWriteError(path, step="write the cache", reason=reason)
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return StoreAccessError(path, operation="write", reason=reason)
    if is_unusable(error):
        return CacheError(path, reason=reason)
    return None


def reason_of(error: BaseException) -> str:
    """Return SQLite's message, without SQLAlchemy's context."""
    return str(error.orig if isinstance(error, DBAPIError) else error)
