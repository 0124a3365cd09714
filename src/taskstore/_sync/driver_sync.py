"""A sync on the driver's connection, for commands and hooks without SQLAlchemy.

It takes the same locks in the same order as any other sync, but does not wait for them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import attrs

from taskstore._cache.engine.guard import GuardedConnection
from taskstore._cache.rows.rows import Rows
from taskstore._cache.schema.names import TableNames
from taskstore._format.fingerprint import Fingerprint
from taskstore._log.gate import Gate
from taskstore._log.locks import directory_lock
from taskstore._log.mutex import Claim
from taskstore._store.log_context import LogContext
from taskstore._sync.report import SyncReport
from taskstore._sync.sync import Progress, Sync
from taskstore._unit.changes import Changes


@attrs.define
class _Unit:
    """The transaction of the sync."""

    changes: Changes = attrs.field(factory=Changes)
    fingerprints: dict[str, Fingerprint | None] = attrs.field(factory=dict)


def try_sync(
    context: LogContext,
    driver: GuardedConnection,
    collections: Iterable[str] | None,
    *,
    counted: bool = False,
    on_progress: Progress | None = None,
) -> SyncReport | None:
    """Sync if no lock is held; return None if it would have to wait.

    Args:
        context: The store, which has no mirrored models.
        driver: A connection to its cache, outside a transaction.
        collections: The names of the collections; None for all that are stale.
        counted: Whether the report counts the records.
        on_progress: Called while a log is read.

    Raises:
        StoreAccessError: A log cannot be read.
        RecoveryError: A crash left something that cannot be recovered.
        sqlite3.Error: The database refused.
    """
    gate, lock = Gate(context.layout), directory_lock(context.layout)
    turn, claim = Claim(), Claim()
    try:
        if not (gate.try_acquire(turn) and _begun(driver) and lock.try_acquire(claim)):
            return None
        unit = _Unit()
        rows = Rows(driver.cursor(), TableNames())
        try:
            report = Sync(context, rows, unit, on_progress=on_progress, counted=counted).run(
                collections
            )
            driver.commit()
        except BaseException:
            unit.changes.rollback()
            raise
        return report
    finally:
        if driver.in_transaction:
            driver.rollback()
        lock.release(claim)
        gate.release(turn)
        lock.close()
        gate.close()


def _begun(driver: GuardedConnection) -> bool:
    """Take the database's write lock, if it is free."""
    [timeout] = driver.execute("PRAGMA busy_timeout").fetchone()
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    finally:
        driver.execute(f"PRAGMA busy_timeout = {timeout}")
    return True
