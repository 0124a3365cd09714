"""Refuses writes to the cache's tables that would not reach the log.

SQLite's authorizer sees every statement when it is prepared, whoever sent it: the ORM, Core,
`text()` or a driver's cursor. But the driver keeps prepared statements, so a permitted text would
pass later without being asked about. Hence every statement that runs with permission carries a
mark, and none without permission does: the two never share a prepared statement.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from typing import Any, NoReturn

from sqlalchemy.engine import Connection

from taskstore.errors import TransactionOpenError, UntrackedWriteError

__all__ = [
    "GuardedConnection",
    "GuardedCursor",
    "permit_writes",
    "permitted",
    "steers_transaction",
]

_MARK = "/* taskstore */"
_SHOWN = 200
_REMEDY = (
    "write through the store, through Store.session(), or through a session given to Store.attach"
)
_REMEDY_ENDING = "use the commit, rollback and begin_nested of the session"
_TRANSACTION = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/|;)*(BEGIN|COMMIT|END|ROLLBACK|SAVEPOINT|RELEASE)\b",
    re.IGNORECASE | re.DOTALL,
)
_OWN_SAVEPOINT = re.compile(
    r"(?:SAVEPOINT|RELEASE SAVEPOINT|ROLLBACK TO SAVEPOINT) \"?sa_savepoint_\d+\"?\s*",
)

# Where the authorizer's arguments name the table that would be changed.
_TABLE_FIRST = frozenset(
    {
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_DROP_TABLE,
    }
)
_TABLE_SECOND = frozenset(
    {
        sqlite3.SQLITE_ALTER_TABLE,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_DROP_INDEX,
    }
)


def steers_transaction(sql: str) -> bool:
    """Whether a statement begins, ends or nests a transaction, other than SQLAlchemy itself."""
    return _TRANSACTION.match(sql) is not None and not _OWN_SAVEPOINT.fullmatch(sql.strip())


class GuardedConnection(sqlite3.Connection):
    """A SQLite connection whose protected tables change only with permission.

    Attributes:
        protected: The names of those tables, in lower case.
        permits: How many `permitted` blocks are open.
        flushing: Whether a flush that is mirrored is running; ends with the transaction at latest.
        pending: Whether the transaction holds changes for the log: then only SQLAlchemy's own
            methods may end it.
        inherited: Whether it belongs to the process from which this one was forked.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.protected: frozenset[str] = frozenset()
        self.permits = 0
        self.flushing = False
        self.pending = False
        self.inherited = False
        self._denied = False
        self._ending = False
        super().__init__(*args, **kwargs)

    def protect(self, tables: Iterable[str]) -> None:
        """Guard these tables from now on."""
        self.protected = frozenset(name.lower() for name in tables)
        self.set_authorizer(self._authorize)

    @property
    def isolation_level(self) -> None:
        """None for good: BEGIN is always ours, whatever isolation level SQLAlchemy returns to."""
        return None

    @isolation_level.setter
    def isolation_level(self, level: object) -> None:
        pass

    def cursor(self, factory: Any = None) -> Any:
        """Return a guarded cursor."""
        return super().cursor(GuardedCursor if factory is None else factory)

    def execute(self, *args: Any) -> Any:
        """Execute one statement on a new guarded cursor."""
        # The driver's own shortcuts would make a cursor of their own.
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        """Execute one statement for each set of parameters on a new guarded cursor."""
        return self.cursor().executemany(*args)

    def executescript(self, *args: Any) -> Any:
        """Execute several statements on a new guarded cursor."""
        return self.cursor().executescript(*args)

    def commit(self) -> None:
        """Commit, or leave no transaction open."""
        if self.inherited:
            self._refuse_inherited()
        if self.pending:
            self.refuse("the driver's own commit", _REMEDY_ENDING)
        self._ending = True
        try:
            super().commit()
        except BaseException:
            if self.in_transaction:
                super().rollback()
            raise
        finally:
            self._ended()

    def rollback(self) -> None:
        """Roll the whole transaction back; that of a parent process is its own affair."""
        if self.inherited:
            return
        self._ending = True
        try:
            super().rollback()
        finally:
            self._ended()

    def blobopen(self, table: str, *args: Any, **kwargs: Any) -> Any:
        """Open a blob; those of protected tables for reading only."""
        if table.lower() in self.protected and not kwargs.get("readonly"):
            self.refuse(f"blobopen on {table}", "open it with readonly=True, or write rows")
        return super().blobopen(table, *args, **kwargs)

    def close(self) -> None:
        """Close the connection; that of a parent process stays as it is."""
        if not self.inherited:
            super().close()

    def refuse(self, statement: str, remedy: str = _REMEDY) -> NoReturn:
        """Raise UntrackedWriteError for a statement."""
        self._denied = False
        shown = statement if len(statement) <= _SHOWN else f"{statement[:_SHOWN]}..."
        raise UntrackedWriteError(statement=shown, remedy=remedy) from None

    def checked(self, sql: str) -> str:
        """Return the text to run: marked with permission, and never without."""
        if self.inherited:
            self._refuse_inherited()
        if self.permits or self.flushing:
            # In front, for what stands behind a CREATE INDEX would be kept in the schema.
            sql = f"{_MARK} {sql}"
        elif _MARK in sql:
            sql = sql.replace(_MARK, "")
        if self.pending and steers_transaction(sql.removeprefix(_MARK)):
            self.refuse(sql, _REMEDY_ENDING)
        return sql

    def denied(self) -> bool:
        """Tell, once, whether the authorizer has refused the statement that just failed."""
        denied, self._denied = self._denied, False
        return denied

    def _refuse_inherited(self) -> NoReturn:
        raise TransactionOpenError(operation="use a store in a process that was forked")

    def _authorize(
        self,
        action: int,
        first: str | None,
        second: str | None,
        database: str | None,
        trigger: str | None,
    ) -> int:
        if self.permits or self.flushing:
            return sqlite3.SQLITE_OK
        if (
            (action in _TABLE_FIRST and first is not None and first.lower() in self.protected)
            or (action in _TABLE_SECOND and second is not None and second.lower() in self.protected)
            or (action == sqlite3.SQLITE_PRAGMA and first == "writable_schema" and second)
            or (action == sqlite3.SQLITE_TRANSACTION and self.pending and not self._ending)
        ):
            self._denied = True
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    def _ended(self) -> None:
        self._ending = False
        if not self.in_transaction:
            self.flushing = self.pending = False


