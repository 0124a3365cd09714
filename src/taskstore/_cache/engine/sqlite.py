"""The engines of a store's own cache: a SQLite file, or memory for a store that writes nothing."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from taskstore._cache.engine.driver import BUSY_TIMEOUT_MS, CONNECT_ARGUMENTS, Seal, set_up
from taskstore._cache.engine.forks import watch_forks
from taskstore._cache.engine.functions import TAUGHT, register_functions
from taskstore._cache.engine.guard import GuardedConnection
from taskstore._cache.schema.models import DEFAULT, Models

WRITE_OPTION = "taskstore_write"
"""The execution option under which a connection begins with BEGIN IMMEDIATE."""

BEGUN_OPTION = "taskstore_begun"
"""The execution option of a connection whose transaction was begun below SQLAlchemy."""


_memories = itertools.count(1)


def create_cache_engine(
    path: str | os.PathLike[str],
    models: Models = DEFAULT,
    *,
    busy_timeout_ms: int = BUSY_TIMEOUT_MS,
    seal: Seal | None = None,
) -> Engine:
    """Return an engine on the cache file, guarded against writes that miss the log.

    The file is made by the first connection. Call `enable_wal` once, under the lock for the first
    open, before it is used by several. Where the file does not fit its seal, connecting raises
    ForeignCacheError.
    """
    database = os.fspath(Path(path).absolute())
    url = URL.create("sqlite", database=database)
    engine = _guarded_engine(url, models, busy_timeout_ms, seal)
    watch_forks(engine, database)
    return engine


def create_memory_engine(models: Models = DEFAULT) -> Engine:
    """Return an engine on a database in memory, which lives until the engine is disposed of.

    Its connections share the data and lock each other out as those of a file would, so that
    threads, and a read within a read, need no care. SQLite limits such a database to 1 GiB.
    """
    name = f"taskstore-{os.getpid()}-{next(_memories)}"
    url = URL.create("sqlite", database=f"file:/{name}", query={"vfs": "memdb", "uri": "true"})
    engine = _guarded_engine(url, models, BUSY_TIMEOUT_MS)
    # The database is gone with its last connection: this one is never handed out.
    keeper = engine.raw_connection()
    keeper.detach()

    @event.listens_for(engine, "engine_disposed")
    def close(_: Engine) -> None:
        keeper.close()

    return engine


def before_begin(engine: Engine, listener: Callable[[Connection], None]) -> None:
    """Call a listener before one of our engines sends BEGIN.

    SQLAlchemy calls these listeners in the order in which they came, whatever `insert` says.
    """
    ours = event.contains(engine, "begin", _begin)
    try:
        if ours:
            event.remove(engine, "begin", _begin)
        event.listen(engine, "begin", listener)
    finally:
        if ours:
            event.listen(engine, "begin", _begin)


def begin_explicitly(engine: Engine) -> None:
    """Make a SQLite engine begin its transactions itself, so that DDL is part of them too.

    Under the execution option `taskstore_write` they begin as writers. Nothing happens to an
    engine of another database.
    """
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def connect(driver: Any, record: Any) -> None:
        driver.isolation_level = None

    event.listen(engine, "begin", _begin)


def enable_wal(engine: Engine) -> str:
    """Turn on write-ahead logging for the file, and return the journal mode that it has now.

    Two first opens must not do this at once: the caller holds the lock for that. Filesystems
    that cannot do it keep their mode.
    """
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        mode = _journal_mode(cursor, "PRAGMA journal_mode")
        if mode not in ("wal", "memory"):
            mode = _journal_mode(cursor, "PRAGMA journal_mode = WAL")
        cursor.close()
        return mode
    finally:
        connection.close()


@contextmanager
def no_waiting(engine: Engine) -> Iterator[Connection | None]:
    """Give a connection that holds the database's write lock; None if another holds it.

    What is not committed in the block is rolled back. It works on an application's engine too.
    """
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        try:
            _begin_at_once(connection, driver)
        except (OperationalError, sqlite3.OperationalError) as error:
            if not is_busy(error):
                raise
            yield None
        else:
            yield connection


def _begin_at_once(connection: Connection, driver: Any) -> None:
    [timeout] = driver.execute("PRAGMA busy_timeout").fetchone()
    try:
        driver.execute("PRAGMA busy_timeout = 0")
        connection.begin()
        begin_as_writer(driver)
        driver.execute(f"PRAGMA busy_timeout = {timeout}")
    except BaseException as error:
        if isinstance(error, Exception):
            driver.execute(f"PRAGMA busy_timeout = {timeout}")
        elif not connection.closed:
            # No other is to get it as it is.
            connection.invalidate(error)
        raise


def begin_as_writer(driver: Any) -> None:
    """Make a transaction in which nothing has been done yet one that holds the write lock.

    Raises:
        sqlite3.OperationalError: The lock was not to be had.
    """
    if driver.in_transaction:
        # A deferred one: it is nothing so far, and would have to be lucky to become a writer.
        driver.execute("ROLLBACK")
    driver.execute("BEGIN IMMEDIATE")


def driver_error(error: BaseException) -> BaseException | None:
    """Return the driver's error behind an error; None for an error that is not the database's.

    An application's listener for `handle_error` may raise an exception of its own instead of
    SQLAlchemy's. The driver's error is its cause then.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, DBAPIError):
            return found.orig
        if isinstance(found, sqlite3.Error):
            return found
        found = found.__cause__
    return None


def is_busy(error: BaseException) -> bool:
    """Return whether a database error says that another connection holds a lock."""
    cause = driver_error(error)
    if not isinstance(cause, sqlite3.OperationalError):
        return False
    # The low byte is the primary code; BUSY_SNAPSHOT is one of BUSY's variants.
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _journal_mode(cursor: Any, statement: str) -> str:
    cursor.execute(statement)
    return str(cursor.fetchone()[0]).lower()


def _guarded_engine(
    url: URL, models: Models, busy_timeout_ms: int, seal: Seal | None = None
) -> Engine:
    engine = create_engine(
        url,
        connect_args={
            **CONNECT_ARGUMENTS,
            "timeout": busy_timeout_ms / 1000,
        },
        poolclass=QueuePool,
        # A reader that waits for a pooled connection while it holds one would wait for itself.
        max_overflow=-1,
    )
    tables = (*models.table_names, models.version_table)

    @event.listens_for(engine, "connect")
    def connect(driver: GuardedConnection, record: Any) -> None:
        set_up(driver, seal, busy_timeout_ms)
        register_functions(driver)
        record.info[TAUGHT] = True
        driver.protect(tables)

    event.listen(engine, "begin", _begin)
    event.listen(engine, "checkin", _checkin)
    return engine


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("isolation_level") == "AUTOCOMMIT" or options.get(BEGUN_OPTION):
        return
    # A reader that turned writer would fail at once if another wrote in between.
    statement = "BEGIN IMMEDIATE" if options.get(WRITE_OPTION) else "BEGIN"
    try:
        # Below SQLAlchemy, where a statement costs a tenth, because it triggers no events.
        connection.connection.dbapi_connection.execute(statement)  # type: ignore[union-attr]
    except sqlite3.OperationalError as error:
        raise OperationalError(statement, None, error) from error


def _checkin(driver: Any, record: Any) -> None:
    # An error raised at the wrong moment can leave SQLAlchemy believing that all is done.
    if isinstance(driver, GuardedConnection):
        if driver.in_transaction:
            driver.rollback()
        driver.reset()
