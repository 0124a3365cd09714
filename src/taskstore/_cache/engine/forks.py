"""Keep a forked child from using the SQLite connections of its parent.

SQLite must not be carried across a fork: a child that used, or only closed, a connection of its
parent could release the parent's locks, and even its own connection would rely on locks
that only the parent holds. So the idle connections of our engines are closed just before a fork.
If one was in use, the child cannot open that file, and gets an error that says so.
"""

from __future__ import annotations

import gc
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from sqlalchemy import Engine, event

from taskstore._cache.engine.bridge import closing
from taskstore._cache.engine.guard import GuardedConnection
from taskstore.errors import TaskstoreError, TransactionOpenError


class Releasable(Protocol):
    """The owner of connections that stay out of an engine's pool."""

    def release(self) -> None:
        """Close those that are idle."""


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_keepers: weakref.WeakSet[Releasable] = weakref.WeakSet()
_connections: weakref.WeakKeyDictionary[GuardedConnection, str] = weakref.WeakKeyDictionary()
# Not even the end of the child may close what was in use in the parent.
_inherited: list[GuardedConnection] = []
_lost: set[str] = set()
_watches = False
_keeping: ContextVar[bool] = ContextVar("keeping", default=False)


def is_keeping() -> bool:
    """Return whether the connection that is checked out will be the store's alone."""
    return _keeping.get()


def watch_forks(engine: Engine, path: str) -> None:
    """Close the idle connections of an engine on a file before each fork of this process.

    In a child whose parent was using a connection to that file, connecting raises
    TransactionOpenError, and so do the parent's transactions in the child.
    """
    global _watches  # noqa: PLW0603
    path = os.path.realpath(path)
    _engines.add(engine)

    @event.listens_for(engine, "do_connect")
    def refuse(dialect: Any, record: Any, arguments: Any, options: Any) -> None:
        if path in _lost:
            raise TransactionOpenError(operation="use a store in a process that was forked")

    # First, because a fork may come while other listeners use the connection.
    @event.listens_for(engine, "connect", insert=True)
    def remember(driver: GuardedConnection, record: Any) -> None:
        _connections[driver] = path

    if not _watches and hasattr(os, "register_at_fork"):
        _watches = True
        os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def release_at_forks(keeper: Releasable) -> None:
    """Close the idle connections of a keeper before each fork of this process."""
    _keepers.add(keeper)


def _before_fork() -> None:
    for keeper in list(_keepers):
        keeper.release()
    for engine in list(_engines):
        # The pool stays: connections in use must return to it, or the next fork finds them open.
        engine.pool.dispose()
    if any(_is_open(driver) for driver in list(_connections)):
        # It may belong to a pool that was given up while it was in use.
        gc.collect()


def _after_fork() -> None:
    for driver, path in list(_connections.items()):
        if _is_open(driver):
            driver.inherited = True
            _inherited.append(driver)
            _lost.add(path)
    _connections.clear()
    for engine in list(_engines):
        # Another thread may have held the locks of the pool when it was copied.
        engine.dispose(close=False)


def _is_open(driver: GuardedConnection) -> bool:
    try:
        return driver.is_closing or driver.total_changes >= 0
    except sqlite3.ProgrammingError:
        return False


T = TypeVar("T")


class KeptConnections:
    """Idle connections of one engine, all of them outside of transactions.

    Args:
        engine: Where they come from.
        keep: Whether any are kept. An application may have few, or one for each thread.
    """

    def __init__(self, engine: Engine, *, keep: bool) -> None:
        self._engine = engine
        self.keep = keep
        self._idle: list[Any] = []
        self._turn = 0
        if keep:
            release_at_forks(self)

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """Give a driver's cursor for a block; what is begun on it is rolled back."""
        turn, connection = self._turn, None
        try:
            connection = self._take()
            with closing(connection.dbapi_connection.cursor()) as cursor:
                yield cursor
            self._give_back(connection, turn)
        except BaseException:
            if connection is not None:
                self._drop(connection)
            raise

    def run(self, call: Callable[[Any], T]) -> T:
        """Call a function with a connection of the pool; what is begun on it is rolled back.

        Unlike after a block, nothing stays open if an exception comes when the function has ended.
        """
        turn, connection = self._turn, None
        try:
            connection = self._take()
            result = call(connection)
            self._give_back(connection, turn)
            return result
        except TaskstoreError:
            # Of a call that was refused: nothing is wrong with the connection.
            if connection is not None:
                self._give_back(connection, turn)
            raise
        except BaseException:
            if connection is not None:
                self._drop(connection)
            raise

    def release(self) -> None:
        """Close all; those in use follow when they are given back."""
        self._turn += 1
        self._close_idle()

    def _close_idle(self) -> None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                # Another thread may have taken the last one.
                return
            connection.close()

    def _take(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            if not self.keep:
                return self._engine.raw_connection()
            token = _keeping.set(True)
            try:
                connection = self._engine.raw_connection()
                # The pool knows nothing of it any more: to close it is really to close it.
                connection.detach()
            finally:
                _keeping.reset(token)
            return connection

    def _drop(self, connection: Any) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        connection.close()

    def _give_back(self, connection: Any, turn: int) -> None:
        driver = connection.dbapi_connection
        if driver is None:
            # It was closed.
            return
        if driver.in_transaction:
            driver.rollback()
        if not self.keep or turn != self._turn or driver.permits:
            # An exception may have come before a permission was given up.
            connection.close()
            return
        self._idle.append(connection)
        if turn != self._turn:
            # A release in another thread may have come before that.
            self._close_idle()
