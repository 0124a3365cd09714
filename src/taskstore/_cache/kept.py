"""Connections that readers keep between two reads, for the pool takes longer than a small read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine

from taskstore._cache.forks import release_at_forks

__all__ = ["KeptConnections"]


class KeptConnections:
    """Idle connections of one engine, all of them outside of transactions.

    Args:
        engine: Where they come from.
        keep: Whether any are kept. An application may have few, or one for each thread.
    """

    def __init__(self, engine: Engine, *, keep: bool) -> None:
        self._engine = engine
        self._keep = keep
        self._idle: list[Any] = []
        self._turn = 0
        if keep:
            release_at_forks(self)

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """Give a driver's cursor for a block; what is begun on it is rolled back."""
        turn = self._turn
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._engine.raw_connection()
            if self._keep:
                # The pool knows nothing of it any more: to close it is really to close it.
                connection.detach()
        try:
            cursor = connection.dbapi_connection.cursor()
            yield cursor
            cursor.close()
        except BaseException:
            connection.close()
            raise
        self._give_back(connection, turn)

    def release(self) -> None:
        """Close all; those in use follow when they are given back."""
        self._turn += 1
        while self._idle:
            self._idle.pop().close()

    def _give_back(self, connection: Any, turn: int) -> None:
        driver = connection.dbapi_connection
        if driver.in_transaction:
            driver.rollback()
        if self._keep and turn == self._turn:
            self._idle.append(connection)
        else:
            connection.close()
