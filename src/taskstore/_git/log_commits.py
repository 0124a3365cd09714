"""Commits of the logs alone: what else is staged or changed in the checkout stays as it is.

A commit is made beside the index, in a copy of it that is the tree of HEAD with the logs of the
work tree. Then the logs are staged in the index itself, and the branch moves on. Git's hooks do
not run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from taskstore._git.branch import Branch
from taskstore._git.repository import Repository
from taskstore._git.staged import look_at_staged
from taskstore._log.layout import Layout
from taskstore._log.locks import Lock, directory_lock
from taskstore._log.recovery import recover
from taskstore.errors import GitError

_BODY = "Committed by `taskstore scribe`."
_SUBJECT = 50
"""How many characters the names of collections may have in a subject."""


@attrs.define
class Draft:
    """A commit to be.

    Attributes:
        repository: The checkout, with an index that has what is to be committed.
        parent: The commit before it; None for the first of a repository.
    """

    repository: Repository
    parent: str | None = None

    def tree(self) -> str:
        """Return the id of the tree to be committed."""
        return self.repository.git.run("write-tree").text

    def is_empty(self, tree: str) -> bool:
        """Say whether a tree is that of the commit before."""
        repository = self.repository
        before = _tree_of(repository, self.parent) if self.parent else repository.empty_tree()
        return tree == before


@attrs.frozen
class LogCommits:
    """Commits the logs of a store to a branch.

    Attributes:
        branch: The branch.
        layout: The store.
        lock_timeout: How long to wait for the log lock, in seconds.
        lock: The log lock.
    """

    branch: Branch
    layout: Layout
    lock_timeout: float = 30.0
    lock: Lock = attrs.field(init=False)

    @lock.default
    def _lock(self) -> Lock:
        return directory_lock(self.layout)

    @property
    def repository(self) -> Repository:
        """The checkout."""
        return self.branch.repository

    def close(self) -> None:
        """Close the lock."""
        self.lock.close()

    def commit(self, *, is_held: bool = False) -> str | None:
        """Commit the logs of the work tree.

        Args:
            is_held: Whether the caller holds the log lock.

        Returns:
            The id of the commit; None if there was nothing to commit.

        Raises:
            BranchError: The checkout is on another branch, or git is in the middle of work.
            GitError: Git refused, or a log has lines that no commit should have.
        """
        with self._draft() as draft:
            if is_held:
                self.fill(draft)
            else:
                self.lock.run(self.lock_timeout, lambda: self.fill(draft))
            tree = draft.tree()
            if draft.is_empty(tree):
                self._settle(draft)
                return None
            return self._written(draft, tree)

    def is_committed(self, commit: str) -> bool:
        """Say whether a commit is the newest of the branch, with the logs as they are.

        The caller holds the log lock.
        """
        with self._draft() as draft:
            self.fill(draft)
            return draft.parent == commit and draft.is_empty(draft.tree())

    def fill(self, draft: Draft) -> None:
        """Give a draft the logs as they are; the caller holds the log lock.

        Raises:
            BranchError: The checkout is on another branch, or git is in the middle of work.
        """
        recover(self.layout, lock_timeout=self.lock_timeout)
        self.branch.check()
        draft.parent = self.branch.tip()
        git = draft.repository.git
        # This keeps what the index knows of files, so that only logs that have changed are read.
        git.run("read-tree", *(["--reset", draft.parent] if draft.parent else ["--empty"]))
        names = "\0".join(self._names())
        git.run("update-index", "-z", "--add", "--stdin", stdin=os.fsencode(names))
        # The work tree of a branch changes before its HEAD does.
        self.branch.check()

    @contextmanager
    def _draft(self) -> Iterator[Draft]:
        with tempfile.TemporaryDirectory(prefix="taskstore-") as folder:
            index = Path(folder, "index")
            there = self.repository.git.run("rev-parse", "--git-path", "index").text
            place = self.repository.top / there
            if place.exists():
                shutil.copyfile(place, index)
            git = self.repository.git
            variables = {**git.environment, "GIT_INDEX_FILE": str(index)}
            drafting = attrs.evolve(git, environment=variables)
            yield Draft(attrs.evolve(self.repository, git=drafting))

    def _names(self) -> list[str]:
        collections, _ = self.layout.collections()
        paths = [self.layout.log_path(collection) for collection in collections]
        names = [self.repository.name_of(path) for path in paths]
        ignored = set(self.repository.ignored(names)) if names else set()
        return [name for name in names if name not in ignored]

    def _written(self, draft: Draft, tree: str) -> str:
        self._check(draft)
        git = draft.repository.git
        before = draft.parent or self.repository.empty_tree()
        call = ("diff-index", "--cached", "--no-renames", "--name-only", "-z", before)
        names = git.run(*call).fields
        message = _message(names)
        parents = () if draft.parent is None else ("-p", draft.parent)
        commit = git.run("commit-tree", tree, *parents, "-m", message, "-m", _BODY).text
        # First the index: if the branch does not move on, the logs are staged, and no more.
        self._stage(draft, names)
        self.move(commit, draft.parent, f"commit: {message}")
        return commit

    def _stage(self, draft: Draft, names: Sequence[str]) -> None:
        """Give the index the logs that a draft has."""
        entries = draft.repository.git.run("ls-files", "-s", "-z", "--", *names).data
        git = self.repository.git
        git.run("update-index", "-z", "--add", "--index-info", stdin=entries)
        git.ask("add", "--refresh", "--", *names)

    def _settle(self, draft: Draft) -> None:
        """Stage what is committed, where another scribe has come in between index and commit."""
        logs = self._names()
        if draft.parent is None or not logs:
            return
        call = ("diff-index", "--cached", "--no-renames", "--name-only", "-z", draft.parent)
        if names := self.repository.git.run(*call, "--", *logs).fields:
            self._stage(draft, names)

    def _check(self, draft: Draft) -> None:
        staged = look_at_staged(draft.repository)
        if staged.problems:
            first, more = staged.problems[0], len(staged.problems) - 1
            rest = f" (and {more} more lines)" if more else ""
            raise GitError("git commit", reason=f"{first}{rest}: run `taskstore doctor`")
        if staged.replaced:
            name, lost = staged.replaced[0]
            reason = f"{name} is another log, without {lost} records of the one in git"
            raise GitError("git commit", reason=f"{reason}: run `taskstore doctor`")

    def move(self, commit: str, before: str | None, reason: str) -> None:
        """Have the branch name a new commit.

        Args:
            commit: The commit.
            before: The commit that it names now; None if the branch does not exist yet.
            reason: For the reflog.

        Raises:
            GitError: It names another one meanwhile.
        """
        self.branch.check()
        ref = self.branch.ref
        self.repository.git.run("update-ref", "-m", reason, ref, commit, before or "")


def _tree_of(repository: Repository, commit: str) -> str:
    return repository.git.run("rev-parse", "--verify", f"{commit}^{{tree}}").text


def _message(names: Sequence[str]) -> str:
    """Return the subject of a commit of logs."""
    collections = [Path(name).stem for name in names]
    text = ", ".join(collections)
    if len(text) > _SUBJECT:
        text = collections[0][:_SUBJECT]
        if len(collections) > 1:
            text = f"{text} and {len(collections) - 1} more"
    return f"Update {text}"
