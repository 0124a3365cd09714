"""Connections of the driver to a store's own cache: how each is made."""

from __future__ import annotations

import os
import sqlite3
from typing import Any, Final, Protocol

from taskstore._cache.engine.guard import GuardedConnection

BUSY_TIMEOUT_MS = 30_000
"""How long SQLite waits for another connection's lock by default, in milliseconds."""

CONNECT_ARGUMENTS: Final[dict[str, Any]] = {
    "factory": GuardedConnection,
    "isolation_level": None,
    "check_same_thread": False,
    "cached_statements": 256,
}
"""The arguments of every new connection."""

# A damaged or malicious file must fail, and not be trusted. The log is the truth: what the cache
# loses in a power cut is replayed. Pages that many transactions write are written to the file
# once: 32 MiB are collected first.
_SETTINGS = """
PRAGMA foreign_keys = ON;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
PRAGMA synchronous = NORMAL;
PRAGMA wal_autocheckpoint = 8000;
"""


class ForeignCacheError(sqlite3.DatabaseError):
    """The file has not the seal of this clone."""


class Seal(Protocol):
    """Tells a cache that this clone made from one that was brought."""

    def fits(self, driver: sqlite3.Connection) -> bool:
        """Return whether the file of a connection is sealed as it should be."""
        ...

    def note(self) -> None:
        """Take note of what SQLite has left of the files."""


def connect(path: str | os.PathLike[str], seal: Seal) -> GuardedConnection:
    """Return a connection to a cache file that exists.

    Raises:
        ForeignCacheError: The file does not fit its seal.
        sqlite3.Error: SQLite refused.
    """
    driver: GuardedConnection = sqlite3.connect(
        os.fspath(path), timeout=BUSY_TIMEOUT_MS / 1000, **CONNECT_ARGUMENTS
    )
    try:
        set_up(driver, seal, BUSY_TIMEOUT_MS)
    except BaseException:
        driver.close()
        raise
    return driver


def set_up(driver: GuardedConnection, seal: Seal | None, busy_timeout_ms: int) -> None:
    """Check the seal of a new connection's file, and make the settings that all have.

    Raises:
        ForeignCacheError: The file does not fit its seal; the connection is closed.
    """
    if seal is not None:
        if not seal.fits(driver):
            driver.close()
            raise ForeignCacheError("this clone did not make it")
        driver.on_change = seal.note
    cursor = driver.cursor(sqlite3.Cursor)
    cursor.executescript(f"{_SETTINGS}PRAGMA busy_timeout = {busy_timeout_ms};")
    cursor.close()
