"""Merge logs by record that a merge of git has left in conflict.

Git calls the merge driver in every merge, except for an octopus (a merge of several branches at
once). There it merges by line, leaves conflict markers, and keeps the three versions in the index.
The same happens if a driver could not run. Git also does not call the driver for a log that one
side deleted and the other changed. It leaves the changed log, and a person can only choose between
all of it and nothing.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import attrs

from taskstore._evolution.decoding import COLLECTION
from taskstore._format.lines import LineError, stand_in
from taskstore._git import files, objects
from taskstore._git.evolutions import graphs_at_hand
from taskstore._git.objects import Unmerged
from taskstore._git.repository import Repository
from taskstore._log.evolutions import read_stated
from taskstore._log.files import open_log
from taskstore._log.layout import Layout
from taskstore._log.lines import read_bytes, whole_lines
from taskstore._log.locks import directory_lock
from taskstore._merge.logs import read_log
from taskstore._merge.policies import parse_policies
from taskstore._merge.report import lines_of
from taskstore._merge.three_way import Merged, merge_logs
from taskstore.errors import ConfigError, UnknownRevisionError


@attrs.frozen
class Conflict:
    """A log that git has in conflict.

    Attributes:
        path: The log.
        name: Its name in the repository.
        is_deleted: Whether one side deleted it and the other changed it.
        is_open: Whether nobody has started to resolve it, so that `resolve` merges it.
    """

    path: Path
    name: str
    is_deleted: bool
    is_open: bool


@attrs.frozen
class Resolved:
    """A log after its merge.

    Attributes:
        name: Its name in the repository.
        is_left: Whether a person has something to decide; otherwise it is staged.
        lines: The messages of the merge.
    """

    name: str
    is_left: bool
    lines: list[str]


def conflicts(repository: Repository) -> list[Conflict]:
    """Return the logs of a repository that are in conflict.

    Raises:
        GitError: Git refused.
        OSError: A file cannot be read.
    """
    return [
        Conflict(repository.top / log.name, log.name, log.is_deleted, _is_open(repository, log))
        for log in objects.unmerged(repository)
    ]


def _is_open(repository: Repository, log: Unmerged) -> bool:
    path = repository.top / log.name
    try:
        return _is_gone(log, path) or _merged(repository, log, path) is not None
    except (ConfigError, UnknownRevisionError):
        return True  # a finding of its own, and then it can be merged


def _is_gone(log: Unmerged, path: Path) -> bool:
    """Say whether both sides have renamed a log."""
    return log.ours is None and log.theirs is None and not path.exists()


def resolve(repository: Repository, *, lock_timeout: float = 30.0) -> list[Resolved]:
    """Merge the logs of a repository that are in conflict, and stage those without open decisions.

    Lines that were appended since then are kept. A log that has been changed in another way is left
    alone, because a person has started to resolve it.

    Args:
        repository: The repository.
        lock_timeout: How long to wait for another writer, in seconds.

    Raises:
        GitError: Git refused.
        ConfigError: The merge policies of a store cannot be used.
        UnknownRevisionError: No available commit states the revision of a line.
        OSError: A file cannot be read or written.
    """
    done = []
    for log in objects.unmerged(repository):
        merged = _write(repository, log, lock_timeout)
        if merged is None:
            continue
        if not merged.is_left:
            # A log without lines is removed, as on the side that deleted it.
            call = ("rm", "--cached", "-q") if log.is_deleted and not merged.data else ("add",)
            repository.git.run(*call, "--", log.name)
        done.append(Resolved(log.name, merged.is_left, lines_of(merged)))
    return done


def _write(repository: Repository, log: Unmerged, lock_timeout: float) -> Merged | None:
    path = repository.top / log.name
    if _is_gone(log, path):
        return Merged(b"")
    lock = directory_lock(Layout(path.parent))
    try:
        with lock.hold(lock_timeout):
            merged = _merged(repository, log, path)
            if merged is None:
                return None
            if log.is_deleted and not merged.data:
                files.remove(path)
            else:
                files.write(path, merged.data)
    finally:
        lock.close()
    return merged


def _merged(repository: Repository, log: Unmerged, path: Path) -> Merged | None:
    there = _read(path)
    if there is None:
        return None
    base, ours, theirs = (
        b"" if id is None else objects.blob(repository, id, log.name)
        for id in (log.base, log.ours, log.theirs)
    )
    if any(stand_in(side) is not None for side in (base, ours, theirs)):
        return None  # not logs
    config = Layout(path.parent).config_path
    if os.path.lexists(config):
        text = Layout(path.parent).read_config()
    else:  # it may not be checked out, as in a sparse checkout
        data = repository.git.tracked(repository.name_of(config))
        text = (data or b"").decode(errors="replace")
    policies = parse_policies(text, str(config))
    stated = read_stated(Layout(path.parent))
    name = repository.name_of(Layout(path.parent).log_path(COLLECTION))
    graph = graphs_at_hand(repository.git, name, stated).get(path.stem)
    merged = merge_logs(base, ours, theirs, policies.of(path.stem, graph), graph)
    lines, done = _lines(there), _lines(merged.data)
    if log.is_deleted:
        left = _lines(ours or theirs)
        known = [left, done]  # what is merged may be how the other begins
    else:
        left = _lines(objects.line_merge(repository, ours, base, theirs))
        known = [done, left]
    found = next((begin for begin in known if lines[: len(begin)] == begin), None)
    if found is None or (found is done and merged.is_left):
        return None  # a person has begun to decide, or it is merged as far as it goes
    appended = lines[len(found) :]
    return attrs.evolve(merged, data=merged.data + b"".join([b"%b\n" % raw for raw in appended]))


def _read(path: Path) -> bytes | None:
    """Return a log; None if a person has to decide: it is not a file, or a line is too long."""
    try:
        fd = open_log(path)
    except FileNotFoundError:
        return b""
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EINVAL):
            return None  # a link, or no regular file
        raise
    try:
        return whole_lines(read_bytes(fd, 0, None))
    except LineError:
        return None
    finally:
        os.close(fd)


def _lines(data: bytes) -> list[bytes]:
    """Return the lines of a file, without the names behind markers."""
    return [line.raw[:7] if line.is_marker else line.raw for line in read_log(data, {}).lines]
