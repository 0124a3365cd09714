"""Protects the cache's tables on the store's own engine, and tells the store's writes from others.

Only the store may write the derived tables and the schema: SQLite's authorizer refuses anyone
else. It sees every statement when it is prepared, whoever sent it. But the driver keeps
prepared statements, so a permitted text would pass later without being asked about. Hence every
statement that runs with permission carries a mark, and none without permission does: the two never
share a prepared statement.

Rows of `records` may be written by anybody, once triggers note them.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from taskstore.errors import TransactionOpenError, UntrackedWriteError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

T = TypeVar("T")

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
_ROWS = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})
_TABLE_SECOND = frozenset(
    {
        sqlite3.SQLITE_ALTER_TABLE,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_DROP_INDEX,
    }
)


def _steers_transaction(sql: str) -> bool:
    """Return whether a statement that is not SQLAlchemy's controls the transaction."""
    return _TRANSACTION.match(sql) is not None and not _OWN_SAVEPOINT.fullmatch(sql.strip())


class GuardedConnection(sqlite3.Connection):
    """A SQLite connection whose protected tables change only with permission.

    Attributes:
        protected: The names of those tables, in lower case.
        permits: How many `permitted` blocks are open.
        noted: The table, in lower case, whose rows anybody may write because triggers note them,
            and that whose rows go with them.
        pending: Whether the transaction holds changes for the log: then only SQLAlchemy's own
            methods may end it.
        inherited: Whether it belongs to the process from which this one was forked.
        is_closing: Whether `close` has begun and not ended: SQLite may still have locks then.
        on_change: Called after each commit and after `close`, which may have changed the file.
        lost: What a callback has raised. SQLite knows only that it failed, so the statement raises
            this in place of SQLite's error.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.protected: frozenset[str] = frozenset()
        self.permits = 0
        self.noted: tuple[str, str] | None = None
        self.pending = False
        self.inherited = False
        self.is_closing = False
        self.on_change: Callable[[], None] | None = None
        self.lost: BaseException | None = None
        self._denied = False
        self._ending = False
        self._is_noted = False
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
        try:
            self._ending = True
            super().commit()
        except sqlite3.Error as error:
            # Any other exception is none of the commit's: it may have come before it, or after.
            self.explain("COMMIT", error)
            if self.in_transaction:
                super().rollback()
            raise
        finally:
            self._ended()
        if self.on_change is not None:
            self.on_change()

    def rollback(self) -> None:
        """Roll the whole transaction back; that of a parent process is its own affair."""
        if self.inherited:
            return
        try:
            self._ending = True
            super().rollback()
        except sqlite3.Error as error:
            # The authorizer may have been interrupted.
            if self.in_transaction:
                super().rollback()
            self.explain("ROLLBACK", error)
            raise
        finally:
            self._ended()

    def blobopen(self, table: str, *args: Any, **kwargs: Any) -> Any:
        """Open a blob; those of protected tables for reading only."""
        if table.lower() in self.protected and not kwargs.get("readonly"):
            self.refuse(f"blobopen on {table}", "open it with readonly=True, or write rows")
        return super().blobopen(table, *args, **kwargs)

    def close(self) -> None:
        """Close the connection; that of a parent process stays as it is."""
        if self.inherited:
            return
        self.is_closing = True
        try:
            super().close()
            changed, self.on_change = self.on_change, None
            if changed is not None:
                changed()
        finally:
            self.is_closing = False

    def refuse(self, statement: str, remedy: str = _REMEDY) -> NoReturn:
        """Raise UntrackedWriteError for a statement."""
        shown = statement if len(statement) <= _SHOWN else f"{statement[:_SHOWN]}..."
        raise UntrackedWriteError(statement=shown, remedy=remedy) from None

    def checked(self, sql: str) -> str:
        """Return the text to run: marked with permission, and never without."""
        if self.inherited:
            self._refuse_inherited()
        if self.permits:
            # In front, because text after a CREATE INDEX would be kept in the schema.
            sql = f"{_MARK} {sql}"
        else:
            self._is_noted = False
            # Removing one mark may form another from the text on both sides of it.
            while _MARK in sql:
                sql = sql.replace(_MARK, "")
        if self.pending and _steers_transaction(sql.removeprefix(_MARK)):
            self.refuse(sql, _REMEDY_ENDING)
        return sql

    def explain(self, sql: str, error: sqlite3.Error) -> None:
        """Raise the cause of an SQLite error, if one of our callbacks raised it.

        Raises:
            UntrackedWriteError: The authorizer has refused the statement.
            KeyboardInterrupt: A signal handler has raised before the first line of the authorizer,
                where Python drops the exception.
        """
        lost, self.lost = self.lost, None
        denied, self._denied = self._denied, False
        if lost is not None:
            raise lost
        if denied:
            self.refuse(sql)
        if self.protected and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_AUTH:
            raise KeyboardInterrupt("a signal came while a statement was checked") from error

    def reset(self) -> None:
        """Permit nothing any more, as for one who has just connected."""
        self.permits = 0
        self.pending = False
        self.lost, self._denied, self._ending = None, False, False

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
        try:
            return self._decide(action, first, second, database)
        except BaseException as error:  # noqa: BLE001 - the statement raises it
            self.lost = error
            return sqlite3.SQLITE_DENY

    def _decide(
        self, action: int, first: str | None, second: str | None, database: str | None
    ) -> int:
        if self.permits or self._may_note(action, first, database):
            return sqlite3.SQLITE_OK
        if (
            (action in _TABLE_FIRST and first is not None and first.lower() in self.protected)
            or (action in _TABLE_SECOND and second is not None and second.lower() in self.protected)
            or (action == sqlite3.SQLITE_PRAGMA and _is_writable_schema(first) and second)
            or (action == sqlite3.SQLITE_TRANSACTION and self.pending and not self._ending)
        ):
            self._denied = True
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    def _may_note(self, action: int, table: str | None, database: str | None) -> bool:
        """Return whether a statement writes rows that triggers note, or data of such rows.

        To SQLite a cascade looks like a DELETE that follows in the same statement.
        """
        if self.noted is None or action not in _ROWS or table is None or database != "main":
            return False
        name = table.lower()
        if name == self.noted[0]:
            self._is_noted = True
            return True
        return self._is_noted and action == sqlite3.SQLITE_DELETE and name == self.noted[1]

    def _ended(self) -> None:
        self._ending = False
        if not self.in_transaction:
            self.pending = False


class GuardedCursor(sqlite3.Cursor):
    """A cursor that raises UntrackedWriteError if the authorizer refused a statement."""

    connection: GuardedConnection

    def execute(self, sql: str, parameters: Any = (), /) -> GuardedCursor:
        """Execute one statement."""
        connection = self.connection
        try:
            super().execute(connection.checked(sql), parameters)
        except sqlite3.DatabaseError as error:
            connection.explain(sql, error)
            raise
        return self

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> GuardedCursor:
        """Execute one statement for each set of parameters."""
        connection = self.connection
        try:
            super().executemany(connection.checked(sql), parameters)
        except sqlite3.DatabaseError as error:
            connection.explain(sql, error)
            raise
        return self

    def executescript(self, sql: str, /) -> GuardedCursor:
        """Execute several statements; a transaction with changes for the log refuses it."""
        connection = self.connection
        connection.checked(sql)
        if connection.pending:
            # The driver would commit first.
            connection.refuse(sql, "execute the statements one by one")
        connection.commit()
        # One by one, so that each is judged by itself.
        for statement in _statements(sql):
            self.execute(statement)
        return self

    def fetchone(self) -> Any:
        """Fetch the next row."""
        return self._fetched(super().fetchone)

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        """Fetch some rows."""
        return self._fetched(lambda: super(GuardedCursor, self).fetchmany(size))

    def fetchall(self) -> list[Any]:
        """Fetch all rows."""
        return self._fetched(super().fetchall)

    def _fetched(self, fetch: Callable[[], T]) -> T:
        try:
            return fetch()
        except sqlite3.DatabaseError as error:
            self.connection.explain("a query", error)
            raise


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; a string or a trigger may contain a semicolon."""
    statement = ""
    for piece in script.split(";"):
        statement += f"{piece};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip("; \t\r\n"):
        yield statement.removesuffix(";")


def _is_writable_schema(pragma: str | None) -> bool:
    # SQLite reports the name as the statement spells it.
    return pragma is not None and pragma.lower() == "writable_schema"


def mark_pending(connection: Connection) -> None:
    """Note on a connection of our own that its transaction has something for the log."""
    driver: Any = connection.connection.dbapi_connection
    if isinstance(driver, GuardedConnection):
        driver.pending = True
