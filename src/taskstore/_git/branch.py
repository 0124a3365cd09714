"""The branch that a scribe commits to, and whether the checkout is still on it."""

from __future__ import annotations

import os

import attrs

from taskstore._git import files
from taskstore._git.repository import Repository
from taskstore._git.run import shown
from taskstore.errors import BranchError

_HEADS = "refs/heads/"
_PREFIX = b"ref: "

_UNDER_WAY = {
    "rebase-merge": ("a rebase", "git rebase"),
    "rebase-apply": ("a rebase", "git rebase"),
    "MERGE_HEAD": ("a merge", "git merge"),
    "CHERRY_PICK_HEAD": ("a cherry-pick", "git cherry-pick"),
    "REVERT_HEAD": ("a revert", "git revert"),
}
"""What git has in its directory while it is in the middle of work, and the command for it."""


@attrs.frozen
class Branch:
    """A branch of a checkout.

    Attributes:
        repository: The checkout.
        name: Its short name, such as `main`.
    """

    repository: Repository
    name: str

    @classmethod
    def checked_out(cls, repository: Repository, name: str | None = None) -> Branch:
        """Return the branch that is checked out.

        Args:
            repository: The checkout.
            name: The branch that it has to be; None for any.

        Raises:
            BranchError: It is another one, or none, or git is in the middle of work.
        """
        found = _current(repository)
        branch = cls(repository, name or found or "")
        branch.check()
        return branch

    @property
    def ref(self) -> str:
        """Its full name."""
        return _HEADS + self.name

    def check(self) -> None:
        """See that the branch is checked out, and that git is not in the middle of work.

        This starts no program: it is done before everything that is written.

        Raises:
            BranchError: It is not, or git is.
        """
        for name, (work, command) in _UNDER_WAY.items():
            if os.path.lexists(self.repository.git_dir / name):
                raise BranchError(
                    branch=self.name or None,
                    found=None,
                    reason=f"{work} is under way in {shown(self.repository.top)}",
                    remedy=f"finish it with `{command} --continue`, or `{command} --abort`",
                )
        found = _current(self.repository)
        if found is None or found != self.name:
            place = "no branch (its HEAD is detached)" if found is None else f"branch {found!r}"
            reason = f"the checkout {shown(self.repository.top)} is on {place}"
            wanted = "" if not self.name else f", and the scribe is for {self.name!r}"
            raise BranchError(branch=self.name or None, found=found, reason=reason + wanted)

    def tip(self) -> str | None:
        """Return the id of its newest commit; None if it has none."""
        answer = self.repository.git.ask("rev-parse", "--verify", "--quiet", self.ref)
        return answer.text if answer.status == 0 else None


def _current(repository: Repository) -> str | None:
    """Return the short name of the branch that is checked out; None where HEAD is detached."""
    head = files.peek(repository.git_dir / "HEAD") or b""
    name = os.fsdecode(head.removeprefix(_PREFIX).strip())
    if not head.startswith(_PREFIX) or not name.startswith(_HEADS) or name == f"{_HEADS}.invalid":
        # A link, as old versions of git had, or references in another format.
        answer = repository.git.ask("symbolic-ref", "--quiet", "HEAD")
        name = answer.text if answer.status == 0 else ""
    return name.removeprefix(_HEADS) if name.startswith(_HEADS) else None
