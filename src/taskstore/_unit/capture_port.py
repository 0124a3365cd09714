"""The protocol with which a transaction captures changes of mirrored rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import InstanceState, Session

from taskstore._cache.capture.notes import Notes
from taskstore._cache.capture.triggers import Tracked
from taskstore._store.context import StoreContext
from taskstore._unit.unit import Unit


class Stamping(Protocol):
    """Sets the versions of the rows that a flush will write."""

    def among(self, touched: Iterable[Any]) -> list[InstanceState[Any]]:
        """Return the states of the instances that are mirrored."""

    def stamp(
        self,
        session: Session,
        connection: Connection,
        unit: Unit,
        found: Sequence[InstanceState[Any]],
    ) -> None:
        """Stamp the rows that the flush will write. Raise StaleRecordError for stale ones."""


class RowCapture(Protocol):
    """Collects what the transactions of one engine change in mirrored tables."""

    @property
    def flush(self) -> Stamping:
        """Its part in a flush."""

    @property
    def tables(self) -> Sequence[Tracked]:
        """The tables to be noted."""

    @property
    def owners(self) -> Sequence[Any]:
        """For each of them, under whom its rows are told."""

    def collected(self, unit: Unit, notes: Notes, cursor: Any, *, is_current: bool) -> list[Any]:
        """Hand the lines of what was noted to a unit; return the rows that were stamped.

        Args:
            unit: Of the transaction that commits.
            notes: Of its connection.
            cursor: Of the driver.
            is_current: Whether the schema is the one that the triggers were made for.
        """

    def tell(self, unit: Unit, stamped: Iterable[Any]) -> None:
        """Set the stamps on the instances in the sessions of a transaction."""


class _Capturing(Protocol):
    def capture(self, context: StoreContext, engine: Engine) -> RowCapture: ...


def row_capture(context: StoreContext, engine: Engine) -> RowCapture | None:
    """Return the capture of mirrored rows on an engine; None if nothing is mirrored."""
    if not context.mirrors:
        return None
    return cast("_Capturing", context.mirrors).capture(context, engine)
