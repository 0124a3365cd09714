"""Read logs from git: from commits, the index and a running merge."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from taskstore._format.names import check_collection_name
from taskstore._git import files
from taskstore._git.repository import LOGS, Repository
from taskstore._git.run import LOG_BYTES, refused
from taskstore.errors import GitObjectMissingError, InvalidNameError

_EMPTY_TREES = (
    "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
)
"""The ids of a tree without files, with SHA-1 and SHA-256."""


@attrs.frozen
class Unmerged:
    """A log that a merge has left in conflict, with the blobs of its versions.

    Attributes:
        name: Its name in the repository.
        base: The blob of the common ancestor; None if it has none.
        ours: The blob of our side.
        theirs: The blob of their side.
    """

    name: str
    base: str | None
    ours: str | None
    theirs: str | None

    @property
    def is_deleted(self) -> bool:
        """Whether one side has deleted it since the ancestor."""
        return self.base is not None and (self.ours is None or self.theirs is None)


def is_log(name: str) -> bool:
    """Return whether a file in a store directory can be a log, by its name."""
    stem, suffix = os.path.splitext(os.path.basename(name))
    try:
        check_collection_name(stem)
    except InvalidNameError:
        return False
    return suffix == ".jsonl"


def blob(repository: Repository, id: str, name: str) -> bytes:
    """Return the content of a blob as it would be checked out under a name.

    Raises:
        GitObjectMissingError: This clone does not have it.
        GitError: It is larger than a log may be, or a git command failed.
    """
    repository.check_way((repository.top / name).parent)
    # Filters undo what they did when the file was added, for example decrypt it.
    call = ("cat-file", "--filters", f"--path={name}", id)
    answer = repository.git.ask(*call, limit=LOG_BYTES)
    if answer.status != 0:
        if repository.git.ask("cat-file", "-e", id).status != 0:
            raise GitObjectMissingError(id, name, status=answer.status)
        raise refused(call, answer)
    return answer.data


def logs_at(repository: Repository, revision: str, directory: Path) -> dict[str, str]:
    """Return the blobs of a store's logs in a commit, by collection.

    Raises:
        CommitNotFoundError: There is no such commit.
        GitObjectMissingError: This clone does not have its directories.
    """
    folder = repository.name_of(directory)
    found: dict[str, str] = {}
    tree = tree_or_empty(repository, revision)
    call = ("ls-tree", "-z", tree, "--", f"{folder}/")
    answer = repository.git.ask(*call)
    if answer.status != 0:
        if "not a tree" in answer.message or "Not a valid" in answer.message:
            raise GitObjectMissingError(f"{tree}^{{tree}}", folder, status=answer.status)
        raise refused(call, answer)
    for entry in answer.fields:
        facts, _, name = entry.partition("\t")
        mode, _, id = facts.split(" ")
        if stat.S_ISREG(int(mode, 8)) and is_log(name):
            found[os.path.basename(name).removesuffix(".jsonl")] = id
    return found


def logs_differ(repository: Repository, first: str, second: str) -> bool:
    """Return whether any log of any store differs between two commits, or one is not a commit."""
    call = ("diff-tree", "-r", "--quiet", "--no-renames", first, second, "--", LOGS)
    return repository.git.ask(*call, literal=False).status != 0


def tree_or_empty(repository: Repository, revision: str) -> str:
    """Return the id of a commit; for HEAD of a repository without commits, of an empty tree."""
    if revision == "HEAD" and not repository.has_commits():
        return repository.empty_tree()
    if revision in _EMPTY_TREES:
        return revision
    return repository.revision(revision)


def unmerged(repository: Repository) -> list[Unmerged]:
    """Return the logs that a merge, a rebase or a similar command has left in conflict."""
    stages: dict[str, dict[str, str]] = {}
    call = ("ls-files", "-u", "-z", "--", LOGS)
    for entry in repository.git.run(*call, literal=False).fields:
        facts, _, name = entry.partition("\t")
        _, id, stage = facts.split(" ")
        if is_log(name):
            stages.setdefault(name, {})[stage] = id
    return [
        Unmerged(name, found.get("1"), found.get("2"), found.get("3"))
        for name, found in sorted(stages.items())
    ]


def line_merge(repository: Repository, ours: bytes, base: bytes, theirs: bytes) -> bytes:
    """Return git's line merge of three versions, with conflict markers.

    Raises:
        GitError: They cannot be merged by lines.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for name, data in (("ours", ours), ("base", base), ("theirs", theirs)):
            path = Path(folder, name)
            path.write_bytes(data)
            names.append(str(path))
        call = ("merge-file", "-p", "-q", *names)
        answer = repository.git.ask(*call, limit=3 * LOG_BYTES)
        # The exit status is the number of conflicts.
        if not 0 <= answer.status < 128:
            raise refused(call, answer)
        return answer.data


def parents_to_be(repository: Repository) -> list[str]:
    """Return the ids of the parents of the next commit."""
    parents = [repository.revision("HEAD")] if repository.has_commits() else []
    merging = repository.git_dir / "MERGE_HEAD"
    return parents + (files.peek(merging) or b"").decode(errors="replace").split()


def read_sides(
    repository: Repository, directory: Path, revisions: Sequence[str]
) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield the logs of a store that differ between two states, each with both contents.

    Args:
        repository: The repository.
        directory: The store directory.
        revisions: One commit, or two; also `A..B`, or `A...B` for the changes of B since it
            branched off A. Without a second one, it is the work tree; without a first one, HEAD.

    Raises:
        GitError: There is no such commit.
        OSError: A log cannot be read.
    """
    first, second = _ends(repository, revisions)
    before = logs_at(repository, first, directory)
    after = None if second is None else logs_at(repository, second, directory)
    names = before.keys() | (_logs_here(directory) if after is None else after.keys())
    for name in sorted(names):
        path = directory / f"{name}.jsonl"
        old, new = before.get(name), None if after is None else after.get(name)
        if after is not None and old == new:
            continue
        git_name = repository.name_of(directory) + f"/{name}.jsonl"
        data = (
            (files.read_log(path) or b"") if after is None else _content(repository, new, git_name)
        )
        yield name, _content(repository, old, git_name), data


def _ends(repository: Repository, revisions: Sequence[str]) -> tuple[str, str | None]:
    if len(revisions) == 1 and ".." in revisions[0]:
        first, dots, second = re.split(r"(\.{2,3})", revisions[0], maxsplit=1)
        ends = [first or "HEAD", second or "HEAD"]
        if dots == "...":
            ids = [repository.revision(end) for end in ends]
            ends[0] = repository.git.run("merge-base", *ids).text
        return ends[0], ends[1]
    first, second = [*revisions, None, None][:2]
    return first or "HEAD", second


def _content(repository: Repository, id: str | None, name: str) -> bytes:
    return b"" if id is None else blob(repository, id, name)


def _logs_here(directory: Path) -> set[str]:
    return {path.stem for path in directory.glob("*.jsonl") if is_log(path.name) and _is_file(path)}


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)
