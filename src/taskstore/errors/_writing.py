"""Errors of writing a transaction to the log."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath

from taskstore.errors._base import TaskstoreError


class LogWriteError(TaskstoreError, OSError):
    """A transaction could not be written to the log and was rolled back."""

    path: str
    step: str
    reason: str

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        step: str,
        reason: str,
        errno: int | None = None,
        remedy: str | None = None,
    ) -> None:
        mend = remedy or (
            "check that it is a regular file that you may read and write"
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

    The next read of the log decides: it keeps all lines of the transaction, or none. Read the
    records before you repeat the transaction; otherwise it could be written twice.
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
    """A mirrored table has rows, but its log is missing, empty, or belongs to other rows.

    Nothing is written, and no row is changed. A sync would delete the rows, and if a new log began
    with one line, the next sync would delete all others.
    """

    collection: str
    path: str
    rows: int

    def __init__(
        self, *, collection: str, path: str | PathLike[str], rows: int, model: str
    ) -> None:
        super().__init__(
            f"{fspath(path)}: the log of {collection!r} is missing, empty, or has none of its old "
            f"lines, but the table has {rows} rows. Restore the log, or write the rows to it with "
            f"store.export({model}), or delete the rows with store.sync(prune=True)",
            collection=collection,
            path=fspath(path),
            rows=rows,
        )


class RecoveryError(TaskstoreError):
    """A crash left a journal that can be neither applied nor set aside."""

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
    """A call that cannot be part of a transaction was made inside one."""

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
