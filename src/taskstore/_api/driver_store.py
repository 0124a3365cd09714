"""A store for reading that uses only the driver, without SQLAlchemy.

A command that reads a few records would otherwise spend most of its time on imports. This store
checks and updates the cache with the same code as an ordinary open: the seal, the revision of the
schema, the settings, the evolutions, the comparison of each log with its fingerprint, and the sync.
If anything else has to be done, an ordinary store does it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from taskstore._cache.engine.driver import connect
from taskstore._cache.engine.guard import GuardedConnection
from taskstore._cache.rows.rows import Rows
from taskstore._cache.schema.names import HEAD, TableNames
from taskstore._cache.sql.plain import COUNT, rows_sql
from taskstore._format.lines import decode_object
from taskstore._format.names import check_collection_name, check_id
from taskstore._format.problems import Problem
from taskstore._log.journal import is_live
from taskstore._log.layout import Layout
from taskstore._records.ids import now_ms
from taskstore._store.log_context import LOCK_TIMEOUT, LogContext
from taskstore._store.mirrored_models import NoMirrors
from taskstore._store.seal import CacheSeal
from taskstore._store.shapes import load_shapes
from taskstore._store.wanted_indexes import settings_want
from taskstore._sync.freshness import find_stale
from taskstore.errors import CacheError

if TYPE_CHECKING:
    # Few reads need these, so they are imported late.
    from taskstore._api.store import Store
    from taskstore._query.conditions import Condition
    from taskstore._sync.report import SyncReport
    from taskstore._sync.sync import Progress

T = TypeVar("T")
Row = dict[str, Any]
Question: TypeAlias = Callable[..., T]
"""A query of the cache's tables: a function of something that executes SQL."""

_FETCH = 500
"""How many rows an iteration takes from the cache at a time."""

_SMALL_BYTES = 4 * 1024 * 1024
"""The greatest length of a small collection's log."""

_TABLES = TableNames()


