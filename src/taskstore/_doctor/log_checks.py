"""Checks of the logs and their directory."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from taskstore._doctor.findings import ERROR, INFO, WARNING, Finding
from taskstore._evolution.graph import clashes
from taskstore._evolution.shape import NO_SHAPE, UNKNOWN
from taskstore._format.instants import format_rfc3339
from taskstore._format.lines import STAND_INS
from taskstore._format.names import EVOLUTIONS
from taskstore._format.problems import Problem
from taskstore._log import files
from taskstore._log.evolutions import newest_shapes, read_graphs, read_names
from taskstore._log.journal import (
    ForeignJournalError,
    JournalVersionError,
    is_live,
    read_journal,
)
from taskstore._log.layout import Layout
from taskstore._log.locks import Lock, directory_lock, file_lock
from taskstore._log.recovery import virtual_limits
from taskstore._log.replay import LogChangedError, replay
from taskstore.errors import LockTimeoutError, StoreAccessError

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|afpfs|ceph|glusterfs|lustre|ncpfs|davfs|webdav|"
    r"fuse\.(?:sshfs|s3fs|rclone|glusterfs|davfs2?|gcsfuse|gvfsd-fuse)"
)
_ESCAPED = re.compile(r"\\([0-7]{3})")


def network_file_system(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the network file system that a path is on; None for any other.

    Args:
        path: The path.
        mounts: The table of mounts on Linux; other systems have none.
    """
    try:
        rows = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    resolved = path.resolve()
    found: tuple[int, str] = (-1, "")
    for row in rows:
        before, _, after = row.partition(" - ")
        point = Path(_ESCAPED.sub(lambda code: chr(int(code[1], 8)), before.split(" ")[4]))
        # If two mounts have the same place, the later one counts.
        if resolved.is_relative_to(point) and len(point.parts) >= found[0]:
            found = len(point.parts), after.split(" ")[0]
    return found[1] if _NETWORK.fullmatch(found[1]) else None


_TABLE = Path("/proc/locks")


def holder(file: Path | int) -> str | None:
    """Return the process that has locked a file, as text; None if it is unknown.

    Args:
        file: Its path, or its descriptor.
    """
    try:
        inode = str(os.stat(file).st_ino)
        rows = _TABLE.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for row in rows:
        # 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF; of one that waits, "->" comes second.
        parts = row.split()
        if "->" not in parts and len(parts) > 5 and parts[5].rpartition(":")[2] == inode:
            return _named(parts[4])
    return None


def _named(pid: str) -> str | None:
    if not pid.isdigit() or pid == "0":
        return None  # of another container
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"process {pid}"
    command = b" ".join(words).decode(errors="replace").strip()
    return f"process {pid} ({command[:100]})" if command else f"process {pid}"


_PATIENCE = 1.0
"""How long a commit may hold a lock before it is reported, in seconds."""

_AHEAD_US = 60_000_000
"""How much newer than the clock a record may be: a minute, in microseconds."""

_MARKER = "a git conflict marker"


def check_directory(layout: Layout) -> Iterator[Finding]:
    """Yield what is wrong with the directory.

    Raises:
        StoreVersionError: It has an unknown version.
        StoreAccessError: It cannot be read.
    """
    if layout.check_version() is None:
        yield Finding(
            "version",
            INFO,
            f"{layout.version_path} is missing",
            "the next open for writing creates it",
            "taskstore doctor --fix",
            is_safe=True,
        )
    problem = layout.ignore_problem()
    if problem is not None:
        yield Finding(
            "gitignore",
            WARNING,
            str(problem),
            "git offers files of this machine for a commit",
            f"remove or replace {layout.ignore_path}, then run `taskstore doctor --fix`",
        )
    if missing := layout.missing_ignored():
        yield Finding(
            "gitignore",
            WARNING,
            f"{layout.ignore_path} does not have {', '.join(missing)}",
            "git offers files of this machine for a commit",
            "taskstore doctor --fix",
            is_safe=True,
        )
    kind = network_file_system(layout.directory)
    if kind is not None:
        yield Finding(
            "network",
            WARNING,
            f"{layout.directory} is on a network file system ({kind})",
            "locks and the cache are reliable on local disks only; one machine at a time is safe",
            "move the working copy to a local disk",
        )


def check_locks(layout: Layout) -> Iterator[Finding]:
    """Yield which locks are held, and by whom."""
    gate = file_lock(layout.gate_path, name="gate", store=layout.directory)
    for lock, path in ((gate, layout.gate_path), (directory_lock(layout), layout.directory)):
        if path == layout.gate_path and not path.exists():
            continue
        try:
            yield from _held(lock, path)
        finally:
            lock.close()


def _held(lock: Lock, path: Path) -> Iterator[Finding]:
    try:
        lock.acquire(_PATIENCE)
    except LockTimeoutError:
        what = "gate" if path.name.endswith("gate") else "log lock"
        yield Finding(
            "lock",
            WARNING,
            f"the {what} is held by {holder(path) or 'another process'}",
            "writers wait until it ends; a lock goes with its process and is never left behind",
            "wait, or end that process",
        )
    except StoreAccessError as error:
        meaning = "the store can be read from here, but not written"
        remedy = "change the permissions, or work as the user who owns it"
        yield Finding("access", WARNING, str(error), meaning, remedy)
    else:
        lock.release()


