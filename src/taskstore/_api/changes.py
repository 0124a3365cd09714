"""Committed changes as events, and consumers that keep their cursor."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from typing import Any

from taskstore._format.names import CONSUMERS
from taskstore._log.layout import Layout
from taskstore._store.context import StoreContext
from taskstore._watch.cursor import BEGINNING, Cursor
from taskstore._watch.follow import ChangeEvent, Follower

INTERVAL = 0.2
"""How often `follow` looks for changes, in seconds."""

_COMPACTED_BYTES = 256 * 1024
"""The length above which the log of the consumers is compacted, in bytes."""


class Feed:
    """The events after a cursor. Call `poll` again for later ones.

    Args:
        context: The store.
        since: The cursor; None for the end of every log as it is now.
        collections: The names of the collections; none for all, also those to come.

    Raises:
        CursorError: `since` is not a cursor.
    """

    def __init__(
        self, context: StoreContext, since: str | None, collections: Collection[str] = ()
    ) -> None:
        self._context = context
        self._follower = Follower(
            context.layout,
            None if since is None else Cursor.parse(since),
            collections=frozenset(collections),
            lock_timeout=context.lock_timeout,
        )

    def poll(self) -> Iterator[ChangeEvent]:
        """Yield what was committed since the last call."""
        self._context.check_open()
        yield from self._follower.poll()

    def close(self) -> None:
        """Close the directory."""
        self._follower.close()

    def follow(
        self, interval: float = INTERVAL, stop: threading.Event | None = None
    ) -> Iterator[ChangeEvent]:
        """Yield what is committed, as it is committed, and close the feed at the end."""
        try:
            while stop is None or not stop.is_set():
                yield from self.poll()
                if stop is None:
                    time.sleep(interval)
                else:
                    stop.wait(interval)
        finally:
            self.close()


class Consumer:
    """A reader of changes. The store keeps its cursor under its name.

    It gets each change at least once, in the order of the log of its collection, and again until
    it is acknowledged. If you call `acknowledge` inside a transaction, the cursor is committed
    together with what the transaction writes. The cursor belongs to this clone: it is in a log
    that git ignores. If two processes use the same name, each of them gets all changes.

    Create one with `Store.consumer`.

    Attributes:
        name: Its name.
    """

    def __init__(
        self, store: Any, context: StoreContext, name: str, collections: Collection[str], start: str
    ) -> None:
        """Assemble a consumer; use `Store.consumer`."""
        self.name = name
        self._store = store
        self._context = context
        self._collections = collections
        self._start = start

    @property
    def cursor(self) -> str:
        """The cursor of the last acknowledged event; before the first one, the start."""
        found = self._store.get(CONSUMERS, self.name) or {}
        # A log that a clone brought says nothing about this clone.
        is_ours = found.get("clone") == self._context.mark.id
        cursor = found.get("cursor")
        return cursor if is_ours and isinstance(cursor, str) else self._start

    def changes(self) -> Iterator[ChangeEvent]:
        """Yield the changes that are committed by now and not acknowledged."""
        self._tidy()
        feed = Feed(self._context, self.cursor, self._collections)
        try:
            yield from feed.poll()
        finally:
            feed.close()

    def follow(
        self, *, interval: float = INTERVAL, stop: threading.Event | None = None
    ) -> Iterator[ChangeEvent]:
        """Yield the changes that are not acknowledged, and then new ones as they are committed.

        Args:
            interval: How often to look, in seconds.
            stop: Ends the iteration when it is set.
        """
        self._tidy()
        yield from Feed(self._context, self.cursor, self._collections).follow(interval, stop)

    def acknowledge(self, event: ChangeEvent) -> None:
        """Note that an event and all events before it are done.

        Raises:
            StoreReadOnlyError: The store is read-only.
        """
        place = {"id": self.name, "clone": self._context.mark.id, "cursor": event.cursor}
        if not self._context.read_only:
            layout = self._context.layout
            if layout.stat_log(CONSUMERS) is None:
                layout.ignore(layout.log_path(CONSUMERS).name)
        self._store.save(place, collection=CONSUMERS)

    def _tidy(self) -> None:
        """Drop old cursors from the log, if there are many."""
        if self._context.read_only or self._store._sessions.current() is not None:
            return
        if _size(self._context.layout) > _COMPACTED_BYTES:
            self._store.compact(CONSUMERS)


def _size(layout: Layout) -> int:
    found = layout.stat_log(CONSUMERS)
    return 0 if found is None else found.st_size


def check_cursor(text: str) -> str:
    """Return a cursor.

    Raises:
        CursorError: It is not a cursor.
    """
    return str(Cursor.parse(text)) if text != BEGINNING else text
