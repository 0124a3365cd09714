"""The scribe in the application's process: a thread that drains the outbox after commits."""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy.engine import Engine

from taskstore._postgres.work import Work
from taskstore.errors import LogPendingError

_SHORTEST_PAUSE = 0.002
_LONGEST_PAUSE = 0.05
_PAUSE_AFTER_ERROR = 0.5


class Scribe:
    """Drains the outbox in a thread of its own, until it is stopped.

    Others may drain the same outbox into the same directory: they take turns. Committers that wait
    for their lines are served by one batch together.

    Args:
        work: On the logs.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._wakeup = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._failed: BaseException | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def failure(self) -> BaseException | None:
        """Why the last drain failed; None if it did not."""
        return self._failed

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="taskstore-scribe", daemon=True)
        self._thread.start()

    def wait(self, timeout: float) -> None:
        """Return when everything that is committed now is in the log.

        Args:
            timeout: How long to wait, in seconds.

        Raises:
            LogPendingError: It is not, and why.
        """
        with self._wakeup:
            self._asked += 1
            mine = self._asked
            self._wakeup.notify_all()
            done = self._wakeup.wait_for(
                lambda: self._answered >= mine or self._stopping, timeout=timeout
            )
            failed = self._failed
            if done and self._answered >= mine and failed is None:
                return
        reason = str(failed) if failed is not None else f"none was written in {timeout:g} s"
        raise LogPendingError(reason=reason) from failed

    def stop(self) -> None:
        """Drain what is there, and end the thread.

        Raises:
            TaskstoreError, SQLAlchemyError: The last drain failed. What waits stays in the outbox.
        """
        thread = self._thread
        if thread is None:
            return
        with self._wakeup:
            self._stopping = True
            self._wakeup.notify_all()
        thread.join()
        self._thread = None
        self._work.drain()

    def _run(self) -> None:
        pause = _SHORTEST_PAUSE
        while True:
            with self._wakeup:
                if self._asked == self._answered and not self._stopping:
                    self._wakeup.wait(pause)
                if self._stopping:
                    return
                asked = self._asked
            lines = self._drained()
            with self._wakeup:
                self._answered = asked
                self._wakeup.notify_all()
            if self._failed is not None:
                pause = _PAUSE_AFTER_ERROR
            else:
                pause = _SHORTEST_PAUSE if lines else min(pause * 2, _LONGEST_PAUSE)

    def _drained(self) -> int:
        try:
            lines = self._work.drain()
        except Exception as error:  # noqa: BLE001 - a type of the application's own raises anything
            # Callers that wait or close get the error. The rows stay in the outbox for a retry.
            self._failed = error
            return 0
        self._failed = None
        return lines


class CommitHook:
    """Waits after each COMMIT of an engine that has written, until the log has it.

    Args:
        engine: The application's.
        scribe: Which drains the outbox.
        timeout: How long to wait, in seconds.
    """

    def __init__(self, engine: Engine, scribe: Scribe, timeout: float) -> None:
        self._dialect: Any = engine.dialect
        self._scribe = scribe
        self._timeout = timeout
        self._commit = self._dialect.do_commit
        self._commit_twophase = self._dialect.do_commit_twophase

    def install(self) -> None:
        """Wrap the dialect's ways to commit."""
        self._dialect.do_commit = self._committed
        self._dialect.do_commit_twophase = self._committed_twophase

    def remove(self) -> None:
        """Put them back."""
        self._dialect.do_commit = self._commit
        self._dialect.do_commit_twophase = self._commit_twophase

    def _committed(self, connection: Any) -> None:
        has_written = _has_written(connection)
        self._commit(connection)
        if has_written:
            self._scribe.wait(self._timeout)

    def _committed_twophase(self, connection: Any, *arguments: Any, **options: Any) -> None:
        self._commit_twophase(connection, *arguments, **options)
        self._scribe.wait(self._timeout)


def _has_written(connection: Any) -> bool:
    """Whether a driver's connection has written in its transaction."""
    driver = getattr(connection, "driver_connection", connection)
    if driver.info.transaction_status.name != "INTRANS":
        # Nothing has begun, or it has failed and ends with a rollback.
        return False
    with driver.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL")
        return bool(cursor.fetchone()[0])
