"""The branch of a remote that a scribe's commits go to: fetch, merge, push."""

from __future__ import annotations

import os
import random
import threading

import attrs

from taskstore._git.branch import Branch
from taskstore._git.log_commits import LogCommits
from taskstore._git.run import Answer, refused
from taskstore.errors import GitError, MergeConflictError

TRIES = 5
"""How often to merge and push again where others have pushed meanwhile."""

_LONGEST_PAUSE = 2.0
_NOT_THERE = "couldn't find remote ref"
_MOVED = ("[rejected]", "cannot lock ref", "failed to update ref", "incorrect old value")
_IN_THE_WAY = (".lock': File exists", "cannot lock ref")
"""What git says while another program works with it in the same checkout."""

_NO_SUCH_OPTION = 129


@attrs.frozen
class Upstream:
    """Where a branch is pushed to.

    Attributes:
        remote: The remote, such as `origin`.
        ref: The branch there, by its full name.
        tracking: What this clone knows of it, by its full name.
    """

    remote: str
    ref: str
    tracking: str

    @classmethod
    def of(cls, branch: Branch) -> Upstream:
        """Return the upstream of a branch, as `git push -u` has set it.

        Raises:
            GitError: There is none.
        """
        git, name = branch.repository.git, branch.name
        remote = branch.repository.setting(f"branch.{name}.remote")
        ref = branch.repository.setting(f"branch.{name}.merge")
        if remote is None or ref is None or remote == ".":
            remedy = f"`git push -u origin {name}` sets one"
            raise GitError("git push", reason=f"branch {name!r} has no upstream: {remedy}")
        format = "%(upstream)"
        tracking = git.run("for-each-ref", f"--format={format}", branch.ref).text
        short = ref.removeprefix("refs/heads/")
        return cls(remote, ref, tracking or f"refs/remotes/{remote}/{short}")

    @property
    def name(self) -> str:
        """Its short name in this clone, such as `origin/main`."""
        return self.tracking.removeprefix("refs/remotes/")


