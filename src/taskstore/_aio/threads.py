"""Run blocking calls in threads, and always wait for their end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """Some threads, or a single one in which calls run one after the other.

    Args:
        most: The maximum number of threads.
    """

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="taskstore")

    async def run(self, call: Callable[[], T]) -> T:
        """Run a call in a thread and return its result.

        A running call is always waited for, even if the task is cancelled. So a commit has ended,
        in one way or the other, before the task continues. A call that has not started is dropped.
        """
        return await _finished(self._pool.submit(call))

    async def close(self) -> None:
        """Wait for what is running, and end the threads."""
        # The default threads of the loop may all be waiting for us.
        helper = ThreadPoolExecutor(1)
        try:
            await _finished(helper.submit(self._pool.shutdown))
        finally:
            helper.shutdown(wait=False)

    def release(self) -> None:
        """End the threads when they have nothing to do. Do not wait."""
        self._pool.shutdown(wait=False)


async def _finished(future: Future[T]) -> T:
    waiter = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(waiter)
    except asyncio.CancelledError:
        if not future.cancel():
            await _ended(waiter)
        raise


async def _ended(waiter: asyncio.Future[T]) -> None:
    while not waiter.done():
        try:
            await asyncio.wait([waiter])
        except asyncio.CancelledError:
            # Cancelled once more: the thread still runs, and the first cancellation is raised.
            continue
    if not waiter.cancelled():
        # The cancellation replaces what it raised; mark that as seen for asyncio.
        waiter.exception()
