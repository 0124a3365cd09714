"""The scribe in the application's process: a thread that drains the outbox after commits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from sqlalchemy.engine import AdaptedConnection, Engine

from taskstore._postgres.work import Work
from taskstore.errors import LogPendingError, LogWriteError

_SHORTEST_PAUSE = 0.002
_LONGEST_PAUSE = 0.05
_PAUSE_AFTER_ERROR = 0.5
_COMMITTED = "taskstore_committed"


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
        self._waiting: list[Future[None]] = []
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

    def ask(self) -> Future[None]:
        """Return a future that is done when everything that is committed now is in the log.

        It raises what a drain raises.
        """
        answer: Future[None] = Future()
        with self._wakeup:
            if self._thread is None:
                answer.set_exception(RuntimeError("the store is closed"))
            else:
                self._waiting.append(answer)
                self._wakeup.notify_all()
        return answer

    def wait(self, timeout: float) -> None:
        """Return when everything that is committed now is in the log.

        Args:
            timeout: How long to wait, in seconds.

        Raises:
            LogPendingError: It is not, and why.
        """
        try:
            self.ask().result(timeout)
        except TimeoutError:
            raise _late(timeout) from None
        except Exception as error:
            raise LogPendingError(reason=_why(error)) from error

    async def waited(self, timeout: float) -> None:
        """Wait as `wait` does, in an event loop. A cancelled task waits, too."""
        answer = asyncio.wrap_future(self.ask())
        deadline = asyncio.get_running_loop().time() + timeout
        cancelled: BaseException | None = None
        while not answer.done():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                answer.cancel()
                raise cancelled or _late(timeout)
            try:
                await asyncio.wait([answer], timeout=left)
            except asyncio.CancelledError as error:
                # The transaction is committed: the cancellation is raised when its lines are there.
                cancelled = cancelled or error
        failed = answer.exception()
        if cancelled is not None:
            raise cancelled
        if failed is not None:
            raise LogPendingError(reason=_why(failed)) from failed

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
        with self._wakeup:
            self._thread = None
            waiting = self._taken()
        try:
            self._work.drain()
        except BaseException as error:
            _answer(waiting, error)
            raise
        _answer(waiting, None)

    def _taken(self) -> list[Future[None]]:
        waiting, self._waiting = self._waiting, []
        return waiting

    def _run(self) -> None:
        pause = _SHORTEST_PAUSE
        while True:
            with self._wakeup:
                if not self._waiting and not self._stopping:
                    self._wakeup.wait(pause)
                if self._stopping:
                    return
                waiting = self._taken()
            # If no caller waits, another process may do the work. After some time, this one queues.
            lines = self._drained(in_turn=bool(waiting) or pause >= _LONGEST_PAUSE)
            _answer(waiting, self._failed)
            if self._failed is not None:
                pause = _PAUSE_AFTER_ERROR
            else:
                pause = _SHORTEST_PAUSE if lines else min(pause * 2, _LONGEST_PAUSE)

    def _drained(self, *, in_turn: bool) -> int:
        try:
            lines = self._work.drain(in_turn=in_turn)
        except Exception as error:  # noqa: BLE001 - a type of the application's own raises anything
            # Callers that wait or close get the error. The rows stay in the outbox for a retry.
            self._failed = error
            return 0
        self._failed = None
        return lines


def _answer(waiting: list[Future[None]], failed: BaseException | None) -> None:
    for answer in waiting:
        if answer.set_running_or_notify_cancel():
            if failed is None:
                answer.set_result(None)
            else:
                answer.set_exception(failed)


def _why(error: BaseException) -> str:
    if isinstance(error, LogWriteError):
        # Its message says that the transaction was rolled back, and to repeat it.
        return f"{error.path}: {error.step}: {error.reason}"
    return str(error)


def _late(timeout: float) -> LogPendingError:
    return LogPendingError(reason=f"none was written in {timeout:g} s")


def mark_begun(facts: dict[Any, Any]) -> None:
    """Note in the `info` of a connection that its transaction is not committed yet."""
    facts.pop(_COMMITTED, None)


def is_committed(facts: Mapping[Any, Any]) -> bool:
    """Return whether the last COMMIT has taken effect, although it raised LogPendingError."""
    return bool(facts.get(_COMMITTED))


class CommitHook:
    """Waits after each COMMIT of an engine that has written, until the log has it.

    Args:
        engine: The application's; the synchronous side of it if it is for asyncio.
        scribe: The scribe that drains the outbox.
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
        has_written = self._has_written(connection)
        self._commit(connection)
        if has_written:
            self._wait(connection)

    def _committed_twophase(self, connection: Any, *arguments: Any, **options: Any) -> None:
        self._commit_twophase(connection, *arguments, **options)
        self._wait(connection.connection)

    def _wait(self, connection: Any) -> None:
        adapted = getattr(connection, "dbapi_connection", connection)
        if isinstance(adapted, AdaptedConnection):
            # The event loop goes on meanwhile.
            adapted.run_async(lambda _: self._scribe.waited(self._timeout))
            return
        try:
            self._scribe.wait(self._timeout)
        except LogPendingError:
            connection.info[_COMMITTED] = True
            raise

    def _has_written(self, connection: Any) -> bool:
        """Return whether a driver's connection has written in its transaction.

        In AUTOCOMMIT mode, statements have committed what they wrote; so it may have.
        """
        if connection.autocommit:
            return True
        driver = getattr(connection, "driver_connection", connection)
        if self._dialect.driver == "asyncpg":
            if not driver.is_in_transaction():
                return False
        elif driver.info.transaction_status.name != "INTRANS":
            # Nothing has begun, or it has failed and ends with a rollback.
            return False
        cursor = connection.cursor()
        try:
            cursor.execute("SELECT pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL")
            return bool(cursor.fetchone()[0])
        except self._dialect.loaded_dbapi.Error:
            # asyncpg does not show that a transaction has failed.
            return False
        finally:
            cursor.close()
