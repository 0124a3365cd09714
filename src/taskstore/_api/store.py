"""The store: a directory of logs, and the cache that answers queries."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from taskstore._api.change_calls import ChangeCalls
from taskstore._api.mirror_calls import MirrorCalls
from taskstore._api.opening import (
    check_bind,
    check_engine,
    check_timeout,
    codecs_of,
    layout_of,
    open_context,
)
from taskstore._api.reading import Reader
from taskstore._api.sessions import Sessions
from taskstore._api.undo_calls import UndoCalls
from taskstore._api.upkeep_calls import UpkeepCalls
from taskstore._cache.schema.models import DEFAULT, Models, mapped_again
from taskstore._log.layout import Layout
from taskstore._records.ids import now_ms
from taskstore._records.interface import RecordCodec
from taskstore._store.catalog import Catalog, rebuild_indexes
from taskstore._store.context import StoreContext
from taskstore._store.log_context import LOCK_TIMEOUT
from taskstore._sync.cache_file import CacheFile
from taskstore._sync.refresh import Refresher
from taskstore._sync.sync import Progress
from taskstore._unit.session_hook import SessionHook
from taskstore._unit.transaction import TransactionHook

T = TypeVar("T")


def _is_safe(directory: Path) -> bool:
    from taskstore._git.safety import is_safe  # only for the stores of other users

    return is_safe(directory)


def _on_postgres(kind: type[T], *arguments: Any) -> T:
    """Return a store with the calls for PostgreSQL."""
    from taskstore._api.postgres_calls import kind_on_postgres  # most stores are on SQLite

    store: T = kind_on_postgres(kind)(*arguments)
    return store


def _without_directory(kind: type[T], *arguments: Any) -> T:
    """Return a store on PostgreSQL that has no directory."""
    from taskstore._api.postgres_server import open_server  # as above

    store: T = open_server(kind, *arguments)
    return store


class Store(UndoCalls, UpkeepCalls, MirrorCalls, ChangeCalls):
    """A directory of JSON Lines logs, one per collection, with a SQLite cache for queries.

    Open one with `Store.open`. Several threads can use a store at the same time. Any number of
    stores, in any number of processes, can share a directory.
    """

    def __init__(self, context: StoreContext) -> None:
        """Assemble a store; use `Store.open`."""
        self._context = context
        self._catalog = Catalog(context)
        self._transactions = TransactionHook(context)
        self._refresher = Refresher(context, self._transactions)
        self._cache = CacheFile(context, self._catalog, self._refresher)
        self._hook = SessionHook(context, self._transactions)
        self._sessions = Sessions(
            context, self._transactions, self._hook, self._refresher, self._cache
        )
        self._reader = Reader(context, self._sessions, self._refresher, self._catalog, self._cache)
        self._attached: list[Any] = []
        self._is_closed = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = Layout.NAME,
        *,
        types: Iterable[type[Any]] = (),
        engine: Engine | None = None,
        read_only: bool = False,
        create: bool = True,
        mirrors: Iterable[Any] = (),
        models: Models = DEFAULT,
        migrate: bool | None = None,
        refresh: bool = True,
        lock_timeout: float = LOCK_TIMEOUT,
        clock: Callable[[], int] = now_ms,
        on_progress: Progress | None = None,
        ack: Literal["database", "log"] = "database",
    ) -> Self:
        """Open a store: upgrade its cache, recover from a crash, and sync stale collections.

        Args:
            path: The store directory. None, with an `engine` for PostgreSQL, for a server that has
                no directory because `taskstore scribe` writes the log elsewhere: all calls that
                need the log then raise LogElsewhereError.
            types: Record classes to index in the cache. Others are added when they are first used.
            engine: An engine of the application, for SQLite or for PostgreSQL with psycopg. Its
                database holds the cache; by default the cache is a file in the directory. While
                the store is open, writes to `StoredRecord` and to mirrored tables are logged, and
                the other tables of the store must not be written. After a fork, dispose of the
                engine in the child (close=False).
            mirrors: Models and association tables of the application that are declared with
                `mirrored`. Needs `engine`.
            models: The models of the store's tables in `engine`. If table names clash, pass
                `build_models(prefix=...)`.
            read_only: Write nothing at all, and keep the cache in memory.
            create: Create the directory if it does not exist.
            migrate: Whether to upgrade the schema of `engine`. By default this is left to the
                application. The store's own cache is always upgraded.
            refresh: Check whether the logs have changed, now and before each unit of work. If
                false, only `sync` reads them.
            lock_timeout: How long to wait for another writer, in seconds.
            clock: A function that returns the time for stamps, in milliseconds since the epoch. On
                PostgreSQL the default is the server's clock, and mirrored models always use it.
            on_progress: Called while logs are read, now and later, with a collection, the bytes
                read and the bytes to read.
            ack: When a commit on PostgreSQL returns: when the "database" has the transaction, or
                when the "log" has it too. On SQLite it is always the log.

        Raises:
            StoreNotFoundError: There is no such directory, and `create` is false.
            StoreVersionError: A newer version of the library created the directory.
            StoreAccessError: The operating system refused a file.
            SchemaVersionError: A newer version of the library upgraded the cache.
            MigrationRequiredError: The schema of `engine` is not current.
            InvalidDeclarationError: Something in `mirrors` cannot be mirrored, or `lock_timeout` is
                not a number.
            UntrackedWriteError: `engine` is for asyncio or of another database, or another open
                store writes the log of its tables.
            UnsupportedError: `engine` is for PostgreSQL, and an argument is not possible there.
            TriggersRequiredError: Mirrored tables in PostgreSQL lack their triggers.
            OutboxOwnerError: Another clone writes the logs of that database.
            RecoveryError: A crash left something that cannot be recovered.
        """
        check_timeout(lock_timeout)
        models = mapped_again(models)
        if path is None:
            options = migrate, lock_timeout, clock, ack, read_only
            return _without_directory(cls, engine, types, mirrors, models, *options)
        if engine is not None:
            check_engine(engine, read_only=read_only)
        context = open_context(
            layout_of(path),
            engine,
            mirrors,
            models,
            read_only=read_only,
            create=create,
            lock_timeout=lock_timeout,
            migrate=bool(migrate),
            clock=clock,
            refresh=refresh,
            on_progress=on_progress,
        )
        if context.engine.dialect.name == "postgresql":
            return _on_postgres(cls, context, ack, types)
        store = cls(context)
        store._start(types)
        return store

    @classmethod
    def find(cls, start: str | os.PathLike[str] = ".", **options: Any) -> Self:
        """Open the nearest store in `start` or a parent directory, with the options of `open`.

        Raises:
            StoreNotFoundError: There is no store.
            StoreOwnerError: The nearest store belongs to another user, and git's `safe.directory`
                does not name it.
        """
        return cls.open(Layout.find(start, is_safe=_is_safe), **{"create": False, **options})

    def _start(self, types: Iterable[type[Any]]) -> None:
        try:
            self._transactions.install()
            codecs = codecs_of(types, self._catalog)
            self._cache.open()
            if not self._context.read_only:
                self._context.layout.restrict_state()
            self._transactions.follow_own()
            self._sessions.run(lambda: self._cache.retried(lambda: self._bring_up(codecs)))
        except BaseException:
            self.close()
            raise

    def _bring_up(self, codecs: Iterable[RecordCodec[Any]]) -> None:
        self._refresher.teach_settings(self._catalog)
        for codec in codecs:
            self._refresher.teach(self._catalog, codec)
        self._refresher.state_evolutions()
        self._catalog.check_mirrors()
        self._refresher.catch_up()
        self._log_migrated()
        # A cache from another clone is rebuilt, so the store is still found.
        if self._context.refresh or self._cache.is_remade:
            self._refresher.before_read(None)
        self._refresher.warn_of_clashes()

    def close(self) -> None:
        """Close the store and detach its sessions. You may close it twice."""
        try:
            self._close()
        except BaseException:
            # The steps that an exception prevented, for example from a signal handler.
            self._close()
            raise

    def _close(self) -> None:
        """Close the store. Each step can be repeated."""
        context = self._context
        if self._is_closed:
            return
        for target in list(self._attached):
            self.detach(target)
        context.closed = True
        self._transactions.remove()
        if context.own_engine:
            self._cache.end()
        context.log_lock.close()
        context.gate.close()
        if context.on_close is not None:
            context.on_close()
        self._is_closed = True

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    def __repr__(self) -> str:
        """Say where the store is."""
        state = ", closed" if self._context.closed else ""
        return f"<Store {self._context.past or str(self.path)!r}{state}>"

    @property
    def path(self) -> Path:
        """The store directory."""
        return self._context.path

    @property
    def engine(self) -> Engine:
        """The engine of the cache. Bind sessions to it before you attach them."""
        return self._context.engine

    @property
    def models(self) -> Models:
        """The declarative models of the cache; those of `taskstore.models` by default."""
        return self._context.models

    @property
    def read_only(self) -> bool:
        """Whether the store is read-only."""
        return self._context.read_only

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Run a block as one transaction.

        Store calls in the same thread (and asyncio task) join it, and so does the attached
        session that is yielded. The end of the block commits; an exception rolls
        back. A nested transaction is a savepoint.

        Raises:
            StoreReadOnlyError: The store or the surrounding session is read-only.
        """
        with self._sessions.transaction() as session:
            yield session

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Session]:
        """Yield an attached SQLAlchemy session. You commit it; the end of the block closes it.

        Store calls in the same thread (and asyncio task) join it. Inside another
        transaction, its commit releases a savepoint.

        Args:
            read_only: Refuse writes, and do not wait for writers.
        """
        with self._sessions.session(read_only=read_only) as session:
            yield session

    def attach(self, target: Any) -> None:
        """Attach a session, sessionmaker or scoped_session of your application.

        Its flushes stamp `StoredRecord` rows before they are written, and a stale row raises.
        It keeps its begin mode, and sees the logs as of the last `sync`. On PostgreSQL it refuses
        to write `StoredRecord` rows, which are for queries there.

        Raises:
            UntrackedWriteError: It is bound to another engine, or it is for asyncio.
        """
        self._context.check_open()
        check_bind(target, self._context.engine)
        self._hook.attach(target)
        if not any(target is known for known in self._attached):
            self._attached.append(target)

    def detach(self, target: Any) -> None:
        """Detach what was attached."""
        self._hook.detach(target)
        self._attached = [known for known in self._attached if known is not target]

    def rebuild_indexes(self, type: type[Any], /) -> int:
        """Rewrite the index rows of a collection, from its rows and its record class.

        A row that does not fit the class is skipped with a `RecordSkippedWarning`. Its index rows
        keep the values of its line.

        Returns:
            How many records were indexed.
        """
        codec = self._catalog.codec(type)
        return self._run(
            codec, "rebuild indexes", lambda writer: rebuild_indexes(codec, writer.rows)
        )
