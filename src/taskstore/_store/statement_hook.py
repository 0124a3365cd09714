"""Tells the statements of a mirrored flush from all others.

On an engine of our own, SQLite's authorizer refuses every write of the cache's tables; what the
unit of work sends during a flush that is mirrored is let through here, statement by statement. An
engine of an application has no such guard: there the statements that SQLAlchemy sends are read
before they run. A cursor of the driver itself is not seen on such an engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, inspect
from sqlalchemy.engine import Connection, ExceptionContext

from taskstore._cache.guard import permit_writes, steers_transaction
from taskstore._cache.written_names import written_names
from taskstore._store.context import StoreContext
from taskstore._store.transaction import TransactionHook, Unit
from taskstore.errors import UntrackedWriteError

if TYPE_CHECKING:
    from taskstore._mirror.shape import Mirror

_EVENTS = ("before_cursor_execute", "after_cursor_execute", "handle_error")


def relation_keys(mirror: Mirror, values: Mapping[str, Any]) -> Iterator[str]:
    """The ids of the association rows that a statement of the unit of work has for parameters.

    Raises:
        UntrackedWriteError: a row will not be found by the key that it is given.
    """
    names = {field.name: field.column.key for field in mirror.key_fields}
    for prefix in ("", "old_"):
        key = [values.get(prefix + name, values.get(name)) for name in names.values()]
        if None not in key:
            id = mirror.settled_id(key)
            if id is None:
                raise UntrackedWriteError(
                    statement=f"a row of {mirror.name} with the key {key!r}, which is not how it "
                    "will be read",
                    remedy="flush and expire the rows that it refers to, so that they have their "
                    "keys as they are stored",
                )
            yield id


class StatementHook:
    """The listeners on the statements of one store's engine."""

    def __init__(self, context: StoreContext, transactions: TransactionHook) -> None:
        self._context = context
        self._transactions = transactions
        self._mapper: Any = inspect(context.models.StoredRecord)
        self._protected = context.models.schema_names | context.mirrors.tables

    def install(self) -> None:
        """Listen."""
        for name in _EVENTS:
            event.listen(self._transactions.engine, name, getattr(self, f"_{name}"))

    def remove(self) -> None:
        """Listen no more; installed or not."""
        for name in _EVENTS:
            if event.contains(self._transactions.engine, name, getattr(self, f"_{name}")):
                event.remove(self._transactions.engine, name, getattr(self, f"_{name}"))

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
        mirrored = unit is not None and (
            unit.mirroring or (unit.flushing and self._is_of_unit_of_work(context))
        )
        if unit is not None and unit.flushing and not mirrored and self._context.mirrors:
            mirrored = self._notes_relation(unit, context)
        if unit is not None and unit.flushing and unit.below is not None:
            # It asks the database itself, and must be done when the statement is permitted.
            unit.below.before(statement, context)
        permit_writes(connection, allowed=mirrored)
        if not mirrored and not self._context.own_engine:
            self._check(statement, unit)
            if self._context.mirrors.parents:
                self._check_parents(connection, statement, unit, context)

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
        unit = self._transactions.present(connection)
        if unit is not None and unit.flushing and unit.below is not None:
            unit.below.after(statement, context)

    def _handle_error(self, context: ExceptionContext) -> None:
        if context.connection is not None and not context.connection.closed:
            permit_writes(context.connection, allowed=False)

    def _is_of_unit_of_work(self, context: Any) -> bool:
        """Whether the unit of work sent it for our mapper: it alone uses the mapper's own cache.

        Statements that listeners send during a flush do not.
        """
        cache = context.execution_options.get("compiled_cache")
        own = cache is not None and cache is self._mapper.base_mapper._compiled_cache
        return own or self._context.mirrors.sends(cache)

    def _notes_relation(self, unit: Unit, context: Any) -> bool:
        """Note the association rows that a flush writes; False if they cannot be told."""
        if context.compiled is None or not (
            context.isinsert or context.isdelete or context.isupdate
        ):
            return False
        statement: Any = context.compiled.statement
        mirror = self._context.mirrors.association(statement.table)
        if mirror is None:
            return False
        found = [
            key for values in context.compiled_parameters for key in relation_keys(mirror, values)
        ]
        unit.relations += [(mirror.collection, id) for id in found]
        return bool(found)

    def _check_parents(
        self, connection: Connection, statement: str, unit: Unit | None, context: Any
    ) -> None:
        """Refuse what makes the database change mirrored rows without a flush that knows of it."""
        mirrors = self._context.mirrors
        found = written_names(statement) & mirrors.parent_names
        is_flushed = unit is not None and unit.flushing
        if not found or (is_flushed and "compiled_cache" in context.execution_options):
            return
        from taskstore._mirror.affected import reaches  # most stores mirror nothing

        if any(reaches(connection, mirrors, name, statement) for name in found):
            raise UntrackedWriteError(
                statement=statement,
                remedy="mirrored rows would be changed by its foreign keys: delete or change the "
                "rows in an attached session",
            )

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
