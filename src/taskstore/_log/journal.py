"""The journal: what a transaction of more than one line will append, and where.

It is on the disk before the first line is in a log, and it is removed from the disk before the
commit is acknowledged. So the transaction of a journal that is found was not acknowledged, and it
can be completed or rolled back as a whole.

The file has one header line, `taskstore-journal <version> <clone> <MAC> <JSON>`, and then the
planned bytes of each log. `clone` names the clone that wrote it, and the MAC is keyed with the mark
of that clone. So a journal that a push or an archive has brought is never applied. If our own
journal does not fit its MAC, it was torn while it was written, before any log was changed. A
retired journal is all zeros: overwriting it is cheaper than removing a file, and its text, also of
deleted records, is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import attrs

from taskstore._format.names import check_collection_name
from taskstore._log import files
from taskstore._log.trust import Mark

_MAGIC = b"taskstore-journal "
_VERSION = b"2"
_LOOK_BYTES = 8
_KEPT_BYTES = 64 * 1024
_LONGEST_HEADER = 16 * 1024 * 1024
_MAC_DIGITS = 64


class ForeignJournalError(Exception):
    """The file with the journal's name was not written by this clone."""


class JournalVersionError(Exception):
    """The journal has a version that we cannot read."""


@attrs.frozen
class JournalEntry:
    """What a transaction does to one log.

    Attributes:
        collection: The collection.
        base: The log's length before, in bytes.
        checksum: The keyed digest of its bytes up to there.
        created: Whether the transaction creates the file.
        planned: The bytes to append.
    """

    collection: str
    base: int
    checksum: str
    created: bool
    planned: bytes = attrs.field(repr=False)


def write_journal(
    path: Path,
    entries: Sequence[JournalEntry],
    mark: Mark,
    *,
    mode: Callable[[], int] = lambda: 0o666,
) -> None:
    """Write a journal. When this returns, it is on the disk.

    Args:
        path: The journal.
        entries: The changes of the transaction.
        mark: The mark of the clone that writes.
        mode: Returns the mode of a new file; the umask applies.

    Raises:
        OSError: It was not written, but a part of it may be there.
    """
    header = _header(entries, mark)
    while True:
        created = not os.path.lexists(path)
        fd = files.open_state(path, mode() if created else 0o600)
        try:
            offset = len(header)
            for entry in entries:
                files.pwrite_all(fd, entry.planned, offset)
                offset += len(entry.planned)
            files.pwrite_all(fd, header, 0)
            files.sync(fd)
            if created:
                files.sync_directory(path.parent)
            # A `git clean` removes ignored files, and with them what we have written.
            if files.same_file(fd, path):
                return
        finally:
            os.close(fd)


def _header(entries: Sequence[JournalEntry], mark: Mark) -> bytes:
    payload = hashlib.sha256()
    for entry in entries:
        payload.update(entry.planned)
    facts = {
        "payload": payload.hexdigest(),
        "files": [
            {
                "collection": entry.collection,
                "base": entry.base,
                "checksum": entry.checksum,
                "created": entry.created,
                "length": len(entry.planned),
            }
            for entry in entries
        ],
    }
    text = json.dumps(facts, separators=(",", ":")).encode() + b"\n"
    return b"%b%b %b" % (_prefix(mark), _mac(mark, text), text)


def _prefix(mark: Mark) -> bytes:
    return b"%b%b %b " % (_MAGIC, _VERSION, mark.id.encode())


def _mac(mark: Mark, text: bytes) -> bytes:
    return hmac.new(mark.key("journal"), text, "sha256").hexdigest().encode()


