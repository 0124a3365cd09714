"""The store for asyncio applications."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy.engine import Engine

from taskstore._aio.blocks import Block, Blocks
from taskstore._aio.calls import in_loop
from taskstore._aio.changes import AsyncChangeCalls
from taskstore._aio.reads import AsyncReadCalls
from taskstore._aio.threads import Threads
from taskstore._aio.upkeep import AsyncUpkeepCalls
from taskstore._aio.writes import AsyncWriteCalls
from taskstore._api.store import Store
from taskstore._cache.schema.models import DEFAULT, Models
from taskstore._log.layout import Layout
from taskstore._records.ids import now_ms
from taskstore._store.log_context import LOCK_TIMEOUT
from taskstore._sync.sync import Progress
from taskstore.errors import UntrackedWriteError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from taskstore._aio.engines import AsyncEngineHooks

_THREADS = 8
"""How many calls run at once outside of transactions; writers wait for one another anyway."""


class AsyncStore(AsyncReadCalls, AsyncWriteCalls, AsyncUpkeepCalls, AsyncChangeCalls):
    """A `Store` whose calls you await. Files and the database are used in threads.

    Any number of tasks of one event loop can share it. If a running call is cancelled, it finishes
    before the cancellation is raised. So a transaction is written as a whole, or rolled back.
    """

    def __init__(self, store: Store, threads: Threads) -> None:
        """Wrap a store; use `AsyncStore.open`."""
        self._store = store
        self._threads = threads
        self._hooks: AsyncEngineHooks | None = None
        self._blocks = Blocks()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = Layout.NAME,
        *,
        types: Iterable[type[Any]] = (),
        engine: Engine | AsyncEngine | None = None,
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
    ) -> Opening:
        """Open a store: `async with AsyncStore.open(...) as store`, or `await` it.

        The arguments and the errors are those of `Store.open`. Errors are raised when you await
        it. `clock` is called in threads, and `on_progress` in the event loop.

        `engine` can come from `create_async_engine`. Then the store's own calls use a second,
        synchronous engine on the same database:

        - For `sqlite+aiosqlite` and a file, it copies the pragmas for foreign keys, recursive
          triggers, synchronous and the time to wait for locks. It does not have the SQL functions
          and collations of your application.
        - For `postgresql+asyncpg` and `postgresql+psycopg`, it uses psycopg, and connects with the
          URL and the `connect_args` of yours.

        Raises:
            UntrackedWriteError: As for `Store.open`, and if the asyncio engine is for another
                driver or for a database in memory, or if psycopg cannot reach the same database.
        """
        options: dict[str, Any] = {
            "types": types,
            "engine": engine,
            "read_only": read_only,
            "create": create,
            "mirrors": mirrors,
            "models": models,
            "migrate": migrate,
            "refresh": refresh,
            "lock_timeout": lock_timeout,
            "clock": clock,
            "on_progress": on_progress,
            "ack": ack,
        }
        return Opening(cls, partial(Store.open, path), options)

    @classmethod
    def find(cls, start: str | os.PathLike[str] = ".", **options: Any) -> Opening:
        """Open the nearest store in `start` or a parent directory; see `Store.find`."""
        return Opening(cls, partial(Store.find, start), options)

    async def close(self) -> None:
        """Wait for running calls, and close the store. You may close it twice."""
        try:
            await self._threads.close()
        finally:
            hooks, self._hooks = self._hooks, None
            if hooks is not None:
                hooks.remove()
            self._store.close()
            if hooks is not None:
                self._store.engine.dispose()

    @property
    def blocking(self) -> Store:
        """The store behind this one, for code that runs in a thread; its calls block."""
        return self._store

    def attach(self, target: Any) -> None:
        """Attach a session or a factory of sessions of your application; see `Store.attach`.

        Asyncio sessions need the asyncio engine that you passed to `open`. From then on, an
        `async_sessionmaker`, or the one of an `async_scoped_session`, makes sessions with a
        subclass of its `sync_session_class`. Sessions that it made before have no hook. A single
        `AsyncSession` gets the hook itself. Files are used in the threads of the driver's
        connections, and a cancelled commit finishes.

        Raises:
            UntrackedWriteError: It is bound to another engine, or it is for asyncio and the store
                has no asyncio engine.
        """
        self._store._context.check_open()
        if not _is_for_asyncio(target):
            self._store.attach(target)
        elif self._hooks is None:
            raise UntrackedWriteError(
                statement=f"attach to {target!r}",
                remedy="give AsyncStore.open the asyncio engine: engine=create_async_engine(...)",
            )
        else:
            self._hooks.attach(target)

    def detach(self, target: Any) -> None:
        """Detach what was attached, and restore a factory's class of sessions."""
        if not _is_for_asyncio(target):
            self._store.detach(target)
        elif self._hooks is not None:
            self._hooks.detach(target)

    @property
    def path(self) -> Path:
        """The store directory."""
        return self._store.path

    def transaction(self) -> Block:
        """Run an `async with` block as one transaction; see `Store.transaction`.

        Store calls of the same task join it. The block yields an `AsyncTransaction`. A task that
        is started inside the block reads what was committed before. It cannot write until the
        block has ended.
        """
        return Block(self._blocks, self._store.transaction, "begin a transaction")

    def session(self, *, read_only: bool = False) -> Block:
        """Use a session in an `async with` block. You commit it; see `Store.session`."""
        return Block(
            self._blocks, partial(self._store.session, read_only=read_only), "begin a session"
        )

    def history_session(self, *types: Any) -> Block:
        """Use a session that can read the history, in an `async with` block.

        See `Store.history_session`. The block yields an `AsyncTransaction`.
        """
        return Block(self._blocks, partial(self._store.history_session, *types), "open the history")

    def revisions(
        self,
        named: Mapping[str, str | int | datetime],
        /,
        *,
        mirrors: Iterable[Any] = (),
        on_progress: Progress | None = None,
    ) -> Block:
        """Use a session that sees the store at several revisions, in an `async with` block.

        See `Store.revisions`. The block yields an `AsyncTransaction`.
        """
        make = partial(self._store.revisions, named, mirrors=mirrors, on_progress=on_progress)
        return Block(self._blocks, make, "open revisions")

    def as_of(
        self,
        when: str | int | datetime,
        /,
        *,
        types: Iterable[type[Any]] = (),
        mirrors: Iterable[Any] = (),
        on_progress: Progress | None = None,
    ) -> Opening:
        """Open the store as it was: `async with store.as_of("v1.2") as past`; see `Store.as_of`.

        Errors are raised when you await it.
        """

        def make(*, engine: None, **options: Any) -> Store:
            return self._store.as_of(when, **options)

        options = {"types": types, "mirrors": mirrors, "on_progress": on_progress}
        return Opening(type(self), make, options)

    def __repr__(self) -> str:
        """Say where the store is."""
        return f"<Async{repr(self._store)[1:]}"


