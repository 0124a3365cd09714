"""How a log has grown: find the commits that may have added a line, by lengths only.

Git takes a hundred times as long to compare two versions of a large log as to return their lengths.
If no commit has made the log shorter, the lengths say that all commits have only appended. Then the
position of a line's end shows which commit to read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable

import attrs

from taskstore._git.repository import Repository

_SMALL = 16 * 2**20
"""The total size of all versions of a log up to which all of them are read, in bytes."""

MANY = 100
"""The maximum number of commits to read one by one; if there are more, all are read."""

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
        parents: The parents of each commit, among these commits.
        blobs: The id of the log in each commit.
        sizes: The length of the log in each commit, in bytes.
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
        """The length of the log in the newest commit, in bytes."""
        return self.sizes[self.head]

    def bringers(self, log: bytes, ends: Iterable[int]) -> dict[int, str]:
        """Return the commits that certainly added lines, by the positions of the lines' ends.

        A commit is certain if today's log begins with its log and with that of its only parent,
        and the line ends between the ends of the two.

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

    def appended(self, log: bytes) -> dict[str, list[bytes]]:
        """Return the lines that commits certainly appended, by commit.

        It stops where too many are not certain.

        Args:
            log: Today's log.
        """
        proven: dict[str, bool] = {"": True}
        found: dict[str, list[bytes]] = {}
        for seen, (commit, parents) in enumerate(self.parents.items(), 1):
            proven[commit] = self._begins(log, commit)
            parent = parents[0] if parents else ""
            start = self.sizes.get(parent, 0)
            # A line that had no newline yet is another line since.
            is_whole = start == 0 or log[start - 1 : start] == b"\n"
            if len(parents) < 2 and is_whole and proven[commit] and proven.get(parent):
                lines = log[start : self.sizes[commit]].split(b"\n")
                found[commit] = lines if lines[-1] else lines[:-1]
            elif seen - len(found) > MANY:
                break
        return found

    def _begins(self, log: bytes, commit: str) -> bool:
        """Return whether today's log begins with that of a commit, by the id of its blob."""
        id, size = self.blobs[commit], self.sizes[commit]
        digest = hashlib.sha256() if len(id) == 64 else hashlib.sha1(usedforsecurity=False)
        digest.update(b"blob %d\0" % size)
        digest.update(memoryview(log)[:size])
        return digest.hexdigest() == id

    def suspects(self, ends: Iterable[int]) -> set[str] | None:
        """Return the commits that may have added lines; None if there are too many.

        Args:
            ends: Where the lines end in the newest log, in bytes.
        """
        wanted = {self._reached(end) for end in ends if end <= self.size}
        for commit in list(wanted):
            first, *others = self.parents[commit] or [""]
            if others:
                # Lines that a merge takes from its other parents may have another position there.
                wanted |= self._before(others) - self._before([first])
        return None if len(wanted) > MANY else wanted

    def in_order(self, commits: Container[str]) -> list[str]:
        """Return some commits, the newest first."""
        return [commit for commit in reversed(self.parents) if commit in commits]

    def _reached(self, end: int) -> str:
        """Return the oldest commit, back from the newest, whose log has this length."""
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