@attrs.define
class Publishing:
    """Commits the logs of a store, and exchanges them with a remote.

    Attributes:
        commits: Makes the commits.
        upstream: Where to push; None to commit only.
        stopped: Ends a call of the remote when it is set.
        timeout: How long the remote may take for an answer, in seconds.
        merged: What was said about fields that both sides had changed; whoever reads it clears it.
    """

    commits: LogCommits
    upstream: Upstream | None
    stopped: threading.Event = attrs.field(factory=threading.Event)
    timeout: float = 60.0
    merged: list[str] = attrs.field(factory=list)

    def run(self) -> None:
        """Commit what there is, take what others have pushed, and push.

        Raises:
            BranchError: The checkout is on another branch, or git is in the middle of work.
            MergeConflictError: A person has to merge.
            GitError: Git or the remote refused, or the remote did not answer.
        """
        for number in range(TRIES):
            if number and self._pause(number):
                break
            try:
                if self._is_done():
                    return
            except GitError as error:
                if number + 1 == TRIES or not any(word in error.reason for word in _IN_THE_WAY):
                    raise
        reason = f"others committed or pushed meanwhile, {TRIES} times"
        raise GitError("git push", reason=f"{reason}: it is tried again later")

    def _is_done(self) -> bool:
        """Do a round; return False if others have pushed before us."""
        self.commits.commit()
        if self.upstream is None:
            return True
        self._fetch(self.upstream)
        self._merge(self.upstream)
        return self._push(self.upstream)

    def _pause(self, number: int) -> bool:
        """Wait a moment, not in step with others; say whether the scribe is to stop."""
        return self.stopped.wait(random.uniform(0, _LONGEST_PAUSE * number / TRIES))  # noqa: S311

    def _ask(self, *call: str) -> Answer:
        git = self.commits.repository.git
        return git.ask_remote(*call, timeout=self.timeout, stopped=self.stopped)

    def _fetch(self, upstream: Upstream) -> None:
        options = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance")
        refs = f"+{upstream.ref}:{upstream.tracking}"
        call = ("fetch", *options, "--", upstream.remote, refs)
        answer = self._ask(*call)
        if answer.status != 0 and _NOT_THERE not in answer.message:
            raise refused(call, answer)

    def _tip(self, upstream: Upstream) -> str | None:
        call = ("rev-parse", "--verify", "--quiet", upstream.tracking)
        answer = self.commits.repository.git.ask(*call)
        return answer.text if answer.status == 0 else None

    def _merge(self, upstream: Upstream) -> None:
        """Bring what the upstream has into branch and work tree."""
        commits = self.commits
        theirs, ours = self._tip(upstream), commits.branch.tip()
        if theirs is None or (ours is not None and self._has(ours, theirs)):
            return
        if ours is not None:
            # While nothing is written, nobody has to wait for the merge.
            merged = self._merged(upstream, ours, theirs)
            if commits.lock.run(commits.lock_timeout, lambda: self._checked_out(ours, merged)):
                return
        commits.lock.run(commits.lock_timeout, lambda: self._merge_held(upstream, theirs))

    def _merge_held(self, upstream: Upstream, theirs: str) -> None:
        """Commit, merge and check out under the log lock, so that no line comes in between."""
        self.commits.commit(is_held=True)
        ours = self.commits.branch.tip()
        merged = theirs if ours is None else self._merged(upstream, ours, theirs)
        if not self._checked_out(ours, merged):
            raise GitError("git merge", reason="another program commits here: it is tried again")

    def _has(self, commit: str, ancestor: str) -> bool:
        call = ("merge-base", "--is-ancestor", ancestor, commit)
        answer = self.commits.repository.git.ask(*call)
        if answer.status not in (0, 1):
            raise refused(call, answer)
        return answer.status == 0

    def _merged(self, upstream: Upstream, ours: str, theirs: str) -> str:
        """Return a commit that has both; neither the branch nor the work tree changes."""
        if self._has(theirs, ours):
            return theirs
        git = self.commits.repository.git
        call = ("merge-tree", "--write-tree", "--name-only", "-z", ours, theirs)
        answer = git.ask(*call)
        if answer.status == _NO_SUCH_OPTION:
            raise GitError("git merge-tree", reason="--push needs git 2.38 or newer", status=129)
        if answer.status == 1:
            # The tree, the files, and after an empty field what git has to say about them.
            fields = answer.data.partition(b"\0\0")[0].split(b"\0")
            files = [os.fsdecode(field) for field in fields[1:]]
            raise MergeConflictError(revision=upstream.name, files=sorted(set(files)))
        if answer.status != 0:
            raise refused(call, answer)
        self.merged += answer.message.splitlines()
        [tree] = answer.fields
        message = f"Merge {upstream.name}"
        return git.run("commit-tree", tree, "-p", ours, "-p", theirs, "-m", message).text

    def _checked_out(self, ours: str | None, merged: str) -> bool:
        """Move branch and work tree on, under the log lock.

        Returns:
            Whether this could be done: not if a log has lines that are not committed.
        """
        commits = self.commits
        if ours is not None and not commits.is_committed(ours):
            return False
        commits.branch.check()
        options = ("--quiet", "--ff-only", "--no-stat", "--no-autostash", "--no-verify-signatures")
        commits.repository.git.run("merge", *options, merged)
        return True

    def _push(self, upstream: Upstream) -> bool:
        """Push; return False if others have pushed meanwhile."""
        ours = self.commits.branch.tip()
        if ours is None or ours == self._tip(upstream):
            return True
        call = ("push", "--porcelain", "--no-verify", "--", upstream.remote)
        answer = self._ask(*call, f"{ours}:{upstream.ref}")
        if answer.status == 0:
            return True
        told = "\n".join(line for line in answer.text.splitlines() if line.startswith("!"))
        if any(word in told for word in _MOVED):
            return False
        reason = "; ".join(filter(None, (told.replace("\t", " "), answer.message)))
        raise refused(call, attrs.evolve(answer, message=reason))
