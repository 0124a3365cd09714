"""Settle what a crash has left: complete a transaction, or roll it back, as a whole.

A journal is on the disk before the first line of its transaction, and it is removed before the
commit is acknowledged. So its transaction can be undone, as long as only bytes are cut that the
journal planned and that are at the end of their file.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path

import attrs

from taskstore._format.problems import Problem
from taskstore._log import files, tails
from taskstore._log.digest import Digester
from taskstore._log.journal import (
    ForeignJournalError,
    JournalEntry,
    JournalVersionError,
    is_live,
    read_journal,
    retire_journal,
    set_journal_aside,
)
from taskstore._log.layout import Layout
from taskstore._log.locks import LockedFile, hold_descriptor
from taskstore.errors import LockTimeoutError, RecoveryError, TaskstoreError


class _State(enum.Enum):
    COMPLETE = "complete"
    FOLLOWED = "complete, and another program wrote after it"
    MERGED = "rewritten by another program, with all lines of the transaction in it"
    PARTIAL = "partial"
    FOREIGN = "rewritten by another program"
    MIXED = "rewritten by another program, with some lines of the transaction in it"


# States in which the part of the transaction in a file can stay.
_THERE = (_State.COMPLETE, _State.FOLLOWED, _State.MERGED)
# States that cannot be changed.
_OTHERS = (_State.FOREIGN, _State.MIXED)


@attrs.define
class _Found:
    """A log that the journal names, as it is now."""

    entry: JournalEntry
    path: Path
    file: LockedFile = attrs.field(factory=LockedFile)
    state: _State = _State.FOREIGN


def recover(layout: Layout, *, lock_timeout: float = 30.0) -> list[Problem]:
    """Settle an interrupted transaction. The caller holds the log lock.

    If all of it is in the logs, it stays. Otherwise it is cut from the end of each file. If another
    program has written after a complete part, the other parts are completed instead. A log whose
    bytes differ from the journal is left alone and reported, and the journal, which has the planned
    lines, is kept under another name.

    Args:
        layout: The store directory.
        lock_timeout: How long to wait, in seconds, for another program that locks a log.

    Returns:
        The logs that were left alone; usually none.

    Raises:
        RecoveryError: The journal cannot be read, applied or removed. It stays for the next try.
        LockTimeoutError: Another program has locked a log for too long.
    """
    journal = layout.journal_path
    try:
        if not is_live(journal):
            return []
        entries = read_journal(journal, layout.mark)
        if entries is None:
            retire_journal(journal)
            return []
        return _settle(layout, entries, lock_timeout)
    except TaskstoreError:
        raise
    except ForeignJournalError as error:
        return [_set_aside(journal, str(error))]
    except (OSError, EOFError, JournalVersionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecoveryError(journal, reason=reason) from error


def _set_aside(journal: Path, reason: str) -> Problem:
    try:
        aside = set_journal_aside(journal)
    except OSError as error:
        raise RecoveryError(journal, reason=error.strerror or str(error)) from error
    reason = f"a foreign journal: {reason}; it was not applied, and is now {aside.name}"
    return Problem(None, str(journal), None, reason)


def virtual_limits(layout: Layout) -> dict[str, int]:
    """Return the lengths to which `recover` would cut logs. Write nothing.

    Returns:
        The length to read of each such collection, in bytes.

    Raises:
        RecoveryError: The journal cannot be read.
    """
    found: list[_Found] = []
    try:
        entries = read_journal(layout.journal_path, layout.reader_mark) or ()
        _examine_all(layout, entries, found, write=False)
    except ForeignJournalError:
        # A writer renames it and reports that.
        return {}
    except (OSError, EOFError, JournalVersionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecoveryError(layout.journal_path, reason=reason) from error
    finally:
        _close_all(found)
    if _all_stays(found) or _can_finish(found):
        return {}
    ours = (_State.PARTIAL,) if _must_stay(found) else (_State.COMPLETE, _State.PARTIAL)
    return {item.entry.collection: item.entry.base for item in found if item.state in ours}


def _settle(layout: Layout, entries: tuple[JournalEntry, ...], timeout: float) -> list[Problem]:
    found: list[_Found] = []
    try:
        left = _carried_out(layout, entries, found, timeout)
        _close_all(found)
    except BaseException:
        # Also if an exception prevented that they were closed.
        _close_all(found)
        raise
    if not left:
        retire_journal(layout.journal_path)
        return []
    aside = set_journal_aside(layout.journal_path)
    return [_problem(item, aside) for item in left]


def _carried_out(
    layout: Layout, entries: tuple[JournalEntry, ...], found: list[_Found], timeout: float
) -> list[_Found]:
    """Complete the transaction or roll it back; return the logs that had to be left alone."""
    _examine_all(layout, entries, found, write=True, lock_timeout=timeout)
    if _can_finish(found):
        _finish(layout, found)
        left = []
    else:
        left = [] if _all_stays(found) else _roll_back(layout, found)
    _make_durable(layout, found)
    return left


def _all_stays(found: list[_Found]) -> bool:
    return all(item.state in _THERE for item in found)


def _can_finish(found: list[_Found]) -> bool:
    """Return whether the transaction can no longer be undone, but can be completed."""
    states = {item.state for item in found}
    fixed = not states.isdisjoint((_State.FOLLOWED, _State.MERGED))
    return fixed and states.isdisjoint(_OTHERS) and not _all_stays(found)


def _must_stay(found: list[_Found]) -> bool:
    """Return whether other programs have written after or around a part of the transaction."""
    fixed = (_State.FOLLOWED, _State.MERGED, _State.MIXED)
    return any(item.state in fixed for item in found)


def _finish(layout: Layout, found: list[_Found]) -> None:
    for item in found:
        if item.state is not _State.PARTIAL:
            continue
        if item.file.fd is None:
            item.file.fd = files.open_log(item.path, write=True, create=True)
        elif os.fstat(item.file.fd).st_size > item.entry.base:
            files.truncate(item.file.fd, item.entry.base)
        files.write_all(item.file.fd, item.entry.planned)


def _roll_back(layout: Layout, found: list[_Found]) -> list[_Found]:
    """Cut our lines; return the logs that had to be left alone."""
    stays = _must_stay(found)
    left = []
    for item in found:
        if item.state not in (_State.COMPLETE, _State.PARTIAL):
            left.append(item)
        # Whole lines are not cut where other lines of the transaction will stay anyway.
        elif item.file.fd is not None and not (stays and item.state is _State.COMPLETE):
            if os.fstat(item.file.fd).st_size > item.entry.base:
                files.truncate(item.file.fd, item.entry.base)
            if item.entry.created and os.fstat(item.file.fd).st_size == 0:
                files.unlink(item.path)
    return left


def _make_durable(layout: Layout, found: list[_Found]) -> None:
    for item in found:
        if item.file.fd is not None and item.state not in _OTHERS:
            files.sync(item.file.fd)
    if any(item.entry.created for item in found):
        files.sync_directory(layout.directory)


def _examine_all(
    layout: Layout,
    entries: tuple[JournalEntry, ...],
    found: list[_Found],
    *,
    write: bool,
    lock_timeout: float = 0.0,
) -> None:
    """Open and examine the logs that a journal names. The caller closes them."""
    digester = layout.digester if write else layout.reader_digester
    for entry in entries:
        item = _Found(entry, layout.log_path(entry.collection))
        found.append(item)
        _open(item, write, lock_timeout)
        item.state = _examine(item.file.fd, entry, digester)


def _open(item: _Found, write: bool, lock_timeout: float) -> None:
    try:
        item.file.fd = files.open_log(item.path, write=write)
    except FileNotFoundError:
        return
    if write and not hold_descriptor(item.file.fd, lock_timeout):
        raise LockTimeoutError(item.path, timeout=lock_timeout, lock="data file")


def _examine(fd: int | None, entry: JournalEntry, digester: Digester) -> _State:
    if fd is None:
        return _State.FOREIGN if entry.base else _State.PARTIAL
    size = os.fstat(fd).st_size
    if size < entry.base or digester.read(fd, entry.base).text() != entry.checksum:
        return _examine_rewritten(fd, entry)
    end = entry.base + len(entry.planned)
    if tails.begins(fd, entry.planned, entry.base):
        return _State.COMPLETE if size == end else _State.FOLLOWED
    tail = files.read_at(fd, min(size - entry.base, len(entry.planned) + 1), entry.base)
    return _State.PARTIAL if tails.is_torn(tail, entry.planned) else _examine_rewritten(fd, entry)


def _examine_rewritten(fd: int, entry: JournalEntry) -> _State:
    """Examine a file that another program, such as git, has rewritten."""
    planned = frozenset(entry.planned.split(b"\n")) - {b""}
    there = tails.count_lines(fd, planned)
    if there == len(planned):
        return _State.MERGED
    return _State.MIXED if there else _State.FOREIGN


def _close_all(found: list[_Found]) -> None:
    for item in found:
        item.file.close()


def _problem(item: _Found, aside: Path) -> Problem:
    reason = (
        f"an interrupted transaction was not applied to it: {item.state.value}; "
        f"its lines are kept in {aside.name}"
    )
    return Problem(item.entry.collection, str(item.path), None, reason)
