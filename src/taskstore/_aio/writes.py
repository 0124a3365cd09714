"""The calls of an asyncio store that write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, overload

from taskstore._aio.calls import Calls
from taskstore._api.write_calls import Row
from taskstore._query.conditions import Condition

T = TypeVar("T")


class AsyncWriteCalls(Calls):
    """What can be written: the calls of `Store`, with the same arguments, results and errors.

    When one returns outside of a transaction, its lines are on the disk. One that is cancelled
    before it has begun does nothing; later it is done to its end, and the cancellation raised then.
    """

    async def create(self, record: T, *, collection: str | None = None) -> T:
        """Write a record that does not exist yet; see `Store.create`."""
        return await self._write(
            "create a record", lambda: self._store.create(record, collection=collection)
        )

    async def create_many(self, records: Iterable[T], *, collection: str | None = None) -> list[T]:
        """Write records that do not exist yet: all of them or none; see `Store.create_many`."""
        # A generator is run here, not in a thread.
        batch = list(records)
        return await self._write(
            "create records", lambda: self._store.create_many(batch, collection=collection)
        )

    async def update(
        self, record: T, *, if_updated_at: object = None, collection: str | None = None
    ) -> T:
        """Write a record that exists; see `Store.update`."""
        return await self._write(
            "update a record",
            lambda: self._store.update(record, if_updated_at=if_updated_at, collection=collection),
        )

    async def save(self, record: T, *, collection: str | None = None) -> T:
        """Write a record, whether it exists or not; see `Store.save`."""
        return await self._write(
            "save a record", lambda: self._store.save(record, collection=collection)
        )

    async def save_many(self, records: Iterable[T], *, collection: str | None = None) -> list[T]:
        """Write records, whether they exist or not: all of them or none; see `Store.save_many`."""
        batch = list(records)
        return await self._write(
            "save records", lambda: self._store.save_many(batch, collection=collection)
        )

    @overload
    async def patch(self, type: type[T], id: str, /, *only_if: Condition, **changes: Any) -> T: ...
    @overload
    async def patch(self, type: str, id: str, /, *only_if: Condition, **changes: Any) -> Row: ...
    async def patch(self, type: Any, id: str, /, *only_if: Condition, **changes: Any) -> Any:
        """Change some fields of a record under the write lock; see `Store.patch`."""
        return await self._write(
            "patch a record", lambda: self._store.patch(type, id, *only_if, **changes)
        )

    async def delete(self, type: Any, id: str, /) -> bool:
        """Write the tombstone of a record; see `Store.delete`."""
        return await self._write("delete a record", lambda: self._store.delete(type, id))

    async def delete_where(self, type: Any, first: Condition, /, *more: Condition) -> int:
        """Write the tombstones of all records that meet all filters; see `Store.delete_where`."""
        return await self._write(
            "delete records", lambda: self._store.delete_where(type, first, *more)
        )
