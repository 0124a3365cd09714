"""Attempts to write a row that a constraint may refuse, and what such a refusal looks like."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import Connection
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
)

from taskstore.errors import TaskstoreError

__all__ = ["RolledBackError", "deferring", "is_refusal", "reason_of", "savepoint"]


class RolledBackError(Exception):
    """The database has ended the transaction where it was only to refuse a row."""


@contextmanager
def savepoint(connection: Connection, name: str) -> Iterator[None]:
    """A block whose writes are undone if it raises.

    Raises:
        RolledBackError: there is nothing to go back to any more.
    """
    cursor = connection.connection.cursor()
    try:
        cursor.execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException as error:
            try:
                cursor.execute(f"ROLLBACK TO {name}")
                cursor.execute(f"RELEASE {name}")
            except sqlite3.OperationalError as lost:
                if "no such savepoint" not in str(lost):
                    raise
                if not isinstance(error, TaskstoreError):
                    raise RolledBackError(_cause(error)) from error
            raise
        cursor.execute(f"RELEASE {name}")
    finally:
        cursor.close()


@contextmanager
def deferring(connection: Connection) -> Iterator[None]:
    """A block in which foreign keys are not checked, but at the end of the transaction."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute("PRAGMA defer_foreign_keys = ON")
        yield
    finally:
        cursor.execute("PRAGMA defer_foreign_keys = OFF")
        cursor.close()


def is_refusal(error: BaseException) -> bool:
    """Whether it is the row that is refused, and not the database that is in trouble."""
    if isinstance(error, ProgrammingError):
        # So Python tells from 3.11 on that it cannot bind a value.
        return str(error.orig).startswith("Error binding parameter")
    return not isinstance(error, DBAPIError) or isinstance(
        error, IntegrityError | InterfaceError | DataError
    )


def reason_of(error: BaseException) -> str:
    """Why a row was refused."""
    return f"the database refuses it: {_cause(error)}"


def _cause(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error)
