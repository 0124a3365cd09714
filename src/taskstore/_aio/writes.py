"""The calls of an asyncio store that write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, overload

from taskstore._aio.calls import Calls
from taskstore._api.write_calls import Row, named
from taskstore._query.conditions import Condition

T = TypeVar("T")


class AsyncWriteCalls(Calls):
    """The calls of `Store` that write, with the same arguments, results and errors.

    When a call outside a transaction returns, its lines are on the disk. A call that is cancelled
    before it starts does nothing. A running call finishes, and then the cancellation is raised.
    """

    @overload
    async def create(self, record: str, fields: Row, /) -> Row: ...
    @overload
    async def create(self, record: T, *, collection: str | None = None) -> T: ...
    async def create(
        self, record: Any, fields: Any = None, *, collection: str | None = None
    ) -> Any:
        """Write a new record; see `Store.create`."""
        record, collection = named(record, fields, collection)
        return await self._write(
            "create a record", lambda: self._store.create(record, collection=collection)
        )

    @overload
    async def create_many(self, records: str, rows: Iterable[Row], /) -> list[Row]: ...
    @overload
    async def create_many(
        self, records: Iterable[T], *, collection: str | None = None
    ) -> list[T]: ...
    async def create_many(
        self, records: Any, rows: Any = None, *, collection: str | None = None
    ) -> list[Any]:
        """Write new records: all of them or none; see `Store.create_many`."""
        records, collection = named(records, rows, collection)
        # A generator is run here, not in a thread.
        batch = list(records)
        return await self._write(
            "create records", lambda: self._store.create_many(batch, collection=collection)
        )

    @overload
    async def update(self, record: str, fields: Row, /, *, if_updated_at: object = None) -> Row: ...
    @overload
    async def update(
        self, record: T, *, if_updated_at: object = None, collection: str | None = None
    ) -> T: ...
    async def update(
        self,
        record: Any,
        fields: Any = None,
        *,
        if_updated_at: object = None,
        collection: str | None = None,
    ) -> Any:
        """Replace an existing record; see `Store.update`."""
        record, collection = named(record, fields, collection)
        return await self._write(
            "update a record",
            lambda: self._store.update(record, if_updated_at=if_updated_at, collection=collection),
        )

    @overload
    async def save(self, record: str, fields: Row, /) -> Row: ...
    @overload
    async def save(self, record: T, *, collection: str | None = None) -> T: ...
    async def save(self, record: Any, fields: Any = None, *, collection: str | None = None) -> Any:
        """Create or replace a record; see `Store.save`."""
        record, collection = named(record, fields, collection)
        return await self._write(
            "save a record", lambda: self._store.save(record, collection=collection)
        )

    @overload
    async def save_many(self, records: str, rows: Iterable[Row], /) -> list[Row]: ...
    @overload
    async def save_many(
        self, records: Iterable[T], *, collection: str | None = None
    ) -> list[T]: ...
    async def save_many(
        self, records: Any, rows: Any = None, *, collection: str | None = None
    ) -> list[Any]:
        """Create or replace records: all of them or none; see `Store.save_many`."""
        records, collection = named(records, rows, collection)
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
