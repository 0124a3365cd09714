"""The maintenance calls of an asyncio store."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from taskstore._aio.calls import Calls, in_loop
from taskstore._api.blame import FieldBlame
from taskstore._api.upkeep_calls import KEEP_TOMBSTONES_MS, CompactReport, Row
from taskstore._format.problems import Problem
from taskstore._query.conditions import Condition
from taskstore._sync.inspection import Version
from taskstore._sync.report import SyncReport
from taskstore._sync.sync import Progress
from taskstore._sync.verification import VerifyReport

T = TypeVar("T")


class AsyncUpkeepCalls(Calls):
    """The maintenance calls of `Store`.

    `on_progress` is called in the event loop.
    """

    async def is_stale(self) -> bool:
        """Return whether any log has changed since the cache was synced; see `Store.is_stale`."""
        return await self._read(self._store.is_stale)

    async def sync(
        self, *, force: bool = False, prune: bool = False, on_progress: Progress | None = None
    ) -> SyncReport:
        """Update the cache from the logs; see `Store.sync`."""
        told = in_loop(on_progress)
        return await self._write(
            "sync", lambda: self._store.sync(force=force, prune=prune, on_progress=told)
        )

    async def export(self, type: Any = None, /, *, refused: bool = False) -> int:
        """Write the rows of a mirrored model that its log does not have; see `Store.export`."""
        return await self._write("export rows", lambda: self._store.export(type, refused=refused))

    async def verify(self, *, repair: bool = False) -> VerifyReport:
        """Compare the cache with the logs; see `Store.verify`."""
        return await self._write("verify", lambda: self._store.verify(repair=repair))

    async def compact(
        self,
        type: Any,
        /,
        *,
        keep_tombstones_ms: int = KEEP_TOMBSTONES_MS,
        rewrite: bool = False,
        on_progress: Progress | None = None,
    ) -> CompactReport:
        """Rewrite a log with the newest line of each record only; see `Store.compact`."""
        told = in_loop(on_progress)
        return await self._write(
            "compact a log",
            lambda: self._store.compact(
                type,
                keep_tombstones_ms=keep_tombstones_ms,
                rewrite=rewrite,
                on_progress=told,
            ),
        )

    async def rebuild_indexes(self, type: type[Any], /) -> int:
        """Rewrite the index rows of a collection; see `Store.rebuild_indexes`."""
        return await self._write("rebuild indexes", lambda: self._store.rebuild_indexes(type))

    @overload
    async def history(self, type: type[T], id: str, /) -> list[Version[T]]: ...
    @overload
    async def history(self, type: str, id: str, /) -> list[Version[Row]]: ...
    async def history(self, type: Any, id: str, /) -> Any:
        """Return every version of a record that its log has; see `Store.history`."""
        return await self._read(lambda: self._store.history(type, id))

    async def blame(self, type: Any, id: str, /) -> list[FieldBlame]:
        """Return who last changed each field of a record; see `Store.blame`."""
        return await self._read(lambda: self._store.blame(type, id))

    async def restore(self, type: Any, id: str, /, *, at: Any = None) -> Any:
        """Bring a record back, as a new version; see `Store.restore`."""
        return await self._write("restore a record", lambda: self._store.restore(type, id, at=at))

    async def revert(self, commit: str, /) -> list[tuple[str, str]]:
        """Undo what a commit changed in records; see `Store.revert`."""
        return await self._write("revert a commit", lambda: self._store.revert(commit))

    @overload
    async def list_tolerant(
        self, type: type[T], /, *filters: Condition
    ) -> tuple[list[T], list[Problem]]: ...
    @overload
    async def list_tolerant(
        self, type: str, /, *filters: Condition
    ) -> tuple[list[Row], list[Problem]]: ...
    async def list_tolerant(self, type: Any, /, *filters: Condition) -> Any:
        """Read the log itself: return the records that fit, and the problems; see `Store`."""
        return await self._read(lambda: self._store.list_tolerant(type, *filters))
