"""Errors of git."""

from __future__ import annotations

from collections.abc import Sequence

from taskstore.errors._base import TaskstoreError


class GitError(TaskstoreError):
    """Git could not be run, or a git command failed."""

    command: str
    status: int | None
    reason: str

    def __init__(self, command: str, *, reason: str, status: int | None = None) -> None:
        super().__init__(f"{command}: {reason}", command=command, reason=reason, status=status)


class CommitNotFoundError(GitError, LookupError):
    """The repository has no commit with this name."""

    revision: str
    is_shallow: bool

    def __init__(
        self, revision: str, *, is_shallow: bool = False, status: int | None = None
    ) -> None:
        reason = f"no commit is called {revision!r}"
        if is_shallow:
            reason += "; this clone is shallow: `git fetch --unshallow` fetches its older commits"
        super().__init__("git rev-parse", reason=reason, status=status)
        self.revision = revision
        self.is_shallow = is_shallow


class GitObjectMissingError(GitError, LookupError):
    """This clone has a commit, but not the files in it.

    Attributes:
        object: The id of the object that is missing.
        name: The file or directory that it is, if that is known.
    """

    object: str
    name: str | None

    def __init__(
        self,
        object: str,
        name: str | None = None,
        *,
        command: str = "git cat-file",
        status: int | None = None,
    ) -> None:
        of = "" if name is None else f" of {name}"
        reason = (
            f"the object {object}{of} is missing in this clone: `git fetch --refetch --no-filter` "
            "fetches it if this is a partial clone, and `git fsck` shows what is damaged"
        )
        super().__init__(command, reason=reason, status=status)
        self.object = object
        self.name = name


class BranchError(GitError):
    """The checkout is not on the branch that a scribe commits to, or git is in the middle of work.

    The log of another branch says other things. Nothing is written to it, and none of it is
    brought into the database.
    """

    branch: str | None
    found: str | None

    def __init__(
        self, *, branch: str | None, found: str | None, reason: str, remedy: str | None = None
    ) -> None:
        remedy = remedy or f"`git switch {branch or 'BRANCH'}`"
        reason = f"{reason}: {remedy}, then start the scribe again"
        super().__init__("git", reason=reason)
        self.branch = branch
        self.found = found


class MergeConflictError(GitError):
    """Two branches changed the same files, and git cannot merge them without a person."""

    revision: str
    files: tuple[str, ...]

    def __init__(self, *, revision: str, files: Sequence[str]) -> None:
        named = ", ".join(files[:5]) + (" and others" if len(files) > 5 else "")
        super().__init__(
            "git merge",
            reason=f"both sides changed {named}, nothing was merged: run `git merge {revision}`, "
            "resolve it and commit, then start the scribe again",
            status=1,
        )
        self.revision = revision
        self.files = tuple(files)


class RevertConflictError(TaskstoreError):
    """A value that a commit changed has changed again since, so the commit cannot be undone."""

    commit: str
    conflicts: tuple[str, ...]

    def __init__(self, commit: str, *, conflicts: tuple[str, ...]) -> None:
        named = ", ".join(conflicts[:5]) + (" and others" if len(conflicts) > 5 else "")
        super().__init__(
            f"cannot revert {commit!r}, nothing was written: {named} was changed again since; "
            "set the fields yourself, or restore the records as of a revision",
            commit=commit,
            conflicts=conflicts,
        )
