"""Errors of git."""

from __future__ import annotations

from taskstore.errors._base import TaskstoreError


class GitError(TaskstoreError):
    """Git could not be run, or refused what it was asked."""

    command: str
    status: int | None
    reason: str

    def __init__(self, command: str, *, reason: str, status: int | None = None) -> None:
        super().__init__(f"{command}: {reason}", command=command, reason=reason, status=status)
