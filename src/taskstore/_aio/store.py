"""The store for applications of asyncio."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable
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

    Any number of tasks of one event loop may share it. A call that is cancelled while it runs is
    done to its end before the cancellation is raised, so what a transaction has begun to write is
    whole or rolled back by then.
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
        path: str | os.PathLike[str] = Layout.NAME,
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

        The arguments and the errors, raised when it is awaited, are those of `Store.open`. The
        clock is called in threads, and who is to hear of the progress in the event loop.

        The engine may be one of `create_async_engine`, for `sqlite+aiosqlite` and a file. Then the
        store's own calls use a second, synchronous engine on that file, which is set up like a
        connection of the first as to foreign keys, recursive triggers, synchronous and the time
        to wait for locks. SQL functions and collations of the application's it does not have.

        Raises:
            UntrackedWriteError: Besides what `Store.open` says, the asyncio engine is for another
                driver, or for a database in memory.
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
        """Open the nearest store in `start` or above; see `Store.find`."""
        return Opening(cls, partial(Store.find, start), options)

    async def close(self) -> None:
        """Wait for the calls that run, and close the store. Closing twice is fine."""
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
        """Hook an application's own session or factory of sessions; see `Store.attach`.

        Sessions of asyncio need the asyncio engine that was given to `open`. An
        `async_sessionmaker`, or that of an `async_scoped_session`, makes sessions with another
        `sync_session_class` from then on, a subclass of its own; those that it has made are not
        hooked. A single `AsyncSession` is hooked itself. Files are used in the threads of the
        driver's connections, and a cancelled commit is done to its end.

        Raises:
            UntrackedWriteError: It is bound to another engine, or the store has no asyncio engine
                and it is for asyncio.
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
        """Take the hook off again, and give a factory back the class of sessions that it had."""
        if not _is_for_asyncio(target):
            self._store.detach(target)
        elif self._hooks is not None:
            self._hooks.detach(target)

    @property
    def path(self) -> Path:
        """The store directory."""
        return self._store.path

    def transaction(self) -> Block:
        """Do all of an `async with` block or nothing of it; see `Store.transaction`.

        The store's calls of the task that is in the block take part in it. What is yielded is an
        `AsyncTransaction`. A task that is started within the block may read what was committed
        before, and cannot write until the block has ended.
        """
        return Block(self._blocks, self._store.transaction, "begin a transaction")

    def session(self, *, read_only: bool = False) -> Block:
        """Use a session, which its user commits, in an `async with` block; see `Store.session`."""
        return Block(
            self._blocks, partial(self._store.session, read_only=read_only), "begin a session"
        )

    def history_session(self, *types: Any) -> Block:
        """Use a session that can select from the history, in an `async with` block.

        See `Store.history_session`. What is yielded is an `AsyncTransaction`.
        """
        return Block(self._blocks, partial(self._store.history_session, *types), "open the history")

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

        The errors are raised when it is awaited.
        """

        def make(*, engine: None, **options: Any) -> Store:
            return self._store.as_of(when, **options)

        options = {"types": types, "mirrors": mirrors, "on_progress": on_progress}
        return Opening(type(self), make, options)

    def __repr__(self) -> str:
        """Say where the store is."""
        return f"<Async{repr(self._store)[1:]}"


class Opening:
    """A store that is about to be opened: await it, or use it in `async with`."""

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
        from taskstore._aio.engines import AsyncEngineHooks, engine_beside  # few have one

        second = await engine_beside(engine)
        try:
            opened = await self._opened_on(second)
        except BaseException:
            second.dispose()
            raise
        hooks = AsyncEngineHooks(opened._store._context, engine)
        try:
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
