"""The base of stores on PostgreSQL, with and without a directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

from sqlalchemy.orm import Session

from taskstore._api.opening import codecs_of
from taskstore._api.postgres_reading import RecordReader
from taskstore._api.reading import Question, facts_of
from taskstore._format.lines import decode_object
from taskstore._mirror.model.registry import Registry
from taskstore._postgres.names import Outbox
from taskstore._postgres.records.catalog import RecordCatalog
from taskstore._postgres.records.rows import (
    OutboxRows,
    OutboxWriter,
    PendingLines,
    check_transactional,
)
from taskstore._postgres.records.sessions import RecordSessions, SessionHooks, on_undo
from taskstore._query.conditions import Condition
from taskstore._query.resolve import matches
from taskstore._records.interface import RecordCodec
from taskstore._unit.record_capture import expire_records
from taskstore.errors import InvalidFilterError

T = TypeVar("T")

_KEPT = frozenset(
    (
        "attach",
        "count",
        "create",
        "create_many",
        "delete",
        "detach",
        "exists",
        "first",
        "get",
        "get_one",
        "iterate",
        "list",
        "page",
        "patch",
        "rebuild_indexes",
        "save",
        "save_many",
        "select",
        "session",
        "transaction",
        "update",
    )
)
"""The calls of `Store` that stores on PostgreSQL inherit unchanged."""


class PostgresBase:
    """The calls that need the database only."""

    _context: Any
    _run: Callable[..., Any]
    detach: Callable[[Any], None]
    _attached: list[Any]
    _ack: str = "database"

    def _assemble(self, mirrors: Registry, outbox: Outbox, name: str) -> None:
        """Create the objects that the calls use."""
        context = self._context
        self._attached = []
        self._outbox = outbox
        self._hook = SessionHooks(mirrors, context.models, context.engine)
        self._catalog = RecordCatalog(mirrors)
        self._sessions = RecordSessions(
            context.engine,
            self._hook,
            name,
            context.lock_timeout,
            context.check_open,
        )
        self._reader = RecordReader(context.models, self._sessions)

    def delete_where(self, type: Any, first: Condition, /, *more: Condition) -> int:
        """Write the tombstones of all records that meet all filters; see `Store.delete_where`."""
        codec: RecordCodec[Any] = self._catalog.codec(type)
        question = Question(codec, (first, *more))
        condition = question.condition
        if condition is None:
            raise InvalidFilterError("delete_where needs a filter")
        facts = facts_of(codec)

        def write(writer: OutboxWriter) -> int:
            ids = self._reader.ids(question)
            # Somebody may have changed them before they were locked.
            stored = writer.rows.stored(codec.collection, ids)
            lines = ((id, one.line) for id, one in stored.items() if one.line is not None)
            return writer.delete(
                [id for id, line in lines if matches(condition, decode_object(line), facts)]
            )

        return int(self._run(codec, "delete records", write))

    def _written(
        self, codec: RecordCodec[Any], operation: str, write: Callable[[OutboxWriter], T]
    ) -> T:
        """Run the body of a call that writes, in the caller's transaction or in one of its own."""

        def work(session: Session) -> T:
            context, connection = self._context, session.connection()
            check_transactional(connection, operation)
            rows = OutboxRows(connection, context.models, self._outbox, context.clock)
            pending = PendingLines(lambda restore: on_undo(session, restore))
            writer = OutboxWriter(codec, cast("Any", rows), cast("Any", pending), 0)
            result = write(writer)
            rows.put_outbox(pending.lines)
            keys = ((codec.collection, id) for id in writer.touched)
            expire_records(context.models, session, keys)
            return result

        self._context.check_open()
        return self._sessions.write(work)


def check_types(catalog: RecordCatalog, types: Any) -> None:
    """Raise InvalidDeclarationError if a store cannot have some record classes."""
    codecs_of(types, cast("Any", catalog))


def kind_with(
    calls: type[Any], kind: type[Any], refuse: Callable[[Any, str], NoReturn]
) -> type[Any]:
    """Return a class of stores that has some calls, and refuses all others.

    Args:
        calls: The class with the calls.
        kind: The class of stores whose calls are replaced.
        refuse: Raises for a store and the name of a call; its docstring says what.
    """
    others = {
        name: _refused(name, refuse)
        for name in dir(kind)
        if not name.startswith("_")
        and name not in ("open", "find")
        and name not in _KEPT
        and not hasattr(calls, name)
        and callable(getattr(kind, name))
    }
    facts = {"__module__": kind.__module__, "_on_sqlite": kind}
    return type(kind.__name__, (calls, kind), {**others, **facts})


def _refused(name: str, refuse: Callable[[Any, str], NoReturn]) -> Callable[..., NoReturn]:
    def call(self: Any, *arguments: Any, **options: Any) -> NoReturn:
        refuse(self, name)

    call.__name__ = name
    call.__doc__ = refuse.__doc__
    return call
