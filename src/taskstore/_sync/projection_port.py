"""What a sync asks of whoever brings mirrored tables to what the logs say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, cast

from sqlalchemy.engine import Connection

from taskstore._cache.rows.rows import Rows
from taskstore._format.problems import Problem
from taskstore._store.context import StoreContext
from taskstore._sync.report import SyncReport
from taskstore._sync.verification import Difference
from taskstore._unit.unit import Unit


class Projection(Protocol):
    """The part of one sync that is about mirrored tables."""

    def catch_up(self, reshaped: Mapping[str, Mapping[str, bytes]]) -> None:
        """Bring tables to what the cache has, where their models or their lines have changed.

        Args:
            reshaped: The collections whose lines have just been read in another shape, with a
                digest of what each record's line would say now, had it stayed the same.
        """

    def begin(self, collection: str, *, force: bool) -> None:
        """Before the log of a collection is read."""

    def is_missing(self, collection: str) -> bool:
        """Whether the log that was just read says nothing of the rows beside it."""

    def project(self) -> tuple[Problem, ...]:
        """Bring the tables to what the logs say; return what they do not take."""


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
    """Return what brings mirrored tables along in one sync; None if there are none.

    Args:
        context: The store.
        connection: In the sync's write transaction.
        rows: On that connection.
        unit: Of that transaction.
        prune: Whether to give up rows that the logs do not have.
    """
    if not context.mirrors and not rows.mirror_states():
        return None
    return _port(context).projection(context, connection, rows, unit, prune)


def late(context: StoreContext, connection: Connection, rows: Rows) -> list[str]:
    """Return the collections whose tables were not brought along as their models are now.

    Raises:
        InvalidDeclarationError: There is no table for a collection that has records.
    """
    return _port(context).late(context, connection, rows) if context.mirrors else []


def check_logs(context: StoreContext, connection: Connection, report: SyncReport) -> None:
    """Say that logs are missing, when the rest is synced.

    Raises:
        MissingLogError: A table has rows, and its log is missing, empty, or another one.
    """
    _port(context).check_logs(context, connection, report)


def differences(
    context: StoreContext, connection: Connection, rows: Rows, problems: list[Problem]
) -> Iterator[Difference]:
    """Yield where mirrored tables differ from their records; what else is wrong is a problem."""
    return _port(context).differences(context, connection, rows, problems)


def _port(context: StoreContext) -> _Projecting:
    return cast("_Projecting", context.mirrors)