class Opening:
    """A store that is about to be opened. Await it, or use it in `async with`."""

    def __init__(
        self, kind: type[AsyncStore], make: Callable[..., Store], options: dict[str, Any]
    ) -> None:
        self._kind = kind
        self._make = make
        self._options = options

    def __await__(self) -> Generator[Any, None, AsyncStore]:
        """Open the store."""
        return self._open().__await__()

    async def __aenter__(self) -> AsyncStore:
        """Open the store."""
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        await self._opened.close()

    async def _open(self) -> AsyncStore:
        engine: Any = self._options.get("engine")
        if not hasattr(engine, "sync_engine"):
            return await self._opened_on(engine)
        from taskstore._aio.engines import engine_beside, hooks_for  # few have one

        second = await engine_beside(engine)
        try:
            opened = await self._opened_on(second)
        except BaseException:
            second.dispose()
            raise
        try:
            hooks = hooks_for(opened._store, engine)
            hooks.install()
        except BaseException:
            await opened.close()
            raise
        opened._hooks = hooks
        return opened

    async def _opened_on(self, engine: Engine | None) -> AsyncStore:
        threads = Threads(_THREADS)
        opened: list[Store] = []
        told = in_loop(self._options.get("on_progress"))
        options = {**self._options, "engine": engine, "on_progress": told}
        try:
            await threads.run(lambda: opened.append(self._make(**options)))
        except BaseException:
            # Cancelled while it was opened: nobody else has it.
            for store in opened:
                store.close()
            threads.release()
            raise
        return self._kind(opened[0], threads)


def _is_for_asyncio(target: Any) -> bool:
    if "sqlalchemy.ext.asyncio" not in sys.modules:
        return False
    from taskstore._aio.engines import is_for_asyncio

    return is_for_asyncio(target)
