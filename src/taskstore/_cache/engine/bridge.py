"""The driver below an engine, whether it is used directly or through asyncio.

SQLAlchemy's asyncio engine for SQLite keeps each connection of the driver in a thread of
aiosqlite's, and the hooks run in a greenlet of the event loop. What they ask of the driver is run
in that thread and waited for in the greenlet, so that the loop goes on; a function that is handed
over runs there as a whole, so that a lock that it takes is given back by the same thread.

aiosqlite has no public way to run a function in its thread. What is used of it, `_conn`,
`_running`, `_cursor` and `_tx`, is used in this module alone, and the last in the manner of
SQLAlchemy's own dialect.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy.engine import AdaptedConnection, Connection

from taskstore.errors import UntrackedWriteError

T = TypeVar("T")


def driver_of(pooled: Any) -> Any:
    """Return the driver's connection of one from the pool, or its stand-in in a greenlet."""
    found = pooled.dbapi_connection
    return BridgedConnection(found) if isinstance(found, AdaptedConnection) else found


def driver_cursor(connection: Connection) -> Any:
    """Return a cursor of the driver, or its stand-in in a greenlet."""
    pooled = connection.connection
    found: Any = pooled.dbapi_connection
    if isinstance(found, AdaptedConnection):
        return BridgedConnection(found).cursor()
    return pooled.cursor()


class closing:  # noqa: N801 - used like a function
    """A block with a cursor that is closed at its end.

    As `contextlib.closing`, but an exception in the block comes out itself where SQLAlchemy, for
    its sake, has closed the whole connection.
    """

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __enter__(self) -> Any:
        return self._cursor

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            self._cursor.close()
        except sqlite3.ProgrammingError:
            if error is None:
                raise


def away(connection: Connection, call: Callable[[Any], T]) -> T:
    """Call a function that uses files with the driver's connection, outside the event loop.

    Where there is no event loop it is called here.
    """
    return on_driver(connection.connection, call)


def on_driver(pooled: Any, call: Callable[[Any], T]) -> T:
    """Call a function with the driver's own connection of one from the pool, in its thread."""
    driver = driver_of(pooled)
    return driver.run(call) if isinstance(driver, BridgedConnection) else call(driver)


def give_up(pooled: Any, error: BaseException | None) -> None:
    """End what a connection was doing when an error made it useless, before it is closed.

    To close it is not enough: SQLite keeps a connection's locks until its last statement is gone,
    and one that was cancelled lives on in the traceback until the garbage collector comes.
    """
    cursors = list(_cursors_in(error))

    def end(driver: sqlite3.Connection) -> None:
        # It may be closed already.
        with suppress(sqlite3.Error, ValueError):
            for cursor in cursors:
                cursor.close()
            driver.rollback()

    driver = driver_of(pooled)
    if not isinstance(driver, BridgedConnection):
        end(driver)
        return
    with suppress(sqlite3.Error):
        driver.run(end)


def _cursors_in(error: BaseException | None) -> Iterator[sqlite3.Cursor]:
    """The cursors of aiosqlite's that an error has come through."""
    place = error.__traceback__ if error is not None else None
    while place is not None:
        cursor = getattr(place.tb_frame.f_locals.get("self"), "_cursor", None)
        if isinstance(cursor, sqlite3.Cursor):
            yield cursor
        place = place.tb_next


class BridgedConnection:
    """A connection of aiosqlite's, as a greenlet of SQLAlchemy's may use it.

    Args:
        adapted: SQLAlchemy's own adapter of it.
    """

    def __init__(self, adapted: AdaptedConnection) -> None:
        self._adapted = adapted

    @property
    def inner(self) -> Any:
        """The driver's own connection; this one, where that is closed."""
        try:
            return self._adapted.driver_connection._conn
        except ValueError:
            return self

    @property
    def total_changes(self) -> int:
        """How many rows the connection has changed so far; 0 if it is closed."""
        try:
            return int(self._adapted.driver_connection.total_changes)
        except ValueError:
            return 0

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open. In a closed connection none is."""
        try:
            return bool(self._adapted.driver_connection.in_transaction)
        except ValueError:
            return False

    @property
    def isolation_level(self) -> str | None:
        """When the driver begins by itself."""
        level: str | None = self._adapted.driver_connection.isolation_level
        return level

    def cursor(self) -> BridgedCursor:
        """Return a cursor."""
        return BridgedCursor(self)

    def execute(self, sql: str, parameters: Any = (), /) -> BridgedCursor:
        """Execute one statement on a new cursor."""
        return self.cursor().execute(sql, parameters)

    def rollback(self) -> None:
        """Roll back."""
        self.run(lambda driver: driver.rollback())

    def run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Call a function with the driver's connection, in its thread.

        It is waited for also when the task is cancelled meanwhile; the cancellation is raised
        after it has ended, whichever way it has.

        Raises:
            UntrackedWriteError: This version of aiosqlite is one that we cannot use.
        """
        return self._adapted.run_async(lambda connection: _finished(connection, call))


class BridgedCursor:
    """A cursor that is open in the driver only while it executes.

    Attributes:
        connection: Whose cursor it is.
        rowcount: How many rows the last statement has changed.
    """

    def __init__(self, connection: BridgedConnection) -> None:
        self.connection = connection
        self.rowcount = -1
        self._rows: deque[Any] = deque()

    def execute(self, sql: str, parameters: Any = (), /) -> BridgedCursor:
        """Execute one statement, and fetch its rows."""
        return self._run(lambda cursor: cursor.execute(sql, parameters))

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> BridgedCursor:
        """Execute one statement for each set of parameters."""
        # Creating them may need the greenlet.
        given = list(parameters)
        return self._run(lambda cursor: cursor.executemany(sql, given))

    def _run(self, execute: Callable[[sqlite3.Cursor], Any]) -> BridgedCursor:
        def work(driver: sqlite3.Connection) -> tuple[list[Any], int]:
            cursor = driver.cursor()
            try:
                execute(cursor)
                return cursor.fetchall() if cursor.description else [], cursor.rowcount
            finally:
                cursor.close()

        rows, self.rowcount = self.connection.run(work)
        self._rows = deque(rows)
        return self

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return self._rows.popleft() if self._rows else None

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        rows = list(self._rows)
        self._rows.clear()
        return rows

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows that are left."""
        while self._rows:
            yield self._rows.popleft()

    def close(self) -> None:
        """Forget the rows."""
        self._rows.clear()


async def _finished(connection: Any, call: Callable[[sqlite3.Connection], T]) -> T:
    try:
        running, queue = connection._running, connection._tx
        driver = connection._conn
    except AttributeError as error:
        raise UntrackedWriteError(
            statement=f"a transaction on this version of aiosqlite ({error})",
            remedy="install aiosqlite 0.20 to 0.22, or use a synchronous engine",
        ) from error
    except ValueError as error:
        raise sqlite3.OperationalError(str(error)) from error
    if not running:
        # Its thread has ended, or is about to: nobody would take the call.
        raise sqlite3.OperationalError("connection closed")
    # Not a task: the end of the loop cancels tasks while their threads still run.
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    queue.put_nowait((future, lambda: call(driver)))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await _ended(future)
        raise


async def _ended(future: asyncio.Future[Any]) -> None:
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            # Cancelled once more: the thread still runs, and the first cancellation is raised.
            continue
    # The cancellation replaces what it raised; mark that as seen for asyncio.
    future.exception()
