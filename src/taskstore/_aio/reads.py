"""The calls of an asyncio store that read."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator
from typing import Any, TypeVar, overload

from sqlalchemy.sql import Select

from taskstore._aio.calls import Calls
from taskstore._api.read_calls import Page, Row
from taskstore._query.conditions import Condition

T = TypeVar("T")


class AsyncReadCalls(Calls):
    """The calls of `Store` that read, with the same arguments, results and errors."""

    @overload
    async def get(self, type: type[T], id: str, /) -> T | None: ...
    @overload
    async def get(self, type: str, id: str, /) -> Row | None: ...
    async def get(self, type: Any, id: str, /) -> Any:
        """Return the record with an id, or None; see `Store.get`."""
        return await self._read(lambda: self._store.get(type, id))

    @overload
    async def get_one(self, type: type[T], id: str, /) -> T: ...
    @overload
    async def get_one(self, type: str, id: str, /) -> Row: ...
    async def get_one(self, type: Any, id: str, /) -> Any:
        """Return the record with an id; see `Store.get_one`."""
        return await self._read(lambda: self._store.get_one(type, id))

    @overload
    async def first(
        self, type: type[T], /, *filters: Condition, order_by: Any = None
    ) -> T | None: ...
    @overload
    async def first(
        self, type: str, /, *filters: Condition, order_by: Any = None
    ) -> Row | None: ...
    async def first(self, type: Any, /, *filters: Condition, order_by: Any = None) -> Any:
        """Return the first record that meets all filters, or None; see `Store.first`."""
        return await self._read(lambda: self._store.first(type, *filters, order_by=order_by))

    @overload
    async def list(
        self,
        type: type[T],
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> builtins.list[T]: ...
    @overload
    async def list(
        self,
        type: str,
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> builtins.list[Row]: ...
    async def list(
        self,
        type: Any,
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Any:
        """Return the records that meet all filters; see `Store.list`."""
        window = {"order_by": order_by, "limit": limit, "offset": offset}
        return await self._read(lambda: self._store.list(type, *filters, **window))

    @overload
    def iterate(
        self,
        type: type[T],
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> AsyncIterator[T]: ...
    @overload
    def iterate(
        self,
        type: str,
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> AsyncIterator[Row]: ...
    def iterate(
        self,
        type: Any,
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Any:
        """Yield what `list` returns, one by one (`async for`); see `Store.iterate`."""
        window = {"order_by": order_by, "limit": limit, "offset": offset}
        return self._iterate(lambda: self._store.iterate(type, *filters, **window))

    async def count(self, type: Any, /, *filters: Condition) -> int:
        """Return how many records meet all filters; see `Store.count`."""
        return await self._read(lambda: self._store.count(type, *filters))

    async def exists(self, type: Any, /, *filters: Condition) -> bool:
        """Return whether any record meets all filters; see `Store.exists`."""
        return await self._read(lambda: self._store.exists(type, *filters))

    @overload
    async def page(
        self,
        type: type[T],
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[T]: ...
    @overload
    async def page(
        self,
        type: str,
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[Row]: ...
    async def page(
        self,
        type: Any,
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Any:
        """Return a page of records, with a token for the next page; see `Store.page`."""
        return await self._read(
            lambda: self._store.page(type, *filters, order_by=order_by, limit=limit, after=after)
        )

    def select(self, type: Any, /, *filters: Condition) -> Select[Any]:
        """Return a SELECT of the `StoredRecord` rows that meet all filters; see `Store.select`."""
        return self._store.select(type, *filters)
