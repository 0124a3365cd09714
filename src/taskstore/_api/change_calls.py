"""The calls of a store that yield committed changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from taskstore._format.names import check_id
from taskstore._store.catalog import Catalog
from taskstore._store.context import StoreContext

if TYPE_CHECKING:
    import threading

    from taskstore._api.changes import Consumer, Feed
    from taskstore._watch.follow import ChangeEvent


class ChangeCalls:
    """The calls for changes since a cursor, changes as they are committed, and consumers."""

    _catalog: Catalog
    _context: StoreContext

    def changes(
        self, since: str = "0", *, collections: Iterable[Any] = ()
    ) -> Iterator[ChangeEvent]:
        """Yield each change that was committed since a cursor, up to now.

        Changes of one collection come in the order of its log. If a log was rewritten, for example
        by a compaction, a checkout or a merge that put lines before the cursor, an event of the
        kind "reset" says so, and all lines of that log follow. So you see every change at least
        once.

        Args:
            since: The `cursor` of the event to go on after; "0" for the beginning.
            collections: Record classes or names of collections; none for all.

        Raises:
            CursorError: `since` is not a cursor.
            StoreAccessError: A log cannot be read.
            LockTimeoutError: A writer held the lock for too long.
        """
        feed = self._feed(since, collections)
        try:
            yield from feed.poll()
        finally:
            feed.close()

    def follow(
        self,
        since: str | None = None,
        *,
        collections: Iterable[Any] = (),
        interval: float = 0.2,
        stop: threading.Event | None = None,
    ) -> Iterator[ChangeEvent]:
        """Yield each change as it is committed; see `changes`.

        Args:
            since: The `cursor` of the event to go on after; None for now.
            collections: Record classes or names of collections; none for all.
            interval: How often to look, in seconds.
            stop: Ends the iteration when it is set.
        """
        yield from self._feed(since, collections).follow(interval, stop)

    def consumer(
        self, name: str, /, *, collections: Iterable[Any] = (), start: str = "0"
    ) -> Consumer:
        """Return a reader of changes. The store keeps its cursor under its name.

        Args:
            name: Its name, as the id of a record.
            collections: Record classes or names of collections; none for all.
            start: The cursor to start after, as long as nothing is acknowledged; "0" for the
                beginning.

        Raises:
            CursorError: `start` is not a cursor.
            InvalidIdError: The name cannot be an id.
        """
        from taskstore._api.changes import Consumer, check_cursor
        from taskstore._format.names import CONSUMERS

        self._context.check_open()
        check_id(name, CONSUMERS)
        return Consumer(self, self._context, name, self._names(collections), check_cursor(start))

    def _feed(self, since: str | None, collections: Iterable[Any]) -> Feed:
        from taskstore._api.changes import Feed

        self._context.check_open()
        return Feed(self._context, since, self._names(collections))

    def _names(self, collections: Iterable[Any]) -> list[str]:
        return [self._catalog.codec(each).collection for each in collections]
