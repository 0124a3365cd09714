"""A session that sees the cache and the history."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from taskstore._api.history_tables import fill
from taskstore._cache.history.database import detach_history_sql, history_sql
from taskstore._log.snapshots import private_folder
from taskstore._log.trust import Mark
from taskstore._store.context import StoreContext
from taskstore._store.sqlite_errors import DatabaseErrors
from taskstore.errors import UnsupportedError

S = TypeVar("S", bound=Session)


@contextmanager
def history_database(context: StoreContext, collections: Sequence[str] | None) -> Iterator[Path]:
    """Yield the path of the history's database, after updating it.

    Args:
        context: The store. A read-only store gets a temporary file.
        collections: The collections to include; None for all.
    """
    if context.read_only:
        folder = Path(tempfile.mkdtemp(prefix="taskstore-"))
        try:
            yield fill(context.layout, folder, collections)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    mark = Mark.of(context.layout.directory, own=True)
    yield fill(context.layout, private_folder(mark), collections)


@contextmanager
def history_session(context: StoreContext, collections: Sequence[str] | None) -> Iterator[Session]:
    """Yield a session on the engine of the store that can also read the history.

    Args:
        context: The store.
        collections: The collections whose history to include; None for all.
    """
    with history_database(context, collections) as path, session_with(context, path) as session:
        yield session


@contextmanager
def session_with(context: StoreContext, path: Path) -> Iterator[Session]:
    """Give a session on the engine of the store that can read a database of the history as well.

    Args:
        context: The store.
        path: The database, as `history_database` gives it.
    """
    from_memory = context.read_only and context.own_engine
    attach = history_sql(path, from_memory=from_memory)
    with attached_session(context, attach, detach_history_sql(), Session) as session:
        yield session


@contextmanager
def attached_session(
    context: StoreContext, attach: Iterable[str], detach: Iterable[str], kind: type[S]
) -> Iterator[S]:
    """Give a session on the engine of the store that sees more databases, and cannot write.

    Args:
        context: The store.
        attach: Statements that give a connection these databases.
        detach: Statements that take them away again.
        kind: The class of the session.

    Raises:
        UnsupportedError: The store is on PostgreSQL.
    """
    if context.engine.dialect.name != "sqlite":
        remedy = "open the same directory as a store without an engine"
        raise UnsupportedError(operation="a session that sees the past", remedy=remedy)
    with context.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        try:
            for statement in attach:
                driver.execute(statement)
            driver.execute("PRAGMA query_only = ON")
            with kind(connection) as session:
                yield session
        finally:
            connection.rollback()
            driver.execute("PRAGMA query_only = OFF")
            for statement in detach:
                with suppress(*DatabaseErrors):  # it was not attached
                    driver.execute(statement)
