"""Frees unique values, so that rows can exchange them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import attrs
from sqlalchemy import Column, Table, UniqueConstraint, literal_column, null, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import StatementError

from taskstore._cache.engine.bridge import closing
from taskstore._cache.engine.sqlite import driver_error
from taskstore._mirror.model.links import quoted
from taskstore._mirror.projection.foreign_key_effects import Effects
from taskstore._mirror.projection.wanted import Key, WantedRow
from taskstore._mirror.tables.writing import condition_of, delete_row, refusing
from taskstore.errors import TaskstoreError


@attrs.frozen
class Parking:
    """Rows that have given up their unique values, until they are written.

    Attributes:
        connection: In a transaction in which foreign keys are deferred.
        effects: What the database would do to other rows.
        attempt: Does something to rows, and tells whether no constraint was in the way.
        removed: Rows that had to go altogether: their values by the names of the columns, as
            the driver has them.
    """

    connection: Connection
    effects: Effects
    attempt: Callable[[Callable[[], object], Sequence[WantedRow]], bool]
    removed: dict[Key, dict[str, Any]] = attrs.field(factory=dict)

    def park(self, target: WantedRow) -> None:
        """Free the unique values of a row that is about to get others."""
        assert target.current is not None
        if self.effects.why_not_moved(target) is not None:
            return
        for table in target.current.shape.tables:
            columns = [column for column in _settable(target, table) if _is_unique(column)]
            if not columns:
                continue
            condition = condition_of(target.mirror, target.current.shape, table, target.current)
            parked: dict[str, Any] = {
                column.key: null() if column.nullable else literal_column("randomblob(16)")
                for column in columns
            }
            statement = refusing(update(table)).where(condition).values(parked)
            if not self.attempt(partial(self.connection.execute, statement), [target]):
                # A CHECK or a STRICT table refuses.
                self._remove(target, table, condition)

    def _remove(self, target: WantedRow, table: Table, condition: Any) -> None:
        """Take a row out of its table; without that it is tried as it is."""
        assert target.current is not None
        has_parts = len(target.current.shape.tables) > 1
        if has_parts or self.effects.why_not_deleted(target, ()) is not None:
            return
        names = [
            row[1]
            for row in self.connection.execute(text(f"PRAGMA table_info({quoted(table.name)})"))
        ]
        whole: Any = select(*(literal_column(quoted(name)) for name in names))
        values = self.connection.execute(whole.select_from(table).where(condition)).one()
        if self.attempt(
            partial(delete_row, self.connection, target.mirror, target.current), [target]
        ):
            self.removed[target.key] = dict(zip(names, values, strict=True))


def _settable(target: WantedRow, table: Table) -> list[Column[Any]]:
    """The columns that an update of the row writes."""
    assert target.row is not None
    fields = target.row.shape.fields
    return [
        column
        for name in target.row.values
        if name not in target.mirror.key
        for column in fields[name].columns
        if column.table is table
    ]


def _is_unique(column: Column[Any]) -> bool:
    if column.unique:
        return True
    table: Any = column.table
    return any(
        column in one.columns.values()
        for one in (*table.constraints, *table.indexes)
        if isinstance(one, UniqueConstraint) or getattr(one, "unique", False)
    )


class RolledBackError(Exception):
    """The database has ended the transaction where it was only to refuse a row."""


@contextmanager
def savepoint(connection: Connection, name: str) -> Iterator[None]:
    """A block whose writes are undone if it raises.

    Raises:
        RolledBackError: There is nothing to go back to any more.
    """
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException as error:
            try:
                cursor.execute(f"ROLLBACK TO {name}")
                cursor.execute(f"RELEASE {name}")
            except sqlite3.ProgrammingError:
                # SQLAlchemy has closed the connection, as it does for what is no `Exception`.
                pass
            except sqlite3.OperationalError as lost:
                if "no such savepoint" not in str(lost):
                    raise
                if isinstance(error, Exception) and not isinstance(error, TaskstoreError):
                    raise RolledBackError(_cause(error)) from error
            raise
        cursor.execute(f"RELEASE {name}")


@contextmanager
def deferring(connection: Connection) -> Iterator[None]:
    """A block in which foreign keys are not checked, but at the end of the transaction."""
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute("PRAGMA defer_foreign_keys = ON")
        try:
            yield
        except BaseException:
            # It ends with the transaction anyway; the connection may be closed.
            with suppress(sqlite3.Error):
                cursor.execute("PRAGMA defer_foreign_keys = OFF")
            raise
        cursor.execute("PRAGMA defer_foreign_keys = OFF")


def is_refusal(error: BaseException) -> bool:
    """Return whether the database refused this row, rather than failed as a whole."""
    found = driver_error(error)
    if found is None:
        # A type of the column's refuses the value.
        return isinstance(error, StatementError | OverflowError)
    kinds = {one.__name__ for one in type(found).__mro__}
    if "ProgrammingError" in kinds:
        # So Python tells from 3.11 on that it cannot bind a value.
        return str(found).startswith("Error binding parameter")
    return not kinds.isdisjoint({"IntegrityError", "InterfaceError", "DataError"})


def reason_of(error: BaseException) -> str:
    """Return why a row was refused."""
    return f"the database refuses it: {_cause(error)}"


def _cause(error: BaseException) -> str:
    return str(driver_error(error) or getattr(error, "orig", None) or error)
