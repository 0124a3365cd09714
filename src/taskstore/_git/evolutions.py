"""The evolutions that the commits at hand state: a merge has lines of both its sides."""

from __future__ import annotations

import os
import re

from taskstore._evolution.graph import Graph, graphs_of
from taskstore._git.run import LOG_BYTES, Git
from taskstore._log.evolutions import stated_in

_HEADS = ("HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "ORIG_HEAD")
_OF_MERGE = re.compile(r"GITHEAD_([0-9a-f]{40}|[0-9a-f]{64})")
_MANY = 200
_FOUND = re.compile(rb"[0-9a-f]+ blob ([0-9]+)")


def graphs_at_hand(git: Git, name: str, here: dict[str, bytes]) -> dict[str, Graph]:
    """Return the evolutions that are known here or in a commit that may be merged.

    While git merges, the work tree still has our side's file alone.

    Args:
        git: Git in the repository.
        name: The file's path from the root of the work tree.
        here: The lines that are known here, by id; they have the first word.

    Raises:
        GitError: Git refused.
    """
    stated = dict(here)
    for data in _contents(git, name):
        stated = stated_in(data) | stated
    return graphs_of(sorted(stated.items()))[0]


def _contents(git: Git, name: str) -> list[bytes]:
    """Return the file as the heads, the commits of a running merge and the branches have it."""
    if "\n" in name:
        return []
    merged = [found[1] for key in os.environ if (found := _OF_MERGE.fullmatch(key))]
    branches = git.run(
        "for-each-ref",
        f"--count={_MANY}",
        "--sort=-committerdate",
        "--format=%(objectname)",
        "refs/heads",
        "refs/remotes",
    ).text.split()
    commits = dict.fromkeys([*merged, *_HEADS, *branches])
    asked = "".join(f"{commit}:{name}\n" for commit in commits).encode()
    return _blobs(git.run("cat-file", "--batch", stdin=asked, limit=LOG_BYTES).data)


def _blobs(answer: bytes) -> list[bytes]:
    """Return the different blobs in the answer of `git cat-file --batch`."""
    blobs: dict[bytes, None] = {}
    place = 0
    while place < len(answer):
        head, _, _ = answer[place:].partition(b"\n")
        place += len(head) + 1
        if found := _FOUND.fullmatch(head):
            size = int(found[1])
            blobs.setdefault(answer[place : place + size])
            place += size + 1
    return list(blobs)