def is_live(path: Path) -> bool:
    """Return whether there may be a journal to recover or to set aside. This takes microseconds."""
    try:
        fd = files.open_file(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if files.is_irregular(error):
            return True
        raise
    try:
        return files.read_at(fd, _LOOK_BYTES, 0).strip(b"\0") != b""
    finally:
        os.close(fd)


def read_journal(path: Path, mark: Mark) -> tuple[JournalEntry, ...] | None:
    """Return the entries of the journal; None if it is missing or torn.

    Args:
        path: The journal.
        mark: The mark of this clone.

    Raises:
        OSError: It cannot be read.
        JournalVersionError: A newer version of the library wrote it, in this clone.
        ForeignJournalError: It is not of this clone.
    """
    try:
        fd = files.open_file(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if files.is_irregular(error):
            raise ForeignJournalError("it is not a regular file") from None
        raise
    try:
        return _read_entries(fd, mark)
    finally:
        os.close(fd)


def _read_entries(fd: int, mark: Mark) -> tuple[JournalEntry, ...] | None:
    head = files.read_at(fd, 4096, 0)
    if not head[:_LOOK_BYTES].strip(b"\0"):
        return None
    prefix = _prefix(mark)
    if b"\0" in head[: len(prefix)]:
        # A power cut in the middle of writing, or of blanking, leaves such a hole.
        return None
    if not (head.startswith(prefix) or prefix.startswith(head)):
        _refuse(head, mark)
    if b"\n" not in head:
        head = files.read_at(fd, _LONGEST_HEADER, 0)
    header, newline, _ = head.partition(b"\n")
    stated, _, text = (header + newline).removeprefix(prefix).partition(b" ")
    if not newline or not hmac.compare_digest(stated, _mac(mark, text)):
        return None
    return _entries_of(fd, len(header) + 1, text)


def _refuse(head: bytes, mark: Mark) -> NoReturn:
    magic, version, clone, *_ = [*head.split(b" ", 3), b"", b"", b""]
    if magic + b" " == _MAGIC and clone == mark.id.encode() and version.isdigit():
        raise JournalVersionError(f"version {version[:9].decode()} of the journal is not known")
    raise ForeignJournalError("it was not written by this clone of the repository")


def _entries_of(fd: int, offset: int, text: bytes) -> tuple[JournalEntry, ...] | None:
    try:
        facts = json.loads(text)
        parts = [_checked(fact) for fact in facts["files"]]
        payload = facts["payload"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ForeignJournalError(f"its content is not valid: {error}") from None
    if sum(length for _, length in parts) > os.fstat(fd).st_size:
        return None
    entries = []
    digest = hashlib.sha256()
    for part, length in parts:
        planned = files.read_at(fd, length, offset)
        offset += length
        digest.update(planned)
        entries.append(attrs.evolve(part, planned=planned))
    return tuple(entries) if digest.hexdigest() == payload else None


def _checked(fact: Any) -> tuple[JournalEntry, int]:
    """Return the header's entry for one log, and the length of its planned bytes.

    The values become a path and lengths to cut files to, so all of them are checked.
    """
    collection, base, checksum = fact["collection"], fact["base"], fact["checksum"]
    created, length = fact["created"], fact["length"]
    check_collection_name(collection)
    if not (type(base) is type(length) is int and base >= 0 and length >= 0):
        raise ValueError("a length is not valid")
    if type(checksum) is not str or type(created) is not bool:
        raise ValueError("a checksum is not valid")
    return JournalEntry(collection, base, checksum, created, b""), length


def retire_journal(path: Path) -> None:
    """Retire the journal. When this returns, it stays gone even after a power cut.

    Raises:
        OSError: It may still be there.
    """
    try:
        fd = files.open_file(path, os.O_RDWR)
    except FileNotFoundError:
        # Removed by somebody else, perhaps a moment ago.
        files.sync_directory(path.parent)
        return
    try:
        size = os.fstat(fd).st_size
        if size > _KEPT_BYTES:
            files.truncate(fd, 0)
        elif size:
            files.pwrite_all(fd, b"\0" * size, 0)
        files.sync(fd)
    except OSError:
        with contextlib.suppress(OSError):
            files.unlink(path)
            files.sync_directory(path.parent)
            return
        raise
    finally:
        os.close(fd)


def set_journal_aside(path: Path) -> Path:
    """Rename a journal that cannot be applied, durably, and return its new path.

    Raises:
        OSError: It could not be renamed durably.
    """
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    aside = path.with_name(f"{path.name}-{stamp}-{secrets.token_hex(3)}")
    files.replace(path, aside)
    files.sync_directory(path.parent)
    return aside
