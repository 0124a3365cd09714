"""The calls of a store on PostgreSQL that read the past, and restore it.

They read the logs and git. The stores and sessions that they open are on SQLite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from typing import Any

from sqlalchemy.orm import Session

from taskstore._api.time_calls import TimeCalls, copy_at
from taskstore._api.undo_calls import UndoCalls
from taskstore._format.fingerprint import Fingerprint
from taskstore._log.snapshots import Snapshot
from taskstore._postgres.cache import CacheTables
from taskstore._postgres.work import Work
from taskstore._store.context import StoreContext
from taskstore.errors import UnsupportedError

_REMEDY = "open the same directory as a store without an engine, and mirror them there"


class PastCalls:
    """The calls for the past. They first write everything that is committed into the logs."""

    _context: StoreContext
    _work: Work
    _on_sqlite: type[Any]

    def as_of(
        self,
        when: str | int | datetime,
        /,
        *,
        types: Iterable[type[Any]] = (),
        mirrors: Iterable[Any] = (),
        on_progress: Any = None,
    ) -> Any:
        """Open the store as it was, on SQLite; see `Store.as_of`.

        Raises:
            UnsupportedError: `mirrors` names models.
        """
        self._see_all(mirrors)
        call: Any = TimeCalls.as_of
        return call(self, when, types=types, on_progress=on_progress)

    @contextmanager
    def history_session(self, *types: Any) -> Iterator[Session]:
        """Yield a session on SQLite that can read the history; see `Store.history_session`."""
        self._see_all(())
        with self._beside() as store, store.history_session(*types) as session:
            yield session

    @contextmanager
    def revisions(
        self,
        named: Mapping[str, str | int | datetime],
        /,
        *,
        mirrors: Iterable[Any] = (),
        on_progress: Any = None,
    ) -> Iterator[Any]:
        """Yield a session on SQLite that sees several revisions; see `Store.revisions`.

        Raises:
            UnsupportedError: `mirrors` names models.
        """
        self._see_all(mirrors)
        with self._beside() as store, store.revisions(named, on_progress=on_progress) as session:
            yield session

    def _beside(self) -> Any:
        context = self._context
        return self._on_sqlite.open(
            context.path, create=False, lock_timeout=context.lock_timeout, clock=context.clock
        )

    def _see_all(self, mirrors: Iterable[Any]) -> None:
        self._context.check_open()
        if list(mirrors):
            raise UnsupportedError(operation="mirrors=", remedy=_REMEDY)
        self._work.drain()

    def _at_time(self, when_ms: int) -> tuple[Snapshot, str]:
        self._refresh()
        return copy_at(self._context, self._fingerprints, self._refresh, when_ms)

    def _fingerprints(self) -> dict[str, Fingerprint]:
        with self._work.context.engine.connect() as connection:
            return CacheTables(connection, self._context.models).fingerprints()

    def _refresh(self) -> None:
        if self._work.is_stale():
            self._work.sync(strict=False)


def _after_drain(name: str) -> Callable[..., Any]:
    original: Any = getattr(UndoCalls, name)

    @wraps(original)
    def call(self: PastCalls, *arguments: Any, **options: Any) -> Any:
        self._see_all(())
        return original(self, *arguments, **options)

    return call


for _name in ("blame", "restore", "revert"):
    setattr(PastCalls, _name, _after_drain(_name))