class DriverStore:
    """A store for the most common queries of commands, on one snapshot of an up-to-date cache.

    If a query needs more, or the file turns out to be damaged, it opens an ordinary store, which
    then answers all queries.

    Args:
        context: The logs.
        seal: Of the cache.
        driver: In a transaction.
        open_store: Opens the ordinary store.
    """

    def __init__(
        self,
        context: LogContext,
        seal: CacheSeal,
        driver: GuardedConnection,
        open_store: Callable[[], AbstractContextManager[Store]],
    ) -> None:
        self._context = context
        self._driver = driver
        self._open_store = open_store
        self._store: Store | None = None
        self._stack = ExitStack()
        self._stack.callback(seal.close)
        self._stack.callback(driver.close)

    @property
    def path(self) -> Path:
        """The store directory."""
        return self._context.layout.directory

    @property
    def recovered(self) -> Sequence[Problem]:
        """The problems that recovery left."""
        return self._context.recovered

    @property
    def store(self) -> Store:
        """The ordinary store, opened at the first call."""
        if self._store is None:
            self._stack.close()
            self._store = self._stack.enter_context(self._open_store())
        return self._store

    def close(self) -> None:
        """Close what is open."""
        self._stack.close()

    def get(self, collection: str, id: str) -> Row | None:
        """Return the record with an id, or None; as `Store.get`."""
        check_id(id, check_collection_name(collection))

        def read(rows: Rows) -> Row | None:
            line = rows.line(collection, id)
            return None if line is None else _decoded(line)

        return self._asked(read, lambda store: store.get(collection, id))

    def count(self, collection: str, *conditions: Condition) -> int:
        """Return how many records meet all filters; as `Store.count`."""
        check_collection_name(collection)

        def read(_: Rows) -> int:
            if conditions:
                return sum(1 for _ in self._passing(collection, conditions))
            return int(self._driver.execute(COUNT, (collection,)).fetchone()[0])

        return self._asked(read, lambda store: store.count(collection, *conditions))

    def iterate(
        self,
        collection: str,
        *conditions: Condition,
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Iterator[Row]:
        """Yield the records that meet all filters; as `Store.iterate`."""
        check_collection_name(collection)

        def ordinary(store: Store) -> Iterator[Row]:
            return store.iterate(
                collection, *conditions, order_by=order_by, limit=limit, offset=offset
            )

        def read(_: Rows) -> Iterator[Row]:
            if not conditions and order_by is None:
                sql, window = rows_sql(limit, offset)
                return self._walk(sql, (collection, *window))
            from taskstore._query.ordering import resolve_order, sort_key

            found = list(self._passing(collection, conditions))
            if order_by is not None:
                sorts = resolve_order(order_by, None)
                found.sort(key=lambda record: sort_key(sorts, record))
            start = offset or 0
            return iter(found[start : None if limit is None else start + limit])

        return self._asked(read, ordinary)

    def _passing(self, collection: str, conditions: Sequence[Condition]) -> Iterator[Row]:
        """Yield the records that meet all filters, newest first.

        Filters are evaluated in Python, by the code that defines what their SQL means. SQL is
        faster for a large collection, but importing its compiler takes as long as reading a small
        collection.

        Raises:
            _UnusualError: The collection is large.
        """
        from taskstore._query.conditions import And
        from taskstore._query.meaning import evaluate
        from taskstore._query.resolve import resolve

        log = self._context.layout.stat_log(collection)
        if log is not None and log.st_size > _SMALL_BYTES:
            raise _UnusualError("the collection is large")
        condition = resolve(And(tuple(conditions)), None)
        sql, _ = rows_sql(None, None)
        for (line,) in self._driver.execute(sql, (collection,)):
            record = _decoded(line)
            if evaluate(condition, record):
                yield record

    def _walk(self, sql: str, parameters: Sequence[Any]) -> Iterator[Row]:
        """Return the rows of a statement, the first of which have been read."""
        cursor = self._driver.execute(sql, parameters)
        first = [_decoded(line) for (line,) in cursor.fetchmany(_FETCH)]

        return chain(first, self._rest(cursor))

    def _rest(self, cursor: sqlite3.Cursor) -> Iterator[Row]:
        try:
            while lines := cursor.fetchmany(_FETCH):
                for (line,) in lines:
                    yield _decoded(line)
        except (sqlite3.Error, _UnusualError) as error:
            # Too late to start again: some records are printed already.
            raise CacheError(self._context.layout.cache_path, reason=str(error)) from error

    def ask(self, question: Question[T], *arguments: Any) -> T:
        """Return what a function finds in the cache's tables; see `taskstore._cache.sql.survey`."""
        return self._asked(
            lambda _: question(self._driver.execute, *arguments),
            lambda store: ask(store, question, *arguments),
        )

    def sync(self, *, on_progress: Progress | None = None) -> SyncReport:
        """Update the cache from the logs, as `Store.sync` does."""
        from taskstore._sync.driver_sync import try_sync

        def run(_: Rows) -> SyncReport:
            self._driver.rollback()
            report = try_sync(
                self._context, self._driver, None, counted=True, on_progress=on_progress
            )
            if report is None:
                raise _UnusualError("another program writes")
            self._driver.execute("BEGIN")
            return report

        return self._asked(run, lambda store: store.sync(on_progress=on_progress))

    def _asked(self, read: Callable[[Rows], T], ordinary: Callable[[Store], T]) -> T:
        if self._store is None:
            try:
                return read(Rows(self._driver.cursor(), _TABLES))
            except (sqlite3.Error, _UnusualError):
                # The ordinary store rebuilds the cache, or says what is wrong.
                pass
        return ordinary(self.store)


class _UnusualError(Exception):
    """Something that only an ordinary store can handle."""


def _decoded(line: str) -> Row:
    try:
        found = decode_object(line)
    except ValueError as error:
        raise _UnusualError(str(error)) from error
    if type(found) is not dict:
        raise _UnusualError("a row is not a JSON object")
    return found


def ask(store: Store | DriverStore, question: Question[T], *arguments: Any) -> T:
    """Return what a function finds in the tables of a store's cache.

    Args:
        store: The store.
        question: Called with a function that executes SQL, and the arguments.
        arguments: Its further arguments.
    """
    if isinstance(store, DriverStore):
        return store.ask(question, *arguments)
    with store.session(read_only=True) as session:
        return question(session.connection().exec_driver_sql, *arguments)


def open_with_driver(
    layout: Layout,
    open_store: Callable[[], AbstractContextManager[Store]],
    *,
    refresh: bool = True,
    on_progress: Progress | None = None,
) -> DriverStore | None:
    """Open an existing store directory; return None if an ordinary open is needed.

    Args:
        layout: Where the store is; its files may be written.
        open_store: Opens the ordinary store, if it is needed later.
        refresh: Whether to read new lines of the logs now.
        on_progress: Called while logs are read.

    Raises:
        StoreAccessError: The operating system refused a file.
        StoreVersionError: A newer library made the directory.
    """
    layout.prepare()
    if is_live(layout.journal_path):
        return None
    context = LogContext(
        layout=layout,
        clock=now_ms,
        lock_timeout=LOCK_TIMEOUT,
        read_only=False,
        mirrors=NoMirrors(),
        on_progress=on_progress,
    )
    seal = CacheSeal(layout)
    driver = None
    is_usable = False
    try:
        if seal.is_whole():
            driver = connect(layout.cache_path, seal)
            layout.restrict_state()
            is_usable = _is_usable(context, driver) and (not refresh or _refreshed(context, driver))
    except sqlite3.Error:
        # The ordinary store rebuilds the cache, or says what is wrong.
        is_usable = False
    finally:
        if not is_usable:
            if driver is not None:
                driver.close()
            seal.close()
    if driver is None or not is_usable:
        return None
    return DriverStore(context, seal, driver, open_store)


def _is_usable(context: LogContext, driver: GuardedConnection) -> bool:
    """Begin a transaction, and say whether an ordinary open would change only stale rows."""
    driver.execute("BEGIN")
    rows = Rows(driver.cursor(), _TABLES)
    if rows.revisions() != [HEAD] or rows.mirror_states() or settings_want(context.layout, rows):
        return False
    context.shapes = load_shapes(rows, {})
    return not context.shapes.pending


def _refreshed(context: LogContext, driver: GuardedConnection) -> bool:
    """Update the cache from the logs; return false if that would have to wait for a lock."""
    found = find_stale(context, Rows(driver.cursor(), _TABLES), None)
    if not found:
        return True
    from taskstore._sync.driver_sync import try_sync

    driver.rollback()
    if try_sync(context, driver, sorted(item.collection for item in found)) is None:
        return False
    driver.execute("BEGIN")
    return True
