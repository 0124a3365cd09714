"""Every version of a record: those in its log, and those that only git's history has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from taskstore._format.lines import LineError, decode_key
from taskstore._git import files as git_files
from taskstore._git.repository import Repository
from taskstore._log import files
from taskstore._log.lines import read_lines

_MARK = b"\x01"  # no line of a diff begins with it


@attrs.frozen
class Commit:
    """A commit.

    Attributes:
        id: Its full id.
        author: Who made it.
        time: When, in RFC 3339.
        subject: The first line of its message.
        is_boundary: Whether a shallow clone ends here: it, or an earlier one, is meant.
    """

    id: str
    author: str
    time: str
    subject: str
    is_boundary: bool = False


@attrs.frozen
class Version:
    """A line of a record's history.

    Attributes:
        raw: The line, without its end.
        updated_at: The version as the line has it.
        order_us: The same in microseconds since the epoch, by which a replay orders.
        deleted: Whether it is a tombstone.
        line: Its number in the log, from 1; None if the log does not have it any more.
        commit: The commit that brought it; None where git knows of none.
        before: The line that it changed: the newest one that its commit could know.
    """

    raw: bytes
    updated_at: int | str | None
    order_us: int
    deleted: bool
    line: int | None
    commit: Commit | None
    before: bytes | None = None


def versions(log: Path, id: str, repository: Repository | None) -> list[Version]:
    """Return every version of a record, in the order of a replay: the last in the log counts.

    Args:
        log: The log, which need not be there.
        id: The record.
        repository: Where the log is tracked, if it is.

    Raises:
        GitError: Git refused.
        OSError: The log cannot be read.
    """
    past = _Past({}, {})
    if repository is not None:
        past = _read_past(repository, repository.name_of(log), id)
    # The last place of a line in the log is the one that a replay takes.
    numbers = {raw: number for number, raw in _lines(log) if _may_be(raw, id)}
    found = []
    for raw in {**past.commits, **numbers}:
        try:
            key = decode_key(raw)
        except LineError:
            continue
        if key[0] == id:
            _, order_us, deleted, updated_at, _ = key
            line, commit = numbers.get(raw), past.commits.get(raw)
            found.append(Version(raw, updated_at, order_us, deleted, line, commit))
    # Of equal times, what is gone from the log came before what is in it.
    found.sort(key=lambda version: (version.order_us, version.line or 0))
    return [
        attrs.evolve(version, before=_before(version, found[:n], past))
        for n, version in enumerate(found)
    ]


@attrs.frozen
class _Past:
    """What git's history has of a record.

    Attributes:
        commits: The first commit that brought each line.
        known: For each commit, those at or before it that brought a line.
    """

    commits: dict[bytes, Commit]
    known: dict[str, frozenset[str]]


def _read_past(repository: Repository, name: str, id: str) -> _Past:
    past = _Past({}, {})
    for commit, parents, raw in _added_lines(repository, name):
        if raw is None:
            before = [past.known.get(parent, frozenset()) for parent in parents]
            past.known[commit.id] = frozenset().union(*before)
        elif _may_be(raw, id) and raw.removesuffix(b"\r") not in past.commits:
            past.commits[raw.removesuffix(b"\r")] = commit
            past.known[commit.id] |= {commit.id}
    return past


def _before(version: Version, earlier: list[Version], past: _Past) -> bytes | None:
    """Return the newest of the versions before one that whoever made it could see."""
    known = None if version.commit is None else past.known[version.commit.id]
    for other in reversed(earlier):
        is_known = other.commit is not None and (known is None or other.commit.id in known)
        if is_known or version.commit is None:
            return other.raw
    return None


def _may_be(raw: bytes, id: str) -> bool:
    return id.encode() in raw or b"\\" in raw


def _lines(log: Path) -> Iterator[tuple[int, bytes]]:
    try:
        fd = files.open_log(log)
    except FileNotFoundError:
        return
    try:
        for line in read_lines(fd):
            if line.raw is not None:
                yield line.number, line.raw.removesuffix(b"\r")
    finally:
        os.close(fd)


def _added_lines(
    repository: Repository, name: str
) -> Iterator[tuple[Commit, list[str], bytes | None]]:
    """Yield the commits that touched a file, oldest first, and after each the lines it added.

    With each come its parents among these commits; first without a line, then with each line.
    """
    if not repository.has_commits():
        return
    boundaries = _boundaries(repository)
    commit: Commit | None = None
    parents: list[str] = []
    columns = 0
    for line in repository.git.lines(*_CALL, name):
        if line.startswith(_MARK):
            commit, parents = _commit(line, boundaries)
            columns = 0
            yield commit, parents, None
        elif line.startswith(b"@@"):
            # A merge has a column for each parent; what it brought itself is new in all.
            columns = len(line) - len(line.lstrip(b"@")) - 1
        elif columns and line.startswith(b"+" * columns) and commit is not None:
            yield commit, parents, line[columns:]


_CALL = (
    "log",
    "--reverse",
    "--topo-order",
    "--patch",
    "-c",
    "--unified=0",
    "--text",
    "--no-textconv",
    "--no-ext-diff",
    "--no-color",
    "--no-renames",
    "--no-show-signature",
    "--parents",
    "--format=%x01%H%x00%P%x00%an%x00%aI%x00%s",
    "--",
)


def _commit(line: bytes, boundaries: set[str]) -> tuple[Commit, list[str]]:
    id, parents, author, time, subject = line[1:].decode(errors="replace").split("\0", 4)
    return Commit(id, author, time, subject, id in boundaries), parents.split()


def _boundaries(repository: Repository) -> set[str]:
    """Return the commits at which a shallow clone ends."""
    data = git_files.peek(repository.common_dir / "shallow") or b""
    return set(data.decode(errors="replace").split())
