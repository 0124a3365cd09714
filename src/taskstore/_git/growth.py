"""How a log has grown: which commits may have brought a line, told by the lengths alone.

To compare two versions of a large log takes git a hundred times as long as to say how long they
are. Where no commit has made the log shorter, all of them have only appended, as far as lengths
tell, and the end of a line says which commit is to be looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable

import attrs

from taskstore._git.repository import Repository

_SMALL = 16 * 2**20
"""How many bytes all versions of a log may have together, so that all are simply read."""

_MANY = 100
"""How many commits are looked at; beyond, all are."""

_CALL = (
    "log",
    "--topo-order",
    "--reverse",
    "--raw",
    "-c",
    "--no-abbrev",
    "--no-renames",
    "--no-color",
    "--no-show-signature",
    "--parents",
    "--format=%x01%H %P",
    "--",
)


@attrs.frozen
class Growth:
    """The commits that changed a log that has only grown, oldest first.

    Attributes:
        parents: Of each commit, its parents among these commits.
        blobs: The id of each one's log.
        sizes: How long each one's log is, in bytes.
    """

    parents: dict[str, list[str]]
    blobs: dict[str, str]
    sizes: dict[str, int]

    @property
    def head(self) -> str:
        """The newest commit."""
        return next(reversed(self.parents))

    @property
    def size(self) -> int:
        """How long the newest commit's log is, in bytes."""
        return self.sizes[self.head]

    def bringers(self, log: bytes, ends: Iterable[int]) -> dict[int, str]:
        """Return the commits that brought lines, by the ends of these; those that are certain.

        A commit is certain if its log and that of its only parent are beginnings of today's, and
        the line ends between the ends of the two.

        Args:
            log: Today's log.
            ends: Where the lines end in it, in bytes.
        """
        proven: dict[str, bool] = {}
        found = {}
        for end in ends:
            commit = self._reached(end) if end <= self.size else ""
            parents = self.parents.get(commit, ())
            if commit and len(parents) < 2:
                for each in (commit, *parents):
                    if each not in proven:
                        proven[each] = self._begins(log, each)
                if all(proven[each] for each in (commit, *parents)):
                    found[end] = commit
        return found

    def _begins(self, log: bytes, commit: str) -> bool:
        """Say whether today's log begins with that of a commit, by the id of its blob."""
        id, size = self.blobs[commit], self.sizes[commit]
        digest = hashlib.sha256() if len(id) == 64 else hashlib.sha1(usedforsecurity=False)
        digest.update(b"blob %d\0" % size)
        digest.update(memoryview(log)[:size])
        return digest.hexdigest() == id

    def suspects(self, ends: Iterable[int]) -> set[str] | None:
        """Return the commits that can have brought lines; None if they are many.

        Args:
            ends: Where the lines end in the newest log, in bytes.
        """
        wanted = {self._reached(end) for end in ends if end <= self.size}
        for commit in list(wanted):
            first, *others = self.parents[commit] or [""]
            if others:
                # What a merge has from its other parents may stand at another place there.
                wanted |= self._before(others) - self._before([first])
        return None if len(wanted) > _MANY else wanted

    def in_order(self, commits: Container[str]) -> list[str]:
        """Return some commits, the newest first."""
        return [commit for commit in reversed(self.parents) if commit in commits]

    def _reached(self, end: int) -> str:
        """Return the oldest commit, back from the newest, whose log is so long."""
        commit = self.head
        while True:
            for parent in self.parents[commit]:
                if self.sizes[parent] >= end:
                    commit = parent
                    break
            else:
                return commit

    def _before(self, commits: Iterable[str]) -> set[str]:
        """Return these commits and all before them."""
        found: set[str] = set()
        open_ = list(commits)
        while open_:
            commit = open_.pop()
            if commit and commit not in found:
                found.add(commit)
                open_ += self.parents[commit]
        return found


def growth_of(repository: Repository, name: str) -> Growth | None:
    """Return how a log has grown; None if it is small, or has not only grown.

    Args:
        repository: The repository, which has commits.
        name: The log's name in it.

    Raises:
        GitError: Git refused.
    """
    parents: dict[str, list[str]] = {}
    blobs: dict[str, str] = {}
    commit = ""
    for line in repository.git.lines(*_CALL, name):
        if line.startswith(b"\x01"):
            commit, *above = line[1:].decode().split()
            parents[commit] = above
        elif line.startswith(b":"):
            facts = line.split(b"\t")[0].decode().split()
            blobs[commit] = facts[-2]
    sizes = _sizes(repository, blobs)
    if sizes is None or sizes.keys() != parents.keys() or sum(sizes.values()) <= _SMALL:
        return None
    for commit, above in parents.items():
        if any(sizes.get(parent, 0) > sizes[commit] for parent in above):
            return None
    return Growth(parents, blobs, sizes)


def _sizes(repository: Repository, blobs: dict[str, str]) -> dict[str, int] | None:
    """Return the length of each commit's blob; None if one is missing."""
    call = ("cat-file", "--batch-check=%(objectsize)")
    answer = repository.git.run(*call, stdin="".join(f"{id}\n" for id in blobs.values()).encode())
    words = answer.text.split("\n") if blobs else []
    if len(words) != len(blobs) or not all(word.isdecimal() for word in words):
        return None
    return dict(zip(blobs, map(int, words), strict=True))
