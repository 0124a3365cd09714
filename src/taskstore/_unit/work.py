"""A write transaction of a call of the store.

Everything that SQLAlchemy does around a transaction takes as long as a single write. So on its own
cache the store begins and commits below SQLAlchemy, which takes over only if somebody asks for its
connection: a sync, or code of the user that runs in the call, as a validator that calls the store.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from taskstore._cache.engine.bridge import closing
from taskstore._cache.engine.guard import mark_pending
from taskstore._cache.engine.permission import permitted
from taskstore._unit.transaction import TransactionHook
from taskstore._unit.unit import Unit


class Work(Protocol):
    """An open write transaction.

    Attributes:
        unit: What it holds.
    """

    unit: Unit

    def cursor(self) -> AbstractContextManager[Any]:
        """Return a block with a cursor of the driver."""

    def connection(self) -> Connection:
        """Return the SQLAlchemy connection that it is open on."""


class ConnectionWork:
    """A transaction that SQLAlchemy has begun."""

    __slots__ = ("_connection", "unit")

    def __init__(self, connection: Connection, unit: Unit) -> None:
        self._connection = connection
        self.unit = unit

    def cursor(self) -> AbstractContextManager[Any]:
        """Return a block with a cursor of the driver."""
        return closing(self._connection.connection.cursor())

    def connection(self) -> Connection:
        """Return the SQLAlchemy connection that it is open on."""
        return self._connection


class DirectWork:
    """A transaction that is begun and committed below SQLAlchemy.

    As long as nobody has its connection, all its statements are the store's own. They have
    permission, and none of them is noted.

    Args:
        transactions: Follow the transactions of the engine.
        pooled: A connection that does not belong to the engine's pool any more.
        records: The name of the table of records.
    """

    __slots__ = ("_connection", "_is_permitted", "_permission", "_pooled", "_transactions", "unit")

    def __init__(self, transactions: TransactionHook, pooled: Any, records: str) -> None:
        self.unit = Unit()
        self._transactions = transactions
        self._pooled = pooled
        self._permission = permitted(pooled.dbapi_connection, records)
        self._is_permitted = False
        self._connection: Connection | None = None

    def begin(self) -> None:
        """Pass the gate and take the database's write lock; call `end` if this raises."""
        self._transactions.begin_below(self.unit, self._pooled)
        self._permission.__enter__()
        self._is_permitted = True

    def cursor(self) -> AbstractContextManager[Any]:
        """Return a block with a cursor of the driver."""
        return closing(self._pooled.dbapi_connection.cursor())

    def connection(self) -> Connection:
        """Hand the transaction over to SQLAlchemy, and return the connection."""
        if self._connection is None:
            self._close()
            self._connection = self._transactions.adopt(self.unit, self._pooled)
            if self.unit.changes:
                mark_pending(self._connection)
        return self._connection

    def commit(self) -> None:
        """Write the log and commit."""
        if self._connection is not None:
            self._connection.commit()
            self._connection.close()
            return
        self._transactions.commit_below(self._pooled)
        self._close()

    def end(self) -> None:
        """Roll back whatever is not committed, and give up the gate."""
        if self._connection is not None:
            self._connection.close()
        else:
            self._transactions.roll_back_below(self._pooled)
            self._close()

    def _close(self) -> None:
        """Give up the permission."""
        if self._is_permitted:
            self._is_permitted = False
            self._permission.__exit__()
