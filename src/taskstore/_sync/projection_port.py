"""The protocol with which a sync updates mirrored tables from the logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from sqlalchemy.engine import Connection

from taskstore._cache.rows.rows import Rows
from taskstore._format.problems import Problem
from taskstore._store.context import StoreContext
from taskstore._sync.report import SyncReport
from taskstore._unit.unit import Unit

if TYPE_CHECKING:
    from taskstore._sync.verification import Difference


class Projection(Protocol):
    """The part of a sync for mirrored tables."""

    def catch_up(self, reshaped: Mapping[str, Mapping[str, bytes]]) -> None:
        """Update tables from the cache if their models or their lines have changed.

        Args:
            reshaped: The collections whose lines have just been read in another shape, with a
                digest of each record's line as an unchanged line would be read now.
        """

    def begin(self, collection: str, *, force: bool) -> None:
        """Prepare for reading the log of a collection."""

    def is_missing(self, collection: str) -> bool:
        """Return whether the log that was just read has nothing about the rows of its table."""

    def project(self) -> tuple[Problem, ...]:
        """Update the tables from the logs; return the records that they refuse."""


class _Projecting(Protocol):
    def projection(
        self, context: StoreContext, connection: Connection, rows: Rows, unit: Unit, prune: bool
    ) -> Projection: ...

    def late(self, context: StoreContext, connection: Connection, rows: Rows) -> list[str]: ...

    def check_logs(
        self, context: StoreContext, connection: Connection, report: SyncReport
    ) -> None: ...

    def differences(
        self, context: StoreContext, connection: Connection, rows: Rows, problems: list[Problem]
    ) -> Iterator[Difference]: ...


def projection(
    context: StoreContext, connection: Connection, rows: Rows, unit: Unit, *, prune: bool = False
) -> Projection | None:
    """Return the projection for one sync; None if no tables are mirrored.

    Args:
        context: The store.
        connection: In the sync's write transaction.
        rows: On that connection.
        unit: Of that transaction.
        prune: Whether to delete rows that the logs do not have.
    """
    if not context.mirrors and not rows.mirror_states():
        return None
    return _port(context).projection(context, connection, rows, unit, prune)


def late(context: StoreContext, connection: Connection, rows: Rows) -> list[str]:
    """Return the collections whose tables were not updated for their present models.

    Raises:
        InvalidDeclarationError: There is no table for a collection that has records.
    """
    return _port(context).late(context, connection, rows) if context.mirrors else []


def check_logs(context: StoreContext, connection: Connection, report: SyncReport) -> None:
    """Report missing logs after everything else is synced.

    Raises:
        MissingLogError: A table has rows, but its log is missing, empty, or belongs to other rows.
    """
    _port(context).check_logs(context, connection, report)


def differences(
    context: StoreContext, connection: Connection, rows: Rows, problems: list[Problem]
) -> Iterator[Difference]:
    """Yield the differences between mirrored tables and their records, and note other problems."""
    return _port(context).differences(context, connection, rows, problems)


def _port(context: StoreContext) -> _Projecting:
    return cast("_Projecting", context.mirrors)
