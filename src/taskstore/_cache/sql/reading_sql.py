"""Queries of a user's own on the cache, which SQLite itself keeps from writing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Engine

from taskstore._cache.engine.guard import GuardedConnection
from taskstore.errors import TaskstoreError

_READING = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
)
_PRAGMAS = frozenset(
    {
        "compile_options",
        "foreign_key_list",
        "function_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "table_info",
        "table_list",
        "table_xinfo",
    }
)

_ASKED = frozenset({"database_list", "schema_version"})
"""Those that only tell something as long as they have no argument."""

_PATIENCE = 100_000
"""After how many of SQLite's instructions Python gets a chance to see Ctrl-C."""

Answer = tuple[list[str], Iterator[Sequence[Any]]]
"""The names of the columns, and the rows."""


class QueryError(TaskstoreError, ValueError):
    """A query that SQLite does not understand, or that would write."""

    sql: str
    reason: str

    def __init__(self, sql: str, reason: str) -> None:
        super().__init__(reason, sql=sql, reason=reason)


@contextmanager
def answered(
    engine: Engine, sql: str, parameters: Any = (), views: Sequence[str] = ()
) -> Iterator[Answer]:
    """Run one statement on a connection that can only read.

    `query_only` keeps SQLite from changing any database, and an authorizer from everything but
    SELECT and harmless PRAGMAs; ATTACH, which could make a file, among them.

    Args:
        engine: The cache's.
        sql: The statement.
        parameters: Its parameters.
        views: Statements that make temporary views for it.

    Raises:
        QueryError: SQLite refuses the statement.
    """
    with own_connection(engine) as driver:
        try:
            for view in views:
                driver.execute(view)
            restrict(driver)
            # Without it a Ctrl-C would wait for the query to end.
            watch = _watch(driver)
            next(watch)
            driver.set_progress_handler(watch.__next__, _PATIENCE)
            cursor = driver.execute(sql, parameters)
            if cursor.description is None:
                raise QueryError(sql, "this is not a query: it has no result")
            names = [column[0] for column in cursor.description]
            rows = _rows(sql, cursor)
            try:
                yield names, rows
            finally:
                # If iteration stops early, cursors stay open. Later the database is closed.
                rows.close()
                cursor.close()
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise _refused(sql, error, driver) from error


@contextmanager
def own_connection(engine: Engine) -> Iterator[Any]:
    """Give a connection of the driver that nobody else uses afterwards.

    It is not returned to the pool: the next user must be able to write.
    """
    connection = engine.raw_connection()
    try:
        connection.detach()
        yield connection.dbapi_connection
    finally:
        connection.close()


def restrict(driver: sqlite3.Connection) -> None:
    """Make a driver's connection read-only permanently."""
    driver.execute("PRAGMA query_only = ON")
    if isinstance(driver, GuardedConnection):
        driver.protected = frozenset()
    driver.set_authorizer(_authorize)


def attach_sql(path: Path, schema: str, *, from_memory: bool = False) -> str:
    """Return the statement that gives a connection another database.

    Args:
        path: The database.
        schema: The name that its tables have before theirs.
        from_memory: Whether the connection is to a database in memory, as those of a store for
            reading: SQLite would look for this one there, too.
    """
    name = str(path)
    if from_memory:
        name = f"{path.as_uri()}?vfs={'win32' if os.name == 'nt' else 'unix'}"
    name = name.replace("'", "''")
    return f"ATTACH DATABASE '{name}' AS \"{schema}\""


def view_sql(
    view: str, collection: str, fields: Sequence[str], *, create: str = "CREATE TEMP VIEW"
) -> str:
    """Return the statement that makes a view of a collection, with a column for each field.

    A name that differs from an earlier one in its case alone is left out: to SQL they are the same.

    Args:
        view: Its name.
        collection: The name of the collection's log.
        fields: The fields.
        create: How it begins: only a temporary view can name a database.
    """
    columns = {}
    for name in fields:
        if '"' not in name and name.lower() not in columns:
            path = f'$."{name}"'.replace("'", "''")
            columns[name.lower()] = f"json_extract(data_json, '{path}') AS \"{name}\""
    chosen = ", ".join(columns.values()) or "id"
    database = "main." if "TEMP" in create else ""
    return (
        f'{create} "{view}" AS SELECT {chosen} FROM {database}records '
        f"WHERE collection = '{collection}'"
    )


def put_views(engine: Engine, views: Mapping[str, str]) -> None:
    """Make the views of a cache of the past that it does not have, or has otherwise.

    Args:
        engine: The cache's.
        views: The statement that makes each one, by its name.
    """
    with own_connection(engine) as driver:
        known = dict(driver.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view'"))
        if views.items() <= known.items():
            return
        driver.execute("BEGIN IMMEDIATE")
        for name, statement in views.items():
            driver.execute(f'DROP VIEW IF EXISTS "{name}"')
            driver.execute(statement)
        driver.commit()


def _watch(driver: GuardedConnection) -> Iterator[int]:
    """Yield 0 until an exception comes, and then 1, which ends the query.

    Not a function, which could be interrupted before its first line: a generator goes on within
    its `try`.
    """
    while True:
        try:
            while True:
                yield 0
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - the query raises it
            driver.lost = error
        yield 1


def _rows(sql: str, cursor: Any) -> Generator[Sequence[Any]]:
    try:
        yield from cursor
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _refused(sql, error, cursor.connection) from error


def _refused(sql: str, error: Exception, driver: GuardedConnection) -> QueryError:
    if driver.lost is not None:
        raise driver.lost
    reason = str(error)
    if "not authorized" in reason or "readonly" in reason or "prohibited" in reason:
        reason = f"only queries can be run here, nothing that writes ({reason})"
    return QueryError(sql, reason)


def _authorize(
    action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
) -> int:
    if action in _READING:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA:
        name = (first or "").lower()
        if name in _PRAGMAS or (name in _ASKED and second is None):
            return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
