"""The store's reads: driver-level statements on the cache, each in one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from sqlalchemy import select
from sqlalchemy.sql import Select

from taskstore._api.sessions import Sessions
from taskstore._cache.rows.rows import Rows
from taskstore._format.lines import decode_object
from taskstore._query.conditions import Condition, all_of
from taskstore._query.fitting import check_fit
from taskstore._query.resolve import RecordFacts
from taskstore._records.interface import RecordCodec
from taskstore._records.types import RecordType
from taskstore._store.catalog import Catalog
from taskstore._store.context import StoreContext
from taskstore._sync.cache_file import CacheFile
from taskstore._sync.refresh import Refresher
from taskstore.errors import InvalidFilterError

if TYPE_CHECKING:
    from taskstore._cache.sql.statements import Prepared, RecordQuery

T = TypeVar("T")
Walk = Generator[Sequence[Any], None, None]

_MOST = 2**62
_FETCH = 500
"""How many rows an iteration takes from the cache at a time."""


@attrs.define
class Question:
    """The arguments of `list` and similar calls.

    Attributes:
        codec: The record type.
        conditions: The conditions, which a record must all meet.
        order_by: See `resolve_order`.
        limit: The maximum number of records.
        offset: How many records to skip.
    """

    codec: RecordCodec[Any]
    conditions: Sequence[Any] = ()
    order_by: Any = None
    limit: int | None = None
    offset: int | None = None

    def __attrs_post_init__(self) -> None:
        for name, value in (("limit", self.limit), ("offset", self.offset)):
            if value is not None and (type(value) is not int or not 0 <= value < _MOST):
                raise InvalidFilterError(
                    f"{name} must be an integer from 0 to 2**62, not {value!r}"
                )
        check_fit(self.condition, facts_of(self.codec))

    @property
    def condition(self) -> Condition | None:
        """Return the conditions joined into one."""
        return all_of(self.conditions)


@attrs.define
class Reader:
    """Reads records from the cache, after checking that it is up to date."""

    context: StoreContext
    sessions: Sessions
    refresher: Refresher
    catalog: Catalog
    cache: CacheFile

    def get(self, codec: RecordCodec[Any], id: str) -> Any:
        """Return the record with an id, or None."""

        def read(cursor: Any) -> str | None:
            return Rows(cursor, self.context.models).line(codec.collection, id)

        line = self._read(codec, read, begin=False)
        return None if line is None else codec.decode(line)

    def records(self, question: Question) -> list[Any]:
        """Return the matching records, in order."""
        decode = question.codec.decode
        return [decode(line) for (line,) in self._all(question, "data_json")]

    def ids(self, question: Question) -> list[str]:
        """Return the ids of the matching records."""
        return [id for (id,) in self._all(question, "id")]

    def count(self, question: Question) -> int:
        """Return the number of matching records."""
        found = self._one(question, lambda query, cursor: query.count())
        return int(found[0]) if found else 0

    def exists(self, question: Question) -> bool:
        """Return whether any record matches."""
        return self._one(question, _exists) is not None

    def page(self, question: Question, after: str | None) -> tuple[list[Any], str | None]:
        """Return a page of records, and the token of the next page; None if it is the last."""
        limit = question.limit or 0

        def read(cursor: Any) -> tuple[RecordQuery, list[Any]]:
            query = self._query(question, cursor)
            counts = _probed(query, cursor)
            prepared = query.rows("data_json", limit=limit + 1, after=after, counts=counts)
            return query, _run(cursor, prepared).fetchall()

        query, rows = self._read(question.codec, read)
        lines = [line for (line,) in rows]
        items = [question.codec.decode(line) for line in lines[:limit]]
        more = len(lines) > limit > 0
        return items, query.token(decode_object(lines[limit - 1])) if more else None

    def iterate(self, question: Question) -> Iterator[Any]:
        """Yield the matching records one by one, from one snapshot."""
        decode = question.codec.decode
        if self.sessions.current() is not None or self.context.read_only:
            # Writes on this connection must not disturb the iteration, and a database in memory
            # has no snapshots.
            for (line,) in self._all(question, "data_json"):
                yield decode(line)
            return
        first, rest = self.sessions.run(lambda: self.cache.retried(lambda: self._begun(question)))
        with closing(rest):
            for lines in chain((first,), rest):
                for (line,) in lines:
                    yield decode(line)

    def _begun(self, question: Question) -> tuple[Sequence[Any], Walk]:
        """Return an iteration whose first rows show that the cache is usable."""
        walk = self._walk(question)
        return next(walk, ()), walk

    def _walk(self, question: Question) -> Walk:
        self._prepare(question.codec)
        with self.cache.kept.cursor() as cursor:
            cursor.execute("BEGIN")
            query = self._query(question, cursor)
            counts = _probed(query, cursor)
            prepared = query.rows(
                "data_json", limit=question.limit, offset=question.offset, counts=counts
            )
            found = _run(cursor, prepared)
            while lines := found.fetchmany(_FETCH):
                yield lines

    def select(self, question: Question) -> Select[Any]:
        """Return a SELECT of the matching StoredRecord rows, for a session of the user."""
        from taskstore._cache.sql.compile import compile  # an open does not need it

        codec, models = question.codec, self.context.models
        indexed = self._read(
            codec, lambda cursor: Rows(cursor, models).index_fields(codec.collection)
        )
        where = compile(question.condition, models, codec.collection, facts_of(codec), indexed)
        return select(models.StoredRecord).where(where)

    def _all(self, question: Question, column: str) -> list[Any]:
        def read(cursor: Any) -> list[Any]:
            query = self._query(question, cursor)
            limited = question.limit is not None
            prepared = query.rows(
                column,
                limit=question.limit,
                offset=question.offset,
                counts=_probed(query, cursor) if limited else None,
            )
            found: list[Any] = _run(cursor, prepared).fetchall()
            return found

        return self._read(question.codec, read)

    def _one(
        self, question: Question, prepare: Callable[[RecordQuery, Any], Prepared]
    ) -> tuple[Any, ...] | None:
        def read(cursor: Any) -> tuple[Any, ...] | None:
            query = self._query(question, cursor)
            row: tuple[Any, ...] | None = _run(cursor, prepare(query, cursor)).fetchone()
            return row

        return self._read(question.codec, read)

    def _query(self, question: Question, cursor: Any) -> RecordQuery:
        from taskstore._cache.sql.statements import RecordQuery  # an open does not need it

        codec = question.codec
        return RecordQuery.of(
            self.context.models,
            codec.collection,
            question.condition,
            record_type=facts_of(codec),
            # Read in the snapshot of the query: an index that was dropped would find nothing.
            indexed=Rows(cursor, self.context.models).index_fields(codec.collection),
            order_by=question.order_by,
        )

    def _read(self, codec: RecordCodec[Any], read: Callable[[Any], T], *, begin: bool = True) -> T:
        """Call with a cursor on the caller's transaction, or on the cache as it is now.

        If the cache turns out to be unusable, rebuild it and call again.
        """
        current = self.sessions.current()
        if current is not None:
            # The caller's transaction cannot move to another cache; its session translates the
            # error.
            return read(self.sessions.settled(current).connection.cursor())

        def work() -> T:
            self._prepare(codec)
            return self.cache.kept.run(lambda pooled: _begun(pooled, read, begin=begin))

        return self.sessions.run(lambda: self.cache.retried(work))

    def _prepare(self, codec: RecordCodec[Any]) -> None:
        self.context.check_open()
        self.cache.check()
        if not self.catalog.is_taught(codec):
            self.refresher.teach(self.catalog, codec)
        if self.context.refresh:
            self.refresher.before_read([codec.collection])


def facts_of(codec: RecordCodec[Any]) -> RecordFacts | None:
    """Return what filters need to know of a record class; None for plain dicts."""
    return codec if isinstance(codec, RecordType) else None


def _begun(pooled: Any, read: Callable[[Any], T], *, begin: bool) -> T:
    with closing(pooled.dbapi_connection.cursor()) as cursor:
        if begin:
            cursor.execute("BEGIN")
        return read(cursor)


def _run(cursor: Any, prepared: Prepared) -> Any:
    sql, parameters = prepared.driver_sql()
    return cursor.execute(sql, parameters)


def _probed(query: RecordQuery, cursor: Any) -> Sequence[int] | None:
    probe = query.probe()
    if probe is None:
        return None
    counts: Sequence[int] | None = _run(cursor, probe).fetchone()
    return counts


def _exists(query: RecordQuery, cursor: Any) -> Prepared:
    return query.exists(_probed(query, cursor))
