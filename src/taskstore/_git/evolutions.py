"""The evolutions in the commits of a merge, which has lines of both sides."""

from __future__ import annotations

import os
import re
from pathlib import Path

from taskstore._evolution.decoding import COLLECTION
from taskstore._evolution.graph import Graph, graphs_of
from taskstore._evolution.shape import NO_SHAPE, Shape
from taskstore._git.repository import LOGS
from taskstore._git.run import LOG_BYTES, Git
from taskstore._log.evolutions import read_stated, stated_in
from taskstore._log.layout import Layout

_HEADS = ("HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "ORIG_HEAD")
_OF_MERGE = re.compile(r"GITHEAD_([0-9a-f]{40}|[0-9a-f]{64})")
_MANY = 200
_PREFIX = 7
_FOUND = re.compile(rb"[0-9a-f]+ blob ([0-9]+)")


def graphs_at_hand(git: Git, name: str, here: dict[str, bytes]) -> dict[str, Graph]:
    """Return the evolutions that are known here or in a commit that may be merged.

    While git merges, the work tree still has only our side's file.

    Args:
        git: Git in the repository.
        name: The file's path from the root of the work tree.
        here: The lines that are known here, by id. They take precedence.

    Raises:
        GitError: Git refused.
    """
    stated = dict(here)
    for data in _contents(git, name):
        stated = stated_in(data) | stated
    return graphs_of(sorted(stated.items()))[0]


def shape_of(git: Git, path: Path) -> Shape:
    """Return the newest shape of a log whose content git has written to a temporary file.

    Args:
        git: Git at the root of the work tree.
        path: The file. Its name is that of the log; older versions of git put six characters
            and an underscore before it.

    Raises:
        GitError: Git refused.
        StoreAccessError: Evolutions cannot be read.
    """
    logs = git.run("ls-files", "-z", "--", LOGS, literal=False).text.split("\0")
    folders = {os.path.dirname(name) for name in logs if name}
    names = {path.stem, path.stem[_PREFIX:] if path.stem[_PREFIX - 1 : _PREFIX] == "_" else ""}
    found: dict[str, Shape] = {}
    for folder in folders:
        here = read_stated(Layout(git.directory / folder))
        graphs = graphs_at_hand(git, f"{folder}/{COLLECTION}.jsonl", here)
        for name in names & graphs.keys():
            shape = Shape(graphs[name], graphs[name].whole)
            found[shape.signature] = shape
    # If two stores have such a collection, the right one is unknown.
    return found.popitem()[1] if len(found) == 1 else NO_SHAPE


def _contents(git: Git, name: str) -> list[bytes]:
    """Return the file from the heads, the commits of a running merge and the branches."""
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
