"""The queries of `list`, `page`, `count` and the other reads, on the records table."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import attrs
from sqlalchemy import Select, func, select
from sqlalchemy.engine import Connection

from taskstore._cache.schema.models import Models
from taskstore._format.lines import decode_object
from taskstore._postgres.records.filters import Narrowed, RecordColumns, narrowed
from taskstore._postgres.records.orders import Key, following, sort_keys
from taskstore._query.conditions import Condition
from taskstore._query.meaning import evaluate
from taskstore._query.ordering import Sort, place_key, resolve_order, sort_key
from taskstore._query.paging import page_token, page_values
from taskstore._query.resolve import RecordFacts, resolve
from taskstore.errors import UnsupportedError

_STREAM: Any = {"yield_per": 500}
"""Options of a statement whose rows are taken from the server in batches."""


@attrs.frozen
class RecordQuestion:
    """A filter and an order of one collection.

    If SQL cannot express the filter or the order, Python evaluates it, over all records that the
    rest of the filter leaves.

    Attributes:
        models: The models of our tables.
        collection: The collection's name.
        condition: The filter, resolved; None for all records.
        sorts: The order, resolved.
    """

    models: Models
    collection: str
    condition: Condition | None
    sorts: tuple[Sort, ...]
    _columns: RecordColumns = attrs.field(init=False)
    _narrowed: Narrowed = attrs.field(init=False)
    _keys: list[Key] | None = attrs.field(init=False)

    @_columns.default
    def _make_columns(self) -> RecordColumns:
        return RecordColumns(self.models)

    @_narrowed.default
    def _narrow(self) -> Narrowed:
        return narrowed(self.condition, self._columns)

    @_keys.default
    def _make_keys(self) -> list[Key] | None:
        return sort_keys(self.sorts, self._columns)

    @classmethod
    def of(
        cls,
        models: Models,
        collection: str,
        condition: Condition | None,
        record_type: RecordFacts | None,
        order_by: object = None,
    ) -> RecordQuestion:
        """Return a question, with its filter and its order resolved.

        Raises:
            UnknownFieldError: The type has no field of that name.
            InvalidFilterError: A value of the filter cannot be compared, or the order is not valid.
        """
        resolved = None if condition is None else resolve(condition, record_type)
        return cls(models, collection, resolved, resolve_order(order_by, record_type))

    def lines(
        self,
        connection: Connection,
        limit: int | None = None,
        offset: int | None = None,
        after: str | None = None,
        *,
        stream: bool = False,
    ) -> Iterator[str]:
        """Yield the lines of the matching records, in order.

        Args:
            connection: In a transaction.
            limit: How many lines to yield at most.
            offset: How many lines to skip.
            after: The token of a page: the lines that follow it.
            stream: Whether to hold only a few of them in memory at a time.

        Raises:
            InvalidFilterError: The token is not valid, or belongs to another order.
        """
        place = None if after is None else page_values(self.sorts, after)
        if not self._narrowed.is_exact or self._keys is None:
            yield from self._in_python(connection, limit, offset, place)
            return
        statement = self._statement(self.models.StoredRecord.data_json)
        if place is not None:
            statement = statement.where(following(self._keys, self.sorts, place))
        for key in self._keys:
            statement = statement.order_by(key.value.desc() if key.descending else key.value)
        statement = statement.limit(limit).offset(offset)
        if stream:
            statement = statement.execution_options(**_STREAM)
        with connection.execute(statement) as found:
            yield from found.scalars()

    def count(self, connection: Connection) -> int:
        """Return how many records match."""
        if not self._narrowed.is_exact:
            return sum(1 for _ in self._matching(connection))
        statement = self._statement(func.count())
        return int(connection.execute(statement).scalar_one())

    def exists(self, connection: Connection) -> bool:
        """Return whether any record matches."""
        if not self._narrowed.is_exact:
            with closing(self._matching(connection)) as found:
                return next(found, None) is not None
        one = self._statement(self._columns.id).limit(1)
        return connection.execute(one).first() is not None

    def select(self) -> Select[Any]:
        """Return the question as a SELECT of StoredRecord.

        Raises:
            UnsupportedError: SQL cannot express the filter.
        """
        if not self._narrowed.is_exact:
            raise UnsupportedError(
                operation="select with this filter",
                remedy="use list, which filters moments, ids of 128 bits and lists in Python",
            )
        return self._statement(self.models.StoredRecord)

    def token(self, line: str) -> str:
        """Return the token of the page that follows a line."""
        return page_token(self.sorts, decode_object(line))

    def _statement(self, what: Any) -> Select[Any]:
        own = self.models.StoredRecord.collection == self.collection
        return select(what).select_from(self._columns.tables).where(own, self._narrowed.where)

    def _matching(
        self, connection: Connection
    ) -> Generator[tuple[str, Mapping[str, Any]], None, None]:
        """Yield line and JSON object of each matching record, in no order."""
        statement = self._statement(self.models.StoredRecord.data_json)
        with connection.execute(statement.execution_options(**_STREAM)) as found:
            for line in found.scalars():
                record = decode_object(line)
                if self.condition is None or evaluate(self.condition, record):
                    yield line, record

    def _in_python(
        self,
        connection: Connection,
        limit: int | None,
        offset: int | None,
        place: Sequence[Any] | None,
    ) -> Iterable[str]:
        found = [(sort_key(self.sorts, one), line) for line, one in self._matching(connection)]
        found.sort(key=lambda pair: pair[0])
        lines = (line for _, line in found)
        if place is not None:
            end = place_key(self.sorts, place)
            lines = (line for key, line in found if end < key)
        start = offset or 0
        return islice(lines, start, None if limit is None else start + limit)
