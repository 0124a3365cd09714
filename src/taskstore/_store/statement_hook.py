"""Tells the statements of a mirrored flush from all others.

On an engine of our own, SQLite's authorizer refuses every write of the cache's tables; what the
unit of work sends during a flush that is mirrored is let through here, statement by statement. An
engine of an application has no such guard: there the statements that SQLAlchemy sends are read
before they run. A cursor of the driver itself is not seen on such an engine.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.engine import Connection, ExceptionContext

from taskstore._cache.guard import permit_writes, steers_transaction
from taskstore._cache.written_names import written_names
from taskstore._store.context import StoreContext
from taskstore._store.transaction import TransactionHook, Unit
from taskstore.errors import UntrackedWriteError

_EVENTS = ("before_cursor_execute", "after_cursor_execute", "handle_error")


class StatementHook:
    """The listeners on the statements of one store's engine."""

    def __init__(self, context: StoreContext, transactions: TransactionHook) -> None:
        self._context = context
        self._transactions = transactions
        self._mapper: Any = inspect(context.models.StoredRecord)
        self._protected = context.models.schema_names

    def install(self) -> None:
        """Listen."""
        for name in _EVENTS:
            event.listen(self._context.engine, name, getattr(self, f"_{name}"))

    def remove(self) -> None:
        """Listen no more; installed or not."""
        for name in _EVENTS:
            if event.contains(self._context.engine, name, getattr(self, f"_{name}")):
                event.remove(self._context.engine, name, getattr(self, f"_{name}"))

    def _before_cursor_execute(
        self,
        connection: Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> None:
        unit = self._transactions.present(connection)
        mirrored = unit is not None and unit.flushing and self._is_of_unit_of_work(context)
        permit_writes(connection, allowed=mirrored)
        if not mirrored and not self._context.own_engine:
            self._check(statement, unit)

    def _after_cursor_execute(
        self,
        connection: Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> None:
        permit_writes(connection, allowed=False)

    def _handle_error(self, context: ExceptionContext) -> None:
        if context.connection is not None and not context.connection.closed:
            permit_writes(context.connection, allowed=False)

    def _is_of_unit_of_work(self, context: Any) -> bool:
        """Whether the unit of work sent it for our mapper: it alone uses the mapper's own cache.

        Statements that listeners send during a flush do not.
        """
        cache = context.execution_options.get("compiled_cache")
        return cache is not None and cache is self._mapper.base_mapper._compiled_cache

    def _check(self, statement: str, unit: Unit | None) -> None:
        if not self._protected.isdisjoint(written_names(statement)):
            raise UntrackedWriteError(
                statement=statement,
                remedy="write through the store, through Store.session(), or through a session "
                "given to Store.attach; close the store to change the tables themselves",
            )
        if unit is not None and unit.changes and steers_transaction(statement):
            raise UntrackedWriteError(
                statement=statement,
                remedy="use the commit, rollback and begin_nested of the session",
            )
