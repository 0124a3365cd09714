"""The cache and the history as databases of Datasette, for reading alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
from datasette.app import Datasette
from datasette.database import Database
from sqlalchemy.orm import Session

from taskstore._api.history_session import history_database, session_with
from taskstore._api.history_tables import fill
from taskstore._api.store import Store
from taskstore._cache.history.database import reading
from taskstore._cache.sql.reading_sql import own_connection, restrict
from taskstore.errors import TaskstoreError

_PATIENCE = 5.0
"""How long a page waits for the first reading of the history, in seconds."""

Opener = Callable[[], AbstractContextManager[Any]]


class ReadingDatabase(Database):  # type: ignore[misc] # Datasette has no types
    """A database of Datasette whose connections can only read, and see what is new.

    Datasette would keep a connection to a file, which may be gone when a cache is made again.

    Args:
        datasette: Datasette.
        opener: Gives a connection of the driver.
        executor: Where queries run.
    """

    def __init__(self, datasette: Datasette, opener: Opener, executor: Executor) -> None:
        # It has no path that Datasette could open, offer for download or show.
        super().__init__(datasette, is_mutable=True, is_memory=True)
        self._opener = opener
        self._executor = executor

    def connect(self, write: bool = False) -> Any:
        """Refuse: there is no connection that Datasette may keep."""
        raise NotImplementedError("connections are made for each query")

    async def execute_fn(self, fn: Callable[[Any], Any]) -> Any:
        """Return what a function finds with a connection."""

        def run() -> Any:
            with self._opener() as connection:
                self.ds._prepare_connection(connection, self.name)
                return fn(connection)

        return await asyncio.get_running_loop().run_in_executor(self._executor, run)

    async def execute_write_fn(self, fn: Callable[[Any], Any], block: bool = True) -> Any:
        """Refuse: nothing is written."""
        raise NotImplementedError("this database is for reading")

    async def execute(self, sql: str, *args: Any, **options: Any) -> Any:
        """Return the rows of a query; an error is not printed, for it may steer the terminal."""
        return await super().execute(sql, *args, **{**options, "log_sql_errors": False})


class StillReadingError(TaskstoreError):
    """The history is being read for the first time. A page that needs it can be had soon."""


@attrs.define
class Databases:
    """Gives connections to the cache and to the history of a store.

    A page of Datasette sends many queries. What is new is read once for each page, in `refresh`
    and `read_history`.
    """

    _store: Store
    _stack: ExitStack = attrs.field(factory=ExitStack)
    _path: Path | None = None
    _lock: Any = attrs.field(factory=threading.Lock)
    _first: threading.Thread | None = None

    def begin(self) -> None:
        """Begin to read the whole history, in a thread; pages without history need not wait."""
        self._first = threading.Thread(target=self._read_first, daemon=True)
        self._first.start()

    def _read_first(self) -> None:
        # The page that needs it tries again, and shows the error.
        with suppress(TaskstoreError):
            self._read(())

    def refresh(self) -> None:
        """Read what is new in the logs.

        Raises:
            TaskstoreError: The logs cannot be read.
        """
        with self._store.session(read_only=True) as session:
            session.connection()

    def read_history(self, *collections: str) -> Path:
        """Read what is new in git and in the logs into the history, and return where that is.

        Args:
            collections: Those that are wanted; none for all.

        Raises:
            StillReadingError: The first reading takes long.
            TaskstoreError: The logs cannot be read, or git refused.
        """
        if self._first is not None:
            self._first.join(_PATIENCE)
            if self._first.is_alive():
                raise StillReadingError("The history is being read for the first time.")
        return self._read(collections)

    def _read(self, collections: Sequence[str]) -> Path:
        context, names = self._store._context, collections or None
        # The first time may take long, and SQLite would not wait so long for another one.
        with self._lock:
            if self._path is None:
                self._path = self._stack.enter_context(history_database(context, names))
            else:
                fill(context.layout, self._path.parent, names)
            return self._path

    @contextmanager
    def history_session(self, *collections: str) -> Iterator[Session]:
        """Give a session that reads the cache and the history, both as they are now, in a block.

        Args:
            collections: Those that are wanted; none for all.

        Raises:
            TaskstoreError: The logs cannot be read, or git refused.
        """
        self.refresh()
        path = self.read_history(*collections)
        with session_with(self._store._context, path) as session:
            yield session

    @contextmanager
    def cache(self) -> Iterator[Any]:
        """Give a connection to the cache, in a block."""
        with own_connection(self._store.engine) as connection:
            restrict(connection)
            yield connection

    @contextmanager
    def history(self) -> Iterator[Any]:
        """Give a connection to the history, in a block."""
        path = self._path if self._path is not None else self.read_history()
        with reading(path) as connection:
            yield connection

    def close(self) -> None:
        """Remove what was made for this server alone."""
        if self._first is not None:
            self._first.join(_PATIENCE)
        self._stack.close()
