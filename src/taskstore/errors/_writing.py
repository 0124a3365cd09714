"""Errors of getting a transaction into the log."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath

from taskstore.errors._base import TaskstoreError


class LogWriteError(TaskstoreError, OSError):
    """A transaction could not be written to the log; nothing of it is kept."""

    path: str
    step: str
    reason: str

    def __init__(
        self, path: str | PathLike[str], *, step: str, reason: str, errno: int | None = None
    ) -> None:
        mend = (
            "see that it is a regular file that may be read and written"
            if step == "open"
            else "free space or repair the disk"
        )
        super().__init__(
            f"{fspath(path)}: the transaction was not written ({step}: {reason}) and has been "
            f"rolled back; {mend}, then run it again",
            path=fspath(path),
            step=step,
            reason=reason,
        )
        self.errno = errno


class CommitUncertainError(TaskstoreError):
    """A commit failed after its lines reached the log, and they may still be there.

    The next look at the store takes it from the log: as a whole, or not at all. Running it again
    without that look could write it twice.
    """

    paths: tuple[str, ...]
    reason: str

    def __init__(self, *, paths: Sequence[str], reason: str) -> None:
        super().__init__(
            f"the commit failed ({reason}) after its lines were written to {', '.join(paths)}, and "
            "it is not certain that they were removed: read the records again before "
            "repeating it",
            paths=tuple(paths),
            reason=reason,
        )


class MissingLogError(TaskstoreError):
    """A mirrored table has rows, and its log is missing, empty, or another one.

    Nothing is written then, and no row is touched: a sync would delete them, and a new log with
    one line would doom the rest.
    """

    collection: str
    path: str
    rows: int

    def __init__(
        self, *, collection: str, path: str | PathLike[str], rows: int, model: str
    ) -> None:
        super().__init__(
            f"{fspath(path)}: the log of {collection!r} is missing, empty, or has nothing of what "
            f"it had, and there are {rows} rows beside it. Bring the log back if it should be "
            f"there, write the rows to it with store.export({model}), or give them up with "
            "store.sync(prune=True)",
            collection=collection,
            path=fspath(path),
            rows=rows,
        )


class RecoveryError(TaskstoreError):
    """A journal was left by a crash and cannot be applied or put aside."""

    path: str
    reason: str

    def __init__(self, path: str | PathLike[str], *, reason: str) -> None:
        super().__init__(
            f"{fspath(path)}: an interrupted transaction could not be recovered ({reason}); "
            "fix the cause, then open the store again",
            path=fspath(path),
            reason=reason,
        )


class TransactionOpenError(TaskstoreError):
    """A call that cannot be part of a transaction was made within one."""

    operation: str

    def __init__(self, *, operation: str) -> None:
        super().__init__(
            f"cannot {operation} within a transaction: call it after the block has ended",
            operation=operation,
        )


class UntrackedWriteError(TaskstoreError):
    """A write that would change the cache without reaching the log."""

    statement: str
    remedy: str

    def __init__(self, *, statement: str, remedy: str) -> None:
        super().__init__(
            f"refused, because it would not reach the log: {statement}; {remedy}",
            statement=statement,
            remedy=remedy,
        )
