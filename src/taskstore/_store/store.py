"""The store: one directory of logs, and the cache that answers for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from taskstore._cache.models import DEFAULT, Models
from taskstore._log.commit import LogWriter
from taskstore._log.gate import Gate
from taskstore._log.layout import Layout
from taskstore._log.locks import directory_lock
from taskstore._records.ids import now_ms
from taskstore._records.types import RecordCodec
from taskstore._store.cache_file import CacheFile
from taskstore._store.catalog import Catalog
from taskstore._store.context import StoreContext
from taskstore._store.local_gate import LocalGate
from taskstore._store.mirror_calls import MirrorCalls
from taskstore._store.opening import (
    check_bind,
    check_engine,
    codecs_of,
    layout_of,
    mirrors_of,
    own_engine_of,
    prepare,
)
from taskstore._store.read_calls import ReadCalls
from taskstore._store.reading import Reader
from taskstore._store.refresh import Refresher
from taskstore._store.reindex import rebuild_indexes
from taskstore._store.session_hook import SessionHook
from taskstore._store.sessions import Sessions
from taskstore._store.statement_hook import StatementHook
from taskstore._store.sync import Progress
from taskstore._store.transaction import TransactionHook
from taskstore._store.upkeep_calls import UpkeepCalls
from taskstore._store.write_calls import WriteCalls

LOCK_TIMEOUT = 30.0
"""How long to wait for another writer, in seconds."""


class Store(ReadCalls, WriteCalls, UpkeepCalls, MirrorCalls):
    """A directory of JSON Lines logs, one per collection, with an SQLite cache that queries them.

    Open one with `Store.open`. A store may be used by several threads at once, and any number of
    stores, in any number of processes, may share a directory.
    """

    def __init__(self, context: StoreContext) -> None:
        """Assemble a store; use `Store.open`."""
        self._context = context
        self._catalog = Catalog(context.layout, context.mirrors)
        self._transactions = TransactionHook(context)
        self._refresher = Refresher(context, self._transactions)
        self._cache = CacheFile(context, self._catalog, self._refresher)
        self._statements = StatementHook(context, self._transactions)
        self._hook = SessionHook(context, self._transactions)
        self._sessions = Sessions(context, self._hook, self._refresher, self._cache)
        self._reader = Reader(context, self._sessions, self._refresher, self._catalog, self._cache)
        self._attached: list[Any] = []

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] = Layout.NAME,
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
    ) -> Self:
        """Open a store: upgrade its cache, recover what a crash left, sync what is stale.

        Args:
            path: the store directory.
            types: record classes that the cache is to index; others are taught at first use.
            engine: a SQLite engine of the application, whose database is to be the cache; by
                default the cache is a file in the directory. While the store is open, every
                statement that SQLAlchemy sends there is checked; what goes to a cursor of the
                driver itself is not. After a fork, dispose of it in the child (close=False).
            mirrors: models of the application, and association tables, that are declared with
                `mirrored`; needs `engine`.
            models: the models of the store's own tables in `engine`, as `build_models` gives them
                with a prefix where names clash.
            read_only: write nothing anywhere; the cache is in memory.
            create: make the directory where there is none.
            migrate: whether to upgrade the schema of `engine`; by default that is left to the
                application. The store's own cache is always upgraded.
            refresh: look whether the logs have changed, now and before each unit of work; without
                it only `sync` does.
            lock_timeout: how long to wait for another writer, in seconds.
            clock: the time in milliseconds since the epoch, for stamps.
            on_progress: called while logs are read, here and later, with a collection, the bytes
                read and the bytes to read.

        Raises:
            StoreNotFoundError: there is no such directory, and it is not to be made.
            StoreVersionError: a newer library made the directory.
            StoreAccessError: the operating system refused a file.
            SchemaVersionError: a newer library upgraded the cache.
            MigrationRequiredError: the schema of `engine` is not current.
            InvalidDeclarationError: something in `mirrors` cannot be mirrored.
            UntrackedWriteError: `engine` is for asyncio, or not of SQLite, or another open store
                writes the log of its tables.
            RecoveryError: a crash left what cannot be recovered.
        """
        if engine is not None:
            check_engine(engine)
        mirrored = mirrors_of(mirrors, None if read_only else engine, models)
        layout = layout_of(path)
        prepare(layout, create=create and not read_only, read_only=read_only)
        own_engine = engine is None
        if engine is None:
            engine = own_engine_of(layout, models, read_only=read_only, lock_timeout=lock_timeout)
        store = cls(
            StoreContext(
                layout=layout,
                engine=engine,
                models=models,
                gate=LocalGate(layout.directory) if read_only else Gate(layout),
                log_lock=directory_lock(layout),
                writer=LogWriter(layout, lock_timeout=lock_timeout),
                clock=clock,
                lock_timeout=lock_timeout,
                read_only=read_only,
                own_engine=own_engine,
                refresh=refresh,
                migrate=own_engine or bool(migrate),
                create=create and not read_only,
                on_progress=on_progress,
                mirrors=mirrored,
            )
        )
        store._start(types)
        return store

    @classmethod
    def find(cls, start: str | os.PathLike[str] = ".", **options: Any) -> Self:
        """Open the nearest store in `start` or above; the options are those of `open`.

        Raises:
            StoreNotFoundError: there is none.
        """
        return cls.open(Layout.find(start), **{"create": False, **options})

    def _start(self, types: Iterable[type[Any]]) -> None:
        self._transactions.install()
        try:
            codecs = codecs_of(types, self._catalog)
            self._cache.open()
            self._statements.install()
            self._cache.retried(lambda: self._bring_up(codecs))
        except BaseException:
            self.close()
            raise

    def _bring_up(self, codecs: Iterable[RecordCodec[Any]]) -> None:
        self._refresher.teach_settings(self._catalog)
        for codec in codecs:
            self._refresher.teach(self._catalog, codec)
        self._refresher.catch_up()
        if self._context.refresh:
            self._refresher.before_read(None)

    def close(self) -> None:
        """Close the store; sessions that were attached are detached. Closing twice is fine."""
        context = self._context
        if context.closed:
            return
        for target in list(self._attached):
            self.detach(target)
        context.closed = True
        self._statements.remove()
        self._transactions.remove()
        if context.own_engine:
            self._cache.close()
        context.log_lock.close()
        context.gate.close()

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
        return f"<Store {str(self.path)!r}{state}>"

    @property
    def path(self) -> Path:
        """The store directory."""
        return self._context.path

    @property
    def engine(self) -> Engine:
        """The engine of the cache, to bind sessions to that are then attached."""
        return self._context.engine

    @property
    def models(self) -> Models:
        """The declarative models of the cache; those of `taskstore.models` by default."""
        return self._context.models

    @property
    def read_only(self) -> bool:
        """Whether the store was opened for reading."""
        return self._context.read_only

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Do all of a block or nothing of it.

        The store's calls in the same thread (and asyncio task) take part, and so does the hooked
        session that is yielded. At the end of the block all is committed; an exception rolls all
        back. A transaction within another is a savepoint.

        Raises:
            StoreReadOnlyError: the store, or the session around, is for reading.
        """
        with self._sessions.transaction() as session:
            yield session

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Session]:
        """Use a hooked SQLAlchemy session, which its user commits; the block's end closes it.

        The store's calls in the same thread (and asyncio task) take part. Within another
        transaction the session's commit releases a savepoint.

        Args:
            read_only: begin as a reader, which waits for no writer, and refuse writes.
        """
        with self._sessions.session(read_only=read_only) as session:
            yield session

    def attach(self, target: Any) -> None:
        """Hook an application's own session, sessionmaker or scoped_session.

        What it flushes to `StoredRecord` reaches the log when it commits. It keeps its own way to
        begin, and sees the log as of the last `sync`.

        Raises:
            UntrackedWriteError: it is bound to another engine than the store's, or for asyncio.
        """
        self._context.check_open()
        check_bind(target, self._context.engine)
        self._hook.attach(target)
        if not any(target is known for known in self._attached):
            self._attached.append(target)

    def detach(self, target: Any) -> None:
        """Take the hook off again."""
        self._hook.detach(target)
        self._attached = [known for known in self._attached if known is not target]

    def rebuild_indexes(self, type: type[Any], /) -> int:
        """Write the index rows of a collection anew, from its rows and its record class.

        A row that does not fit the class is skipped with a `RecordSkippedWarning`; its index rows
        stay what its line says.

        Returns:
            How many records were indexed.
        """
        codec = self._catalog.codec(type)
        return self._run(
            codec, "rebuild indexes", lambda writer: rebuild_indexes(codec, writer.rows)
        )