def _of_journal(layout: Layout) -> Finding:
    path = layout.journal_path
    fix = "taskstore doctor --fix"
    try:
        read_journal(path, layout.mark)
    except ForeignJournalError as error:
        meaning = "it is not applied; the next open for writing renames it"
        return Finding("journal", WARNING, f"{path}: {error}", meaning, fix, is_safe=True)
    except (OSError, JournalVersionError) as error:
        remedy = "upgrade with `pip install --upgrade taskstore`, or see to its permissions"
        return Finding("journal", ERROR, f"{path} cannot be read: {error}", "no write", remedy)
    return Finding(
        "journal",
        WARNING,
        f"{path} has a transaction that was interrupted",
        "its lines are not served; the next open for writing completes or undoes it",
        fix,
        is_safe=True,
    )


def check_logs(
    layout: Layout, now_ms: int, *, is_idle: bool, unsettled: Collection[Path] = ()
) -> Iterator[Finding]:
    """Yield the problems of the logs, and what a crash has left.

    Args:
        layout: The store directory.
        now_ms: The time, in milliseconds since the epoch.
        is_idle: Whether nobody holds a lock, which means that nobody is writing a journal.
        unsettled: Logs in conflict that can still be merged. Their markers are not reported.
    """
    if is_idle and is_live(layout.journal_path):
        yield _of_journal(layout)
    for path in sorted(layout.directory.glob(f"{layout.journal_path.name}-*")):
        yield Finding(
            "journal-aside",
            WARNING,
            f"{path} keeps the lines of a transaction that no longer fits its log",
            "git, or another program, rewrote the log while the transaction was interrupted",
            "look at the lines, append what is wanted, and delete the file",
        )
    names, strays = layout.collections()
    yield from map(_problem, strays)
    yield from _clashes(layout)
    yield from _renamed(layout, names)
    limits = virtual_limits(layout)
    newest: tuple[int, str] = (0, "")
    for name in names:
        is_unsettled = layout.log_path(name).resolve() in unsettled
        for problem, order_us, id in _read(layout, name, limits.get(name)):
            if problem is not None and not (is_unsettled and problem.reason == _MARKER):
                yield _problem(problem)
            newest = max(newest, (order_us, f"{name}/{id}"))
    if newest[0] > now_ms * 1000 + _AHEAD_US:
        yield Finding(
            "clock",
            WARNING,
            f"{newest[1]} is of {format_rfc3339(newest[0] // 1000)}, later than the clock here",
            "changes made here get later stamps, so they count; but a merge takes the newer of "
            "two edits, and that would be this one for a long time",
            "set the clock of the machine that wrote it, or of this one",
        )


def _clashes(layout: Layout) -> Iterator[Finding]:
    for collection, graph in sorted(read_graphs(layout).items()):
        for clash in clashes(graph):
            yield Finding(
                "clash",
                WARNING,
                f"{layout.log_path(EVOLUTIONS)}: {collection}: {clash}",
                f"older lines are read by {clash.first!r} first, because of the names",
                "add a revision that follows both and states the fields as they are meant",
            )


def _renamed(layout: Layout, logs: list[str]) -> Iterator[Finding]:
    for log, reason in read_names(layout).faults(logs).items():
        what, _, remedy = reason.partition(": ")
        yield Finding(
            "renamed",
            WARNING,
            f"{layout.log_path(log)}: {what}",
            "its records are kept, and not found under that name",
            remedy,
        )


def _problem(problem: Problem) -> Finding:
    where = f"{problem}"
    if problem.reason == _MARKER:
        return Finding(
            "marker",
            ERROR,
            where,
            "a merge was never finished; the lines between the markers are all read",
            "remove the markers and the lines that you do not want, then git add",
        )
    if problem.line is None and problem.collection is not None:
        return Finding(
            "unreadable",
            ERROR,
            where,
            "it is a log, and whatever needs the store fails while it cannot be read",
            "check its permissions, and that the disk can be read",
        )
    code = "line" if problem.line is not None else "stray"
    meaning = "it is kept and not served" if code == "line" else "it is not a log, and not loaded"
    remedy = "fix the line with an editor" if code == "line" else "rename or move it"
    remedy = STAND_INS.get(problem.reason, remedy)
    if problem.reason.startswith(UNKNOWN):
        remedy = "pull evolutions.jsonl, which states the revision"
    if code == "stray" and os.path.islink(problem.path):
        remedy = "replace it with the file that it points to"
    return Finding(code, ERROR if code == "line" else WARNING, where, meaning, remedy)


def _read(
    layout: Layout, name: str, limit: int | None
) -> Iterator[tuple[Problem | None, int, str]]:
    """Yield the problems of a log, and last its newest record."""
    path = layout.log_path(name)
    try:
        fd = files.open_log(path)
    except FileNotFoundError:
        return  # it has just been removed
    except OSError as error:
        yield Problem(name, str(path), None, error.strerror or str(error)), 0, ""
        return
    try:
        lacks = newest_shapes(layout).get(name, NO_SHAPE).lacks
        found = replay(fd, collection=name, path=str(path), limit=limit, lacks=lacks)
    except LogChangedError:
        return  # somebody is writing it, and the next examination sees the result
    finally:
        os.close(fd)
    for problem in found.problems:
        yield problem, 0, ""
    newest = max(((order_us, id) for id, _, order_us, _ in found.places()), default=(0, ""))
    yield None, *newest
