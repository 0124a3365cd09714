"""Logs that git has, but that are missing in the work tree or replaced there.

A sparse checkout can leave out a store. If somebody then creates a store at the same place, it is a
second, empty store, and a later commit would replace the first one with it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from taskstore._format.lines import LineError, decode_key
from taskstore._git import files
from taskstore._git.objects import blob, is_log
from taskstore._git.repository import Repository
from taskstore._git.run import shown

_BOM = b"\xef\xbb\xbf"


@attrs.frozen
class Absent:
    """A tracked log that is not in the work tree.

    Attributes:
        name: Its name in the repository.
        is_left_out: Whether git leaves it out, as in a sparse checkout. If not, it was removed.
    """

    name: str
    is_left_out: bool


def absent_logs(repository: Repository, directory: Path) -> list[Absent]:
    """Return the tracked logs of a store that are not in the work tree.

    Raises:
        GitError: Git cannot be asked.
    """
    folder = repository.name_of(directory)
    found = []
    for entry in repository.git.run("ls-files", "-t", "-z", "--", f"{folder}/").fields:
        tag, name = entry[:1], entry[2:]
        is_ours = tag in ("H", "S") and is_log(name) and os.path.dirname(name) == folder
        if is_ours and not os.path.lexists(repository.top / name):
            found.append(Absent(name, tag == "S"))
    return found


def way_back(repository: Repository, directory: Path, logs: Iterable[Absent]) -> str:
    """Return the command that restores absent logs of a store."""
    git = "git" if Path.cwd() == repository.top else f"git -C {_quoted(repository.top)}"
    folder = _quoted(repository.name_of(directory))
    left_out = [_quoted(log.name) for log in logs if log.is_left_out]
    if not left_out:
        return f"{git} restore -- {folder}"
    if repository.setting("core.sparseCheckout") == "true":
        return f"{git} sparse-checkout add {folder}"
    shows = f"{git} update-index --no-skip-worktree -- {' '.join(left_out)}"
    return f"{shows} && {git} restore -- {folder}"


def replaced_logs(repository: Repository, directory: Path) -> list[tuple[str, int]]:
    """Return the logs in the work tree that replace logs of HEAD instead of continuing them.

    Returns:
        The name of each log, and how many records of HEAD's log it lacks.

    Raises:
        GitError: Git cannot be asked.
        OSError: A log cannot be read.
    """
    if not repository.has_commits():
        return []
    folder = repository.name_of(directory)
    call = ("diff-index", "--no-renames", "--diff-filter=M", "--name-only", "-z", "HEAD")
    found = []
    for name in repository.git.run(*call, "--", f"{folder}/").fields:
        if is_log(name) and os.path.dirname(name) == folder:
            id = repository.git.run("rev-parse", f"HEAD:{name}").text
            new = lines_of(files.read_log(repository.top / name) or b"")
            if lost := lost_records([lines_of(blob(repository, id, name))], new):
                found.append((name, lost))
    return found


def lost_records(before: Sequence[Sequence[bytes]], after: Sequence[bytes]) -> int:
    """Return how many records a log has lost because another log replaced it.

    A log that is used, merged, compacted or rewritten keeps lines, or at least most ids. If it has
    no line of any earlier version, and less than half the ids of the first one, it is another log.

    Args:
        before: The lines of the earlier versions. Records of the first one are counted.
        after: Its own lines. An empty log replaces nothing.
    """
    present = {line for line in after if line.strip()}
    if not present or any(not present.isdisjoint(lines) for lines in before):
        return 0
    known = _living(present)
    living = {id for id, is_living in _living(before[0]).items() if is_living}
    lost = len(living - known.keys())
    return lost if 2 * lost > len(living) else 0


def lines_of(data: bytes) -> list[bytes]:
    """Return the lines of a log without their line ends."""
    lines = data.removeprefix(_BOM).split(b"\n")
    return [line.removesuffix(b"\r") for line in lines] if b"\r" in data else lines


def _living(lines: Iterable[bytes]) -> dict[str, bool]:
    """Return for each id whether its newest line is a record, not a tombstone."""
    newest: dict[str, tuple[int, bool]] = {}
    for line in lines:
        try:
            id, order_us, is_deleted, _, _ = decode_key(line)
        except LineError:
            continue
        if id not in newest or newest[id][0] <= order_us:
            newest[id] = order_us, not is_deleted
    return {id: is_living for id, (_, is_living) in newest.items()}


def _quoted(name: str | Path) -> str:
    return shlex.quote(shown(name))
