"""Pass the calls of an asyncio store to the store behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

import attrs

from taskstore._aio.blocks import Blocks
from taskstore._aio.threads import Threads
from taskstore._api.store import Store
from taskstore._sync.sync import Progress

T = TypeVar("T")

BATCH = 256
"""How many records an iteration fetches at a time."""


class Calls:
    """Runs blocking calls of the store, in the thread of the task's block or in any thread."""

    _store: Store
    _threads: Threads
    _blocks: Blocks

    async def _read(self, call: Callable[[], T]) -> T:
        return await (self._blocks.threads() or self._threads).run(call)

    async def _write(self, operation: str, call: Callable[[], T]) -> T:
        self._blocks.check_own(operation)
        return await self._read(call)

    async def _iterate(self, make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
        outer = self._blocks.threads()
        # The rows of one SELECT are fetched in one thread.
        threads = outer or Threads(1)
        records: list[Iterator[T]] = []
        try:
            await threads.run(lambda: records.append(make()))
            while found := await threads.run(lambda: _batch(records[0])):
                for record in found.records:
                    yield record
                if found.error is not None:
                    raise found.error
        finally:
            if records:
                await threads.run(lambda: _close(records[0]))
            if outer is None:
                threads.release()


@attrs.frozen
class _Batch(Generic[T]):
    """Some records, and what was raised after the last of them."""

    records: list[T]
    error: Exception | None = None

    def __bool__(self) -> bool:
        return bool(self.records) or self.error is not None


def _batch(records: Iterator[T]) -> _Batch[T]:
    found: list[T] = []
    try:
        for record in islice(records, BATCH):
            found.append(record)  # noqa: PERF402 - those before an error are kept
    except Exception as error:  # noqa: BLE001 - it is raised once these records were served
        return _Batch(found, error)
    return _Batch(found)


def _close(records: Any) -> None:
    records.close()


def in_loop(on_progress: Progress | None) -> Progress | None:
    """Return a progress function that is called in the running event loop."""
    if on_progress is None:
        return None
    loop = asyncio.get_running_loop()

    def tell(*facts: Any) -> None:
        loop.call_soon_threadsafe(on_progress, *facts)

    return tell
