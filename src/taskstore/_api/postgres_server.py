"""The calls of a store on PostgreSQL that has no directory, as application servers open it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from sqlalchemy.engine import Engine

from taskstore._api.opening import check_engine, mirrors_of
from taskstore._api.postgres_base import PostgresBase, check_types, kind_with
from taskstore._cache.schema.models import Models
from taskstore._postgres.preparing import prepare_database
from taskstore._postgres.server import ServerContext
from taskstore.errors import StoreAccessError, UnsupportedError

_REMEDY = (
    "give the path of the store's directory; only with an engine for PostgreSQL can it be None, "
    "because there `taskstore scribe` writes the log, on another machine"
)


class ServerCalls(PostgresBase):
    """The calls that work without a log."""

    _context: ServerContext

    def __init__(self, context: ServerContext, types: Iterable[type[Any]]) -> None:
        """Assemble a store; use `Store.open`."""
        self._context = context
        self._assemble(context.mirrors, context.outbox, context.name)
        check_types(self._catalog, types)

    def close(self) -> None:
        """Close the store, and detach its sessions. You may close it twice."""
        for target in list(self._attached):
            self.detach(target)
        self._context.closed = True

    def __repr__(self) -> str:
        """Say which database it is."""
        state = ", closed" if self._context.closed else ""
        return f"<Store on {self._context.name}, without a directory{state}>"


def open_server(
    kind: type[Any],
    engine: Engine | None,
    types: Iterable[type[Any]],
    mirrors: Iterable[Any],
    models: Models,
    migrate: bool | None,
    timeout: float,
    clock: Callable[[], int],
    ack: str,
    read_only: bool,
) -> Any:
    """Return a store without a directory.

    Raises:
        StoreAccessError: There is no engine for PostgreSQL.
        UnsupportedError: An argument needs the log.
    """
    name = getattr(getattr(engine, "dialect", None), "name", None)
    if engine is None or name == "sqlite":
        raise StoreAccessError(
            "None", operation="open", reason="a store needs a directory", remedy=_REMEDY
        )
    check_engine(engine, read_only=read_only)
    if ack == "log":
        raise UnsupportedError(
            operation='ack="log" without a directory',
            remedy='use ack="database": the process that runs the scribe writes the log',
        )
    found = mirrors_of(mirrors, engine, models)
    outbox = prepare_database(engine, models, found, migrate=bool(migrate))
    context = ServerContext(
        engine=engine,
        models=models,
        mirrors=found,
        outbox=outbox,
        lock_timeout=timeout,
        clock=clock,
    )
    return kind_with(ServerCalls, kind, _refuse)(context, types)


def _refuse(store: ServerCalls, call: str) -> NoReturn:
    """Raise LogElsewhereError, which says where the log is."""
    store._context.refuse(call)
