"""The calls of a store that write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from taskstore._api.reading import Question, Reader, facts_of
from taskstore._api.sessions import Sessions
from taskstore._cache.engine.guard import mark_pending
from taskstore._cache.rows.rows import Rows
from taskstore._format.lines import decode_object
from taskstore._format.names import EVOLUTIONS, check_id
from taskstore._query.conditions import Condition, all_of
from taskstore._query.fitting import check_fit
from taskstore._query.resolve import matches
from taskstore._records.declare import evolve
from taskstore._records.interface import RecordCodec
from taskstore._records.reasons import StructureError
from taskstore._records.versions import Claim, claim_of
from taskstore._store.catalog import Catalog
from taskstore._store.context import StoreContext
from taskstore._sync.cache_file import CacheFile
from taskstore._sync.refresh import Refresher
from taskstore._unit.transaction import TransactionHook
from taskstore._unit.work import Work
from taskstore._unit.writing import Writer
from taskstore.errors import (
    CacheError,
    ConditionFailedError,
    InvalidDeclarationError,
    InvalidFilterError,
    InvalidNameError,
    InvalidRecordError,
    RecordNotFoundError,
    UntrackedWriteError,
)

R = TypeVar("R")
T = TypeVar("T")
Row = dict[str, Any]


class WriteCalls:
    """The calls that write records.

    Each call is a transaction, or part of the transaction that the caller is in (see
    `transaction`). When a call outside a transaction returns, its lines are on the disk. With a
    plain dict, name the collection.

    If a record has an `updated_at`, it is compared with the stored version. An older one raises
    StaleRecordError, a newer one is kept, and otherwise the write is stamped. The returned record
    has the new version, and so has your own, unless it is frozen.

    All calls raise InvalidRecordError and InvalidIdError for values that cannot be stored,
    LogWriteError if the disk refuses, LockTimeoutError if another writer takes too long, and
    StoreReadOnlyError if the store is read-only.
    """

    _cache: CacheFile
    _reader: Reader
    _catalog: Catalog
    _refresher: Refresher
    _sessions: Sessions
    _context: StoreContext
    _transactions: TransactionHook

    @overload
    def create(self, record: str, fields: Row, /) -> Row: ...
    @overload
    def create(self, record: T, *, collection: str | None = None) -> T: ...
    def create(self, record: Any, fields: Any = None, *, collection: str | None = None) -> Any:
        """Write a new record: `create(plan)`, or `create("plans", {"id": "a"})`.

        Args:
            record: An instance of a record class, or a dict; or the collection of `fields`.
            fields: A dict.
            collection: The collection, if `record` is a dict.

        Raises:
            RecordExistsError: A live record has the id.
            StaleRecordError: Its version is older than the tombstone of the id.
        """
        record, collection = named(record, fields, collection)
        return self.create_many([record], collection=collection)[0]

    @overload
    def create_many(self, records: str, rows: Iterable[Row], /) -> list[Row]: ...
    @overload
    def create_many(self, records: Iterable[T], *, collection: str | None = None) -> list[T]: ...
    def create_many(
        self, records: Any, rows: Any = None, *, collection: str | None = None
    ) -> list[Any]:
        """Write new records: all of them or none. The arguments are like those of `create`.

        Raises:
            RecordExistsError: A live record has one of the ids.
            InvalidIdError: An id occurs twice.
        """
        records, collection = named(records, rows, collection)
        return self._write(list(records), collection, "create a record", Writer.create)

    @overload
    def update(self, record: str, fields: Row, /, *, if_updated_at: object = None) -> Row: ...
    @overload
    def update(
        self, record: T, *, if_updated_at: object = None, collection: str | None = None
    ) -> T: ...
    def update(
        self,
        record: Any,
        fields: Any = None,
        *,
        if_updated_at: object = None,
        collection: str | None = None,
    ) -> Any:
        """Replace an existing record. If nothing changed, nothing is written.

        Args:
            record: An instance of a record class, or a dict with the whole record; or the
                collection of `fields`.
            fields: A dict with the whole record.
            if_updated_at: The version that the stored record must have, instead of the version
                of `record`: milliseconds, RFC 3339 text or a datetime.
            collection: The collection, if `record` is a dict.

        Raises:
            RecordNotFoundError: No live record has the id.
            StaleRecordError: The stored record is at another version.
        """
        record, collection = named(record, fields, collection)

        def write(writer: Writer, records: list[Any]) -> list[Any]:
            expected = _version(if_updated_at, writer.codec.collection)
            return writer.update(records, if_updated_at=expected)

        return self._write([record], collection, "update a record", write)[0]

    @overload
    def save(self, record: str, fields: Row, /) -> Row: ...
    @overload
    def save(self, record: T, *, collection: str | None = None) -> T: ...
    def save(self, record: Any, fields: Any = None, *, collection: str | None = None) -> Any:
        """Create or replace a record. The arguments are those of `create`."""
        record, collection = named(record, fields, collection)
        return self.save_many([record], collection=collection)[0]

    @overload
    def save_many(self, records: str, rows: Iterable[Row], /) -> list[Row]: ...
    @overload
    def save_many(self, records: Iterable[T], *, collection: str | None = None) -> list[T]: ...
    def save_many(
        self, records: Any, rows: Any = None, *, collection: str | None = None
    ) -> list[Any]:
        """Create or replace records: all of them or none. See `create_many`."""
        records, collection = named(records, rows, collection)
        return self._write(list(records), collection, "save a record", Writer.save)

    @overload
    def patch(self, type: type[T], id: str, /, *only_if: Condition, **changes: Any) -> T: ...
    @overload
    def patch(self, type: str, id: str, /, *only_if: Condition, **changes: Any) -> Row: ...
    def patch(self, type: Any, id: str, /, *only_if: Condition, **changes: Any) -> Any:
        """Change some fields of a record under the write lock, and return it.

        With conditions, several callers can compete. For example, if they all call
        `patch(Task, id, where("owner").is_(None), owner=me)`, only one of them succeeds.

        Args:
            type: A record class, or a collection's name.
            id: The record's id.
            only_if: Filters that the stored record must meet.
            changes: New values by field name.

        Raises:
            RecordNotFoundError: No live record has the id.
            ConditionFailedError: The record does not meet the conditions.
            UnknownFieldError: The class has no such field.
        """
        codec = self._catalog.codec(type)
        check_id(id, codec.collection)
        if "id" in changes and changes["id"] != id:
            raise InvalidRecordError(
                collection=codec.collection, id=id, field="id", reason="an id cannot be changed"
            )
        condition = all_of(only_if)
        facts = facts_of(codec)
        check_fit(condition, facts)

        def write(writer: Writer) -> Any:
            stored = writer.rows.stored(codec.collection, [id]).get(id)
            if stored is None or stored.line is None:
                raise RecordNotFoundError(collection=codec.collection, id=id)
            if not matches(condition, decode_object(stored.line), facts):
                raise ConditionFailedError(
                    collection=codec.collection, id=id, condition=str(condition)
                )
            found = codec.decode(stored.line)
            changed = {**found, **changes} if facts is None else evolve(found, **changes)
            return writer.update([changed])[0]

        return self._run(codec, "patch a record", write)

    def delete(self, type: Any, id: str, /) -> bool:
        """Write the tombstone of a record.

        Returns:
            Whether there was a live record with the id. If not, nothing is written.
        """
        codec = self._catalog.codec(type)
        check_id(id, codec.collection)
        return self._run(codec, "delete a record", lambda writer: writer.delete([id])) == 1

    def delete_where(self, type: Any, first: Condition, /, *more: Condition) -> int:
        """Write the tombstones of all records that meet all filters, and return their number.

        Raises:
            InvalidFilterError: There is no filter. To delete everything, pass
                `where("id").is_not(None)`.
        """
        codec = self._catalog.codec(type)
        question = Question(codec, (first, *more))
        if question.condition is None:
            raise InvalidFilterError("delete_where needs a filter")
        return self._run(
            codec, "delete records", lambda writer: writer.delete(self._reader.ids(question))
        )

    def _write(
        self,
        records: list[Any],
        collection: str | None,
        operation: str,
        write: Callable[[Writer, list[Any]], list[Any]],
    ) -> list[Any]:
        codec = None
        first_of: dict[type, Any] = {}
        for record in records:
            first_of.setdefault(type(record), record)
        for record in first_of.values():
            found = self._catalog.codec_of(record, collection)
            if codec is not None and found.collection != codec.collection:
                raise InvalidRecordError(
                    collection=found.collection,
                    id=None,
                    reason=f"a batch has one collection, and this one started with "
                    f"{codec.collection!r}: use a transaction for several",
                )
            codec = codec or found
        if codec is None:
            return []
        return self._run(codec, operation, lambda writer: write(writer, records))

    def _run(self, codec: RecordCodec[Any], operation: str, write: Callable[[Writer], R]) -> R:
        """Write. If the cache turns out to be unusable, rebuild it and write again."""
        mirror = self._context.mirrors.by_collection.get(codec.collection)
        if mirror is not None:
            raise UntrackedWriteError(
                statement=f"{operation} of {codec.collection!r} by the store",
                remedy=f"its rows are those of {mirror.name}: write them in an attached session",
            )
        if codec.collection == EVOLUTIONS:
            reason = "belongs to the format: state evolutions with record(..., evolutions=[...])"
            raise InvalidNameError(kind="collection", name=EVOLUTIONS, reason=reason)
        return self._sessions.run(lambda: self._written(codec, operation, write))

    def _written(self, codec: RecordCodec[Any], operation: str, write: Callable[[Writer], R]) -> R:
        if self._sessions.current() is not None:
            return self._joined(codec, operation, write)
        openings = self._cache.openings
        try:
            return self._alone(codec, operation, write)
        except CacheError:
            self._cache.rebuild(openings)
            return self._alone(codec, operation, write)

    def _alone(self, codec: RecordCodec[Any], operation: str, write: Callable[[Writer], R]) -> R:
        taught = self._catalog.is_taught(codec)

        def call(work: Work) -> R:
            with work.cursor() as cursor:
                return write(self._writer(work, codec, cursor, taught=taught))

        result = self._sessions.write(codec.collection, operation, call)
        if not taught:
            self._catalog.mark_taught(codec)
        return result

    def _joined(self, codec: RecordCodec[Any], operation: str, write: Callable[[Writer], R]) -> R:
        taught = self._catalog.is_taught(codec)

        def call(work: Work) -> R:
            connection, changes = work.connection(), work.unit.changes
            with work.cursor() as cursor:
                writer = self._writer(work, codec, cursor, taught=taught)
                try:
                    result = write(writer)
                finally:
                    self._sessions.expire(changes, codec.collection, writer.touched)
            mark_pending(connection)
            self._transactions.capture.mark(work.unit, connection.connection)
            return result

        return self._sessions.write(codec.collection, operation, call)

    def _writer(self, work: Work, codec: RecordCodec[Any], cursor: Any, *, taught: bool) -> Writer:
        rows = Rows(cursor, self._context.models)
        if not taught:
            self._catalog.teach(codec, rows)
            if self._catalog.is_evolved(codec, rows):
                self._refresher.reshape(work.connection())
        return Writer(codec, rows, work.unit.changes, self._context.clock())


def named(first: Any, second: Any, collection: str | None) -> tuple[Any, str | None]:
    """Return the values to write and the named collection, for both forms of a call."""
    if second is None and not isinstance(first, str):
        return first, collection
    if second is None or not isinstance(first, str) or collection is not None:
        raise InvalidDeclarationError(
            repr(first),
            reason='give a record, or a collection and a dict: create("plans", {"id": "a"})',
        )
    return second, first


def _version(value: object, collection: str) -> Claim | None:
    if value is None:
        return None
    try:
        # If passed explicitly, 0 is the version of a record without a time, not "any version".
        return claim_of(value) or Claim(0, 0, 1000)
    except StructureError as error:
        raise InvalidRecordError(
            collection=collection, id=None, field="if_updated_at", reason=str(error)
        ) from None
