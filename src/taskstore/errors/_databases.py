"""Errors of stores whose rows are in a database server."""

from __future__ import annotations

from collections.abc import Sequence

from taskstore.errors._base import TaskstoreError


class UnsupportedError(TaskstoreError, NotImplementedError):
    """A call that a store on PostgreSQL does not support."""

    operation: str

    def __init__(self, *, operation: str, remedy: str) -> None:
        super().__init__(
            f"{operation} is not supported by a store on PostgreSQL: {remedy}", operation=operation
        )


class TriggersRequiredError(TaskstoreError):
    """Mirrored tables have no triggers that capture their changes, or triggers of other models.

    Changes of these tables would not reach the log.
    """

    tables: tuple[str, ...]

    def __init__(self, *, tables: Sequence[str]) -> None:
        super().__init__(
            f"the triggers of {', '.join(tables)} are missing, disabled or not those of the "
            "models: run your application's `alembic upgrade head` with a revision that calls "
            "taskstore.migrations.capture(op, mirrors), or open with migrate=True",
            tables=tuple(tables),
        )


class OutboxOwnerError(TaskstoreError):
    """The lines of this database go to the logs of another clone."""

    place: str

    def __init__(self, *, place: str) -> None:
        super().__init__(
            f"this database is logged in another clone, {place}: open that one, or, if it is "
            "gone, run `taskstore scribe --take-over` here",
            place=place,
        )


class LogElsewhereError(TaskstoreError):
    """A call that needs the log, on a store that was opened without a directory."""

    operation: str
    place: str | None

    def __init__(self, *, operation: str, place: str | None) -> None:
        where = "nobody has written it yet" if place is None else f"it is in {place}"
        super().__init__(
            f"{operation} needs the log, and this store has no directory ({where}): call it on a "
            "store in the directory where `taskstore scribe` runs",
            operation=operation,
            place=place,
        )


class LogPendingError(TaskstoreError):
    """A transaction is committed in the database, but its lines are not in the log yet.

    The database keeps them, and the next scribe that runs writes them to the log.
    """

    reason: str

    def __init__(self, *, reason: str) -> None:
        super().__init__(
            f"the transaction is committed, but its lines are not in the log yet ({reason}): do "
            "not repeat it; they follow once a scribe can write, see `taskstore scribe --status`",
            reason=reason,
        )
