"""The store for applications of asyncio."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy.engine import Engine

from taskstore._aio.blocks import Block, Blocks
from taskstore._aio.calls import in_loop
from taskstore._aio.reads import AsyncReadCalls
from taskstore._aio.threads import Threads
from taskstore._aio.upkeep import AsyncUpkeepCalls
from taskstore._aio.writes import AsyncWriteCalls
from taskstore._cache.models import DEFAULT, Models
from taskstore._log.layout import Layout
from taskstore._records.ids import now_ms
from taskstore._store.store import LOCK_TIMEOUT, Store
from taskstore._store.sync import Progress

_THREADS = 8
"""How many calls run at once outside of transactions; writers wait for one another anyway."""


class AsyncStore(AsyncReadCalls, AsyncWriteCalls, AsyncUpkeepCalls):
    """A `Store` whose calls are awaited; files and database are used in threads.

    Any number of tasks of one event loop may share it. A call that is cancelled while it runs is
    done to its end before the cancellation is raised, so what a transaction has begun to write is
    whole, or is taken back, by then.
    """

    def __init__(self, store: Store, threads: Threads) -> None:
        """Wrap a store; use `AsyncStore.open`."""
        self._store = store
        self._threads = threads
        self._blocks = Blocks()

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
    ) -> Opening:
        """Open a store: `async with AsyncStore.open(...) as store`, or `await` it.

        The arguments and the errors, raised when it is awaited, are those of `Store.open`. The
        engine is a synchronous one; the clock is called in threads, and who is to hear of the
        progress in the event loop.
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
            self._store.close()

    @property
    def blocking(self) -> Store:
        """The store behind this one, for code that runs in a thread; its calls block."""
        return self._store

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
        threads = Threads(_THREADS)
        opened: list[Store] = []
        told = in_loop(self._options.get("on_progress"))
        options = {**self._options, "on_progress": told}
        try:
            await threads.run(lambda: opened.append(self._make(**options)))
        except BaseException:
            # Cancelled while it was opened: nobody else has it.
            for store in opened:
                store.close()
            threads.release()
            raise
        return self._kind(opened[0], threads)
