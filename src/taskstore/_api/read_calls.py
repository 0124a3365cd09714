"""The calls of a store that read."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any, Generic, TypeVar, overload

import attrs
from sqlalchemy.sql import Select

from taskstore._api.reading import Question, Reader
from taskstore._format.names import check_id
from taskstore._query.conditions import Condition
from taskstore._store.catalog import Catalog
from taskstore.errors import InvalidFilterError, RecordNotFoundError

T = TypeVar("T")
Row = dict[str, Any]


@attrs.frozen
class Page(Generic[T]):
    """A page of records.

    Attributes:
        items: The records, in order.
        next: The token to pass as `after` for the next page; None on the last page.
    """

    items: list[T]
    next: str | None = None


class ReadCalls:
    """The calls that read records.

    Instead of a record class, you can pass the name of a collection; records are then dicts. A
    mirrored model of your application also gives dicts; read its rows in sessions. Filters are
    combined with AND; see `where`. A read sees the logs as they are when it begins. All calls
    raise InvalidRecordError for a stored row that does not fit its class, UnknownFieldError and
    InvalidFilterError for filters and orders that cannot be understood, and StoreAccessError or
    LockTimeoutError if the logs cannot be read.
    """

    _reader: Reader
    _catalog: Catalog

    @overload
    def get(self, type: type[T], id: str, /) -> T | None: ...
    @overload
    def get(self, type: str, id: str, /) -> Row | None: ...
    def get(self, type: Any, id: str, /) -> Any:
        """Return the record with an id, or None.

        Raises:
            InvalidIdError: The id is not allowed.
        """
        codec = self._catalog.codec(type)
        return self._reader.get(codec, check_id(id, codec.collection))

    @overload
    def get_one(self, type: type[T], id: str, /) -> T: ...
    @overload
    def get_one(self, type: str, id: str, /) -> Row: ...
    def get_one(self, type: Any, id: str, /) -> Any:
        """Return the record with an id.

        Raises:
            RecordNotFoundError: There is no such record.
            InvalidIdError: The id is not allowed.
        """
        codec = self._catalog.codec(type)
        found = self._reader.get(codec, check_id(id, codec.collection))
        if found is None:
            raise RecordNotFoundError(collection=codec.collection, id=id)
        return found

    @overload
    def first(self, type: type[T], /, *filters: Condition, order_by: Any = None) -> T | None: ...
    @overload
    def first(self, type: str, /, *filters: Condition, order_by: Any = None) -> Row | None: ...
    def first(self, type: Any, /, *filters: Condition, order_by: Any = None) -> Any:
        """Return the first record that meets all filters, or None. See `list` for the arguments."""
        found = self._reader.records(self._question(type, filters, order_by, 1, None))
        return found[0] if found else None

    @overload
    def list(
        self,
        type: type[T],
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> builtins.list[T]: ...
    @overload
    def list(
        self,
        type: str,
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> builtins.list[Row]: ...
    def list(
        self,
        type: Any,
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Any:
        """Return the records that meet all filters.

        Args:
            type: A record class, or a collection's name.
            filters: See `where`.
            order_by: "priority", "-priority", `where("priority").desc()`, or a list of these. By
                default the newest records come first. Equal records are ordered by id.
            limit: The maximum number of records.
            offset: How many to skip first.
        """
        return self._reader.records(self._question(type, filters, order_by, limit, offset))

    @overload
    def iterate(
        self,
        type: type[T],
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Iterator[T]: ...
    @overload
    def iterate(
        self,
        type: str,
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Iterator[Row]: ...
    def iterate(
        self,
        type: Any,
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Any:
        """Yield what `list` returns, one by one, without holding all of it in memory.

        The iteration sees the records as they were when it began. Later writes do not change
        it.
        """
        return self._reader.iterate(self._question(type, filters, order_by, limit, offset))

    def count(self, type: Any, /, *filters: Condition) -> int:
        """Return how many records meet all filters."""
        return self._reader.count(self._question(type, filters))

    def exists(self, type: Any, /, *filters: Condition) -> bool:
        """Return whether any record meets all filters."""
        return self._reader.exists(self._question(type, filters))

    @overload
    def page(
        self,
        type: type[T],
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[T]: ...
    @overload
    def page(
        self,
        type: str,
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[Row]: ...
    def page(
        self,
        type: Any,
        /,
        *filters: Condition,
        order_by: Any = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Any:
        """Return a page of records, with a token for the next page.

        A page begins after the last record of the previous page. So records that are written or
        deleted in the meantime do not repeat or hide others.

        Args:
            type: A record class, or a collection's name.
            filters: See `where`.
            order_by: See `list`; the same for all pages.
            limit: The maximum number of records on a page; 1 or more.
            after: The `next` of the previous page; None for the first page.

        Raises:
            InvalidFilterError: `after` is not a token, or belongs to another order.
        """
        question = self._question(type, filters, order_by, limit, None)
        if not question.limit:
            raise InvalidFilterError(f"limit must be an integer of 1 or more, not {limit!r}")
        return Page(*self._reader.page(question, after))

    def select(self, type: Any, /, *filters: Condition) -> Select[Any]:
        """Return a SELECT of the `StoredRecord` rows that meet all filters.

        Extend it with anything that SQLAlchemy offers. Run it right after you build it, in a
        session on the store's engine.
        """
        return self._reader.select(self._question(type, filters))

    def _question(
        self,
        type: Any,
        filters: tuple[Condition, ...],
        order_by: Any = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Question:
        return Question(self._catalog.codec(type), filters, order_by, limit, offset)
