"""Every version of a record: those in its log, and those that only git's history has."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from taskstore._format.lines import LineError, decode_key, may_be_of
from taskstore._git import files as git_files
from taskstore._git.growth import MANY, growth_of
from taskstore._git.repository import Repository
from taskstore._log import files
from taskstore._log.files import access
from taskstore._log.lines import Line, read_lines

_MARK = b"\x01"  # no line of a diff begins with it


@attrs.frozen
class Commit:
    """A commit.

    Attributes:
        id: Its full id.
        author: Its author.
        time: Its time, in RFC 3339.
        subject: The first line of its message.
        is_boundary: Whether a shallow clone ends here. If so, it or an older commit is meant.
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
        order_us: The same in microseconds since the epoch, for the order of a replay.
        deleted: Whether it is a tombstone.
        line: Its number in the log, from 1; None if it is no longer in the log.
        commit: The commit that added it; None if git has no such commit.
        before: The line that it changed: the newest one that its commit could have seen.
        sources: The positions of the versions that it was made from: the one before it in the
            same commit, or the newest one of each parent of its commit.
    """

    raw: bytes
    updated_at: int | str | None
    order_us: int
    deleted: bool
    line: int | None
    commit: Commit | None
    before: bytes | None = None
    sources: tuple[int, ...] = ()


def versions(
    log: Path, id: str, repository: Repository | None, *, quick: bool = False
) -> list[Version]:
    """Return every version of a record, in the order of a replay: the last in the log counts.

    Args:
        log: The log. It may be missing.
        id: The record.
        repository: Where the log is tracked, if it is.
        quick: Whether to skip commits that have only made the log longer, if none has made it
            shorter. Then a line that such a commit removed is not found.

    Raises:
        GitError: Git refused.
        StoreAccessError: The log cannot be read.
    """
    # If a line is in the log twice, a replay uses the last one.
    here = {line.raw.removesuffix(b"\r"): line for line in _lines(log, id) if line.raw is not None}
    numbers = {raw: line.number for raw, line in here.items()}
    past = _Past()
    if repository is not None and repository.has_commits():
        name = repository.name_of(log)
        ends = {raw: line.end for raw, line in here.items()}
        found_past = _read_quickly(repository, name, log, ends) if quick else None
        past = found_past or _read_past(repository, name, id)
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
    # Among equal times, lines that are no longer in the log come first.
    found.sort(key=lambda version: (version.order_us, version.line or 0))
    return [
        attrs.evolve(
            version,
            before=_before(version, found[:n], past),
            sources=_sources(version, found[:n], past),
        )
        for n, version in enumerate(found)
    ]


@attrs.frozen
class _Past:
    """The lines of a record in git's history.

    Attributes:
        commits: The first commit that added each line.
        known: For each commit, the commits at or before it that first added one of its lines.
        parents: The parents of each commit, among those that changed the log.
    """

    commits: dict[bytes, Commit] = attrs.field(factory=dict)
    known: dict[str, frozenset[str]] = attrs.field(factory=dict)
    parents: dict[str, list[str]] = attrs.field(factory=dict)

    def begin(self, commit: str, parents: list[str]) -> None:
        """Add a commit, after its parents."""
        before = [self.known.get(parent, frozenset()) for parent in parents]
        self.known[commit] = before[0] if len(before) == 1 else frozenset().union(*before)
        self.parents[commit] = parents

    def bring(self, commit: Commit, raw: bytes) -> None:
        """Add a line to the commit that was begun last."""
        self.known[commit.id] |= {self.commits.setdefault(raw, commit).id}


def _read_past(repository: Repository, name: str, id: str) -> _Past:
    past = _Past()
    for commit, parents, raw in added_lines(repository, name):
        if raw is None:
            past.begin(commit.id, parents)
        elif may_be_of(raw, id):
            past.bring(commit, raw.removesuffix(b"\r"))
    return past


def _read_quickly(
    repository: Repository, name: str, log: Path, ends: Mapping[bytes, int]
) -> _Past | None:
    """Return the history of some lines of today's log; None if all commits have to be read.

    Args:
        repository: The repository.
        name: The log's name in it.
        log: The log.
        ends: Where each line ends in it, in bytes.
    """
    growth = growth_of(repository, name)
    if growth is None:
        return None
    committed = {end for end in ends.values() if end <= growth.size}
    certain = growth.bringers(git_files.read_log(log) or b"", committed)
    others = growth.suspects(committed - certain.keys())
    if others is None:
        return None
    brought: dict[str, dict[bytes, None]] = {}
    commits: dict[str, Commit] = {}
    for commit, _, raw in _commits(repository, name, growth.in_order(others), patch=True):
        commits[commit.id] = commit
        if raw is not None and (raw := raw.removesuffix(b"\r")) in ends:
            brought.setdefault(commit.id, {})[raw] = None
    more = growth.in_order(set(certain.values()) - others)
    commits |= {one.id: one for one, _, _ in _commits(repository, name, more, patch=False)}
    for raw, end in ends.items():
        if end in certain:
            brought.setdefault(certain[end], {})[raw] = None
    past = _Past()
    for id, parents in growth.parents.items():
        past.begin(id, parents)
        for raw in brought.get(id, ()):
            past.bring(commits[id], raw)
    is_whole = all(end > growth.size or raw in past.commits for raw, end in ends.items())
    return past if is_whole else None


def _sources(version: Version, earlier: list[Version], past: _Past) -> tuple[int, ...]:
    """Return the positions of the versions that a version was made from."""
    last = len(earlier) - 1
    commit = version.commit
    if commit is None:
        return (last,) if earlier else ()
    by_commit = [None if other.commit is None else other.commit.id for other in earlier]
    for n in range(last, -1, -1):
        if by_commit[n] == commit.id:
            return (n,)
    found: dict[int, None] = {}
    for parent in past.parents.get(commit.id, ()):
        known = past.known.get(parent, frozenset())
        newest = next((n for n in range(last, -1, -1) if by_commit[n] in known), None)
        if newest is not None:
            found[newest] = None
    return tuple(found)


def _before(version: Version, earlier: list[Version], past: _Past) -> bytes | None:
    """Return the newest earlier version that the author of a version could see."""
    known = None if version.commit is None else past.known[version.commit.id]
    for other in reversed(earlier):
        is_known = other.commit is not None and (known is None or other.commit.id in known)
        if is_known or version.commit is None:
            return other.raw
    return None


def _is_of(raw: bytes, id: str) -> bool:
    try:
        return may_be_of(raw, id) and decode_key(raw)[0] == id
    except LineError:
        return False


def _lines(log: Path, id: str) -> Iterator[Line]:
    """Yield the lines of a log that are versions of a record."""
    with access(log):
        try:
            fd = files.open_log(log)
        except FileNotFoundError:
            return
        try:
            for line in read_lines(fd):
                if line.raw is not None and _is_of(line.raw, id):
                    yield line
        finally:
            os.close(fd)


def added_lines(
    repository: Repository, name: str, *, since: str = ""
) -> Iterator[tuple[Commit, list[str], bytes | None]]:
    """Yield the commits that touched a file, oldest first, and after each the lines it added.

    Each item has the parents among these commits. The first item of a commit has no line.

    Args:
        repository: The repository, which has commits.
        name: The file's name in it.
        since: The id of a commit that was read already, with all before it; "" for none.
    """
    within = (f"{since}..HEAD",) if since else ()
    return _parsed(repository, ("--topo-order", *_CALL, *_PATCH, *within, "--", name))


def appended_lines(
    repository: Repository, name: str, log: Path
) -> Iterator[tuple[Commit, list[str], bytes | None]] | None:
    """Return what `added_lines` yields, from the log in the work tree; None if that is not enough.

    Git compares whole logs for each commit. Where commits have only appended, their lines are those
    between two lengths, and the ids of the blobs prove it.

    Args:
        repository: The repository, which has commits.
        name: The log's name in it.
        log: The log.
    """
    growth = growth_of(repository, name)
    if growth is None:
        return None
    data = git_files.read_log(log) or b""
    lines = growth.appended(data)
    others = growth.parents.keys() - lines.keys()
    if len(others) > MANY:
        return None
    for commit, _, raw in _commits(repository, name, growth.in_order(others), patch=True):
        found = lines.setdefault(commit.id, [])
        if raw is not None:
            found.append(raw)
    return _with_lines(repository, name, lines)


def _with_lines(
    repository: Repository, name: str, lines: Mapping[str, list[bytes]]
) -> Iterator[tuple[Commit, list[str], bytes | None]]:
    call = ("--topo-order", *_CALL, "--no-patch", "--", name)
    for commit, parents, _ in _parsed(repository, call):
        yield commit, parents, None
        for raw in lines.get(commit.id, ()):
            yield commit, parents, raw


def _commits(
    repository: Repository, name: str, ids: Sequence[str], *, patch: bool
) -> Iterator[tuple[Commit, list[str], bytes | None]]:
    """Yield some commits in reverse order, and after each the lines that it added if `patch`.

    Do not rely on the parents in these items.
    """
    if not ids:
        return iter(())
    more = _PATCH if patch else ("--no-patch",)
    return _parsed(repository, ("--no-walk=unsorted", *_CALL, *more, *ids, "--", name))


def _parsed(
    repository: Repository, call: Sequence[str]
) -> Iterator[tuple[Commit, list[str], bytes | None]]:
    boundaries = _boundaries(repository)
    commit: Commit | None = None
    parents: list[str] = []
    sides: list[dict[bytes, None]] = []
    is_in_hunk = False
    for line in repository.git.lines("log", *call):
        if line.startswith(_MARK):
            found, above = _commit(line, boundaries)
            is_in_hunk = False
            if commit is None or found.id != commit.id:
                if commit is not None:
                    yield from ((commit, parents, raw) for raw in _in_all(sides))
                commit, parents, sides = found, above, []
                yield commit, parents, None
            if len(parents) > 1:
                sides.append({})
        elif line.startswith(b"@@"):
            is_in_hunk = True
        elif is_in_hunk and line.startswith(b"+") and commit is not None:
            if sides:
                sides[-1][line[1:]] = None
            else:
                yield commit, parents, line[1:]
    if commit is not None:
        yield from ((commit, parents, raw) for raw in _in_all(sides))


def _in_all(sides: Sequence[dict[bytes, None]]) -> list[bytes]:
    """Return the lines that a merge itself added: they are new against each of its parents."""
    first, others = sides[:1], sides[1:]
    return [raw for side in first for raw in side if all(raw in other for other in others)]


_CALL = (
    "--reverse",
    "--no-color",
    "--no-show-signature",
    "--parents",
    "--format=%x01%H%x00%P%x00%an%x00%aI%x00%s",
)
# A merge is compared with each parent in turn. Git's combined diff would say "Binary files differ"
# for a log with NUL bytes, or with the attribute `-diff`, in spite of `--text`.
_PATCH = (
    "--patch",
    "-m",
    "--unified=0",
    "--text",
    "--no-textconv",
    "--no-ext-diff",
    "--no-renames",
)


def _commit(line: bytes, boundaries: set[str]) -> tuple[Commit, list[str]]:
    id, parents, author, time, subject = line[1:].decode(errors="replace").split("\0", 4)
    return Commit(id, author, time, subject, id in boundaries), parents.split()


def _boundaries(repository: Repository) -> set[str]:
    """Return the commits at which a shallow clone ends."""
    data = git_files.peek(repository.common_dir / "shallow") or b""
    return set(data.decode(errors="replace").split())
