"""Committed changes, for asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from typing import Any

from taskstore._aio.calls import Calls
from taskstore._api.changes import INTERVAL, Consumer, Feed
from taskstore._watch.follow import ChangeEvent


class AsyncConsumer:
    """A reader of changes whose cursor the store keeps; see `Consumer`.

    Create one with `AsyncStore.consumer`.
    """

    def __init__(self, calls: AsyncChangeCalls, consumer: Consumer) -> None:
        """Assemble a consumer; use `AsyncStore.consumer`."""
        self._calls = calls
        self._consumer = consumer

    @property
    def name(self) -> str:
        """Its name."""
        return self._consumer.name

    async def cursor(self) -> str:
        """Return the cursor of the last acknowledged event; before the first one, the start."""
        return await self._calls._read(lambda: self._consumer.cursor)

    def changes(self) -> AsyncIterator[ChangeEvent]:
        """Yield the changes that are committed by now and not acknowledged."""
        return self._calls._iterate(self._consumer.changes)

    async def follow(
        self, *, interval: float = INTERVAL, stop: threading.Event | None = None
    ) -> AsyncIterator[ChangeEvent]:
        """Yield the changes that are not acknowledged, and then new ones as they are committed.

        Args:
            interval: How often to look, in seconds.
            stop: Ends the iteration when it is set.
        """
        cursor, names = await self.cursor(), self._consumer._collections
        async for event in self._calls._followed(cursor, names, interval, stop):
            yield event

    async def acknowledge(self, event: ChangeEvent) -> None:
        """Note that an event and all events before it are done; see `Consumer.acknowledge`."""
        await self._calls._write("acknowledge a change", lambda: self._consumer.acknowledge(event))


class AsyncChangeCalls(Calls):
    """The calls for changes since a cursor, changes as they are committed, and consumers."""

    def changes(
        self, since: str = "0", *, collections: Iterable[Any] = ()
    ) -> AsyncIterator[ChangeEvent]:
        """Yield each change that was committed since a cursor, up to now; see `Store.changes`."""
        return self._iterate(lambda: self._store.changes(since, collections=collections))

    async def follow(
        self,
        since: str | None = None,
        *,
        collections: Iterable[Any] = (),
        interval: float = INTERVAL,
        stop: threading.Event | None = None,
    ) -> AsyncIterator[ChangeEvent]:
        """Yield each change as it is committed; see `Store.follow`."""
        names = self._store._names(collections)
        async for event in self._followed(since, names, interval, stop):
            yield event

    def consumer(
        self, name: str, /, *, collections: Iterable[Any] = (), start: str = "0"
    ) -> AsyncConsumer:
        """Return a reader of changes whose cursor the store keeps; see `Store.consumer`."""
        found = self._store.consumer(name, collections=collections, start=start)
        return AsyncConsumer(self, found)

    async def _followed(
        self,
        since: str | None,
        names: Iterable[str],
        interval: float,
        stop: threading.Event | None,
    ) -> AsyncIterator[ChangeEvent]:
        context = self._store._context
        feed = await self._read(lambda: Feed(context, since, tuple(names)))
        try:
            while stop is None or not stop.is_set():
                async for event in self._iterate(feed.poll):
                    yield event
                await asyncio.sleep(interval)
        finally:
            feed.close()
