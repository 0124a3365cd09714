"""What `taskstore scribe --commit` does with git, beside its other work."""

from __future__ import annotations

import threading
from pathlib import Path

import attrs

from taskstore._git.branch import Branch
from taskstore._git.log_commits import LogCommits
from taskstore._git.status import look
from taskstore._git.upstream import Publishing, Upstream
from taskstore._log.layout import Layout
from taskstore.cli._errors import Failure, Status
from taskstore.cli._output import note, warn
from taskstore.cli.git import repository_of
from taskstore.errors import BranchError, GitError, MergeConflictError, TaskstoreError

_LONGEST_PAUSE = 300.0
"""How long to wait after failures at most, in seconds, unless rounds are farther apart."""

_LAST_TIMEOUT = 10.0
"""How long the remote may take when the scribe ends, in seconds."""


class Rounds:
    """Commits, and exchanges commits with a remote, at intervals in a thread of its own.

    Args:
        publishing: Does one round.
        interval: How long to wait between rounds, in seconds.
    """

    def __init__(self, publishing: Publishing, interval: float) -> None:
        self._publishing = publishing
        self._interval = interval
        self._failure: TaskstoreError | OSError | None = None
        self._thread: threading.Thread | None = None

    @classmethod
    def prepared(
        cls, directory: Path, layout: Layout, branch: str | None, interval: float, *, push: bool
    ) -> Rounds:
        """Return the rounds of a store, after a look whether git can do them.

        Raises:
            Failure: Git is not installed for the store.
            BranchError: Another branch is checked out.
            GitError: It has no upstream, or git does not know who commits.
        """
        repository = repository_of(directory)
        found = Branch.checked_out(repository, branch)
        if repository.git.ask("var", "GIT_COMMITTER_IDENT").status != 0:
            remedy = "`git config user.name NAME` and `git config user.email ADDRESS` say so"
            raise GitError("git commit", reason=f"git does not know who commits: {remedy}")
        upstream = Upstream.of(found) if push else None
        if push:
            status = look(repository, directory)
            if not status.has_driver or status.attributes:
                reason = "git does not merge logs by record in this clone"
                raise Failure(f"{reason}: run `taskstore git install`", Status.STORE)
        return cls(Publishing(LogCommits(found, layout), upstream), interval)

    @property
    def failure(self) -> TaskstoreError | OSError | None:
        """Why the last round failed; None if it did not."""
        return self._failure

    def check(self) -> None:
        """See that the branch is checked out.

        Raises:
            BranchError: It is not.
        """
        self._publishing.commits.branch.check()

    def once(self) -> None:
        """Do one round now.

        Raises:
            TaskstoreError: It failed.
        """
        try:
            self._publishing.run()
        finally:
            self.tell()

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="taskstore-git", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the remote is not waited for."""
        self._publishing.stopped.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None

    def finish(self) -> None:
        """Do the last round, after the thread has ended.

        Raises:
            TaskstoreError: The logs could not be committed, or not be pushed.
        """
        last = attrs.evolve(
            self._publishing, stopped=threading.Event(), timeout=_LAST_TIMEOUT, merged=[]
        )
        if self._failure is not None and last.upstream is not None:
            warn(f"not pushed: {self._failure}")
            last.upstream = None
        self._publishing = last
        self.once()
        last.commits.close()

    def tell(self) -> None:
        """Say what was said about merges."""
        told = self._publishing.merged
        while told:
            note(told.pop(0))

    def _run(self) -> None:
        pause, stopped = self._interval, self._publishing.stopped
        while True:
            failure = self._failure = self._round()
            longest = max(self._interval, _LONGEST_PAUSE)
            pause = self._interval if failure is None else min(pause * 2, longest)
            is_final = isinstance(failure, BranchError | MergeConflictError)
            if is_final or stopped.wait(pause):
                return

    def _round(self) -> TaskstoreError | OSError | None:
        try:
            self._publishing.run()
        except (TaskstoreError, OSError) as error:
            return error
        return None