class GuardedCursor(sqlite3.Cursor):
    """A cursor that says UntrackedWriteError where the authorizer said no."""

    connection: GuardedConnection

    def execute(self, sql: str, parameters: Any = (), /) -> GuardedCursor:
        """Execute one statement."""
        connection = self.connection
        try:
            super().execute(connection.checked(sql), parameters)
        except sqlite3.DatabaseError:
            if connection.denied():
                connection.refuse(sql)
            raise
        return self

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> GuardedCursor:
        """Execute one statement for each set of parameters."""
        connection = self.connection
        try:
            super().executemany(connection.checked(sql), parameters)
        except sqlite3.DatabaseError:
            if connection.denied():
                connection.refuse(sql)
            raise
        return self

    def executescript(self, sql: str, /) -> GuardedCursor:
        """Execute several statements; a transaction with changes for the log refuses it."""
        connection = self.connection
        connection.checked(sql)
        if connection.pending:
            # The driver would commit first.
            connection.refuse(sql, "execute the statements one by one")
        try:
            super().executescript(sql)
        except sqlite3.DatabaseError:
            if connection.denied():
                connection.refuse(sql)
            raise
        return self


class permitted:  # noqa: N801 - used like a function
    """A block in which a driver's connection may write the protected tables.

    Connections that are not guarded, as those of an application's engine, may always.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Any) -> None:
        self._connection = connection if isinstance(connection, GuardedConnection) else None

    def __enter__(self) -> None:
        if self._connection is not None:
            self._connection.permits += 1

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.permits -= 1


def permit_writes(connection: Connection, *, allowed: bool) -> None:
    """Open or close a connection for a statement of a flush.

    It closes by itself when the transaction ends, so that a flush that failed leaves nothing open.
    """
    driver: Any = connection.connection.dbapi_connection
    if isinstance(driver, GuardedConnection):
        driver.flushing = allowed
