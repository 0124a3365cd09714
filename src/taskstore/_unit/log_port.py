"""Write the lines of a transaction to the log: the protocol, and its implementation for SQLite.

A transaction ends with the lines of the records that it has changed. How they reach the log depends
on the database. On SQLite, they are appended before COMMIT, and removed if it fails.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from taskstore._cache.engine.bridge import closing
from taskstore._cache.rows.rows import Rows
from taskstore._evolution.names import Names
from taskstore._format.fingerprint import NOTHING_READ, Fingerprint
from taskstore._log.commit import Appended
from taskstore._store.context import StoreContext
from taskstore.errors import InvalidRecordError, UntrackedWriteError


@attrs.define
class Append:
    """One transaction on its way into the log.

    Attributes:
        context: The store.
        batch: Its lines by collection.
        driver: The driver's connection.
        commit: Commits there.
        fingerprints: Learns those of the logs.
        committed: Whether the database has committed.
    """

    context: StoreContext
    batch: Mapping[str, Sequence[bytes]]
    driver: Any
    commit: Callable[[], None]
    fingerprints: dict[str, Fingerprint | None]
    committed: bool = False
    _appended: Appended | None = None
    _committing: bool = False

    def run(self) -> None:
        """Append and commit under the log lock, or do neither."""
        context = self.context
        with closing(self.driver.cursor()) as cursor:
            rows = Rows(cursor, context.models)
            context.log_lock.run(context.lock_timeout, lambda: self._run(rows))

    def _run(self, rows: Rows) -> None:
        try:
            self._append(rows)
            self._committing = True
            self.commit()
            self._finish()
        except BaseException as error:
            if self._is_committed(error):
                self._finish()
            else:
                self._take_back(error)
            raise

    def _append(self, rows: Rows) -> None:
        context = self.context
        known = {name: rows.fingerprint(name) for name in self.batch}
        self._appended = appended = context.writer.append(self.batch, known)
        context.recovered += appended.problems
        for name, fingerprint in appended.fingerprints.items():
            self.fingerprints[name] = fingerprint
            if fingerprint is None and known[name] is None:
                # Otherwise rows could stay without any record of their log.
                fingerprint = NOTHING_READ
            if fingerprint is not None:
                if known[name] is None:
                    shape = context.shapes.of(name).signature
                    fingerprint = fingerprint._replace(shape=shape)
                    self.fingerprints[name] = self.fingerprints[name] and fingerprint
                rows.put_fingerprint(name, fingerprint, context.clock())
            rows.unsettle_mirror(name, context.mirrors.digests.get(name, ""))

    def _finish(self) -> None:
        self.committed = True
        if self._appended is not None:
            self._appended.retire()

    def _is_committed(self, error: BaseException) -> bool:
        """Return whether the database had committed before the exception was raised."""
        failed = isinstance(error, sqlite3.Error) or not self._committing
        return not (failed or self.driver.in_transaction)

    def _take_back(self, error: BaseException) -> None:
        try:
            self.driver.rollback()
        finally:
            # Whatever happens to the database: the caller sees a failure.
            if self._appended is not None:
                self._appended.take_back(f"{type(error).__name__}: {error}")


def committing(driver: Any) -> Callable[[], None]:
    """Return a function that commits on a driver's connection."""

    def commit() -> None:
        driver.commit()
        check_committed(driver)

    return commit


def check_committed(driver: Any) -> None:
    """Raise UntrackedWriteError if the transaction is still open after its commit."""
    if driver.in_transaction:
        raise UntrackedWriteError(
            statement="a commit that the driver did not carry out",
            remedy="create the engine without the driver's autocommit=True",
        )


def check_not_renamed(names: Names, log: str) -> None:
    """Raise InvalidRecordError if this would create a log that no collection has."""
    if names.is_taken(log):
        was = names.log_of(log)
        reason = f"the records of this collection are in {was}.jsonl: write them to {was!r}"
        raise InvalidRecordError(collection=log, id=None, reason=reason)


class Handover(Protocol):
    """One transaction on its way into the log.

    Attributes:
        committed: Whether the database has committed.
    """

    committed: bool

    def run(self) -> None:
        """Write the lines into the log and commit, or do neither.

        Raises:
            LogWriteError, LockTimeoutError: The lines could not be written; nothing is committed.
            CommitUncertainError: It cannot be told whether they are.
        """


class LogPort(Protocol):
    """Writes the lines of transactions into the log.

    They are in the log as a whole if and only if the transaction is committed, and before `run`
    returns, or later but certainly.
    """

    def handover(
        self,
        batch: Mapping[str, Sequence[bytes]],
        driver: Any,
        commit: Callable[[], None],
        fingerprints: dict[str, Fingerprint | None],
    ) -> Handover:
        """Return the way into the log of a transaction.

        Args:
            batch: Its lines by collection, in the order to keep; not empty.
            driver: The driver's connection, on which it is open.
            commit: Commits there.
            fingerprints: Learns those of the logs; None for one that must be looked at again.
        """


@attrs.frozen
class AppendBeforeCommit:
    """Appends to the logs under their lock, then commits; takes the lines back if that fails."""

    context: StoreContext

    def handover(
        self,
        batch: Mapping[str, Sequence[bytes]],
        driver: Any,
        commit: Callable[[], None],
        fingerprints: dict[str, Fingerprint | None],
    ) -> Handover:
        """Return a transaction to append; see `LogPort`."""
        shapes = self.context.shapes
        for name in batch:
            check_not_renamed(shapes.names, name)
        stamped = {name: shapes.of(name).stamped_all(lines, name) for name, lines in batch.items()}
        return Append(self.context, stamped, driver, commit, fingerprints)
