"""The journal: what a transaction of more than one line is about to append, and where.

It is written, and on the disk, before the first line of it is in a log; and it is off the disk
before the commit is acknowledged. So a journal that is found belongs to a transaction that nobody
was told of, which may be finished or rolled back as suits the whole of it.

The file is one header line, `<crc32 of the rest, in hex> <JSON>`, and after it the planned bytes
of each log. A retired journal begins with zeros: overwriting them costs less than removing a file.
What does not fit its checksums was torn while it was written, when no log was touched yet.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from taskstore._log import files

__all__ = [
    "JournalEntry",
    "JournalVersionError",
    "is_live",
    "read_journal",
    "retire_journal",
    "set_journal_aside",
    "write_journal",
]

_VERSION = 1
_BLANK = b"\0" * 8
_KEPT_BYTES = 1024 * 1024
_LONGEST_HEADER = 16 * 1024 * 1024


class JournalVersionError(Exception):
    """A journal of a version that we cannot read."""


@attrs.frozen
class JournalEntry:
    """What a transaction does to one log.

    Attributes:
        collection: The collection.
        base: The log's length before, in bytes.
        checksum: CRC-32 of its bytes up to there.
        created: Whether the transaction makes the file.
        planned: The bytes that are appended.
    """

    collection: str
    base: int
    checksum: int
    created: bool
    planned: bytes = attrs.field(repr=False)


def write_journal(path: Path, entries: Sequence[JournalEntry]) -> None:
    """Put a journal on the disk; when this returns, it is there.

    Raises:
        OSError: It is not there, though a part of it may be.
    """
    header = _header(entries)
    while True:
        fd, created = _open_for_writing(path)
        try:
            offset = len(header)
            for entry in entries:
                files.pwrite_all(fd, entry.planned, offset)
                offset += len(entry.planned)
            files.pwrite_all(fd, header, 0)
            files.sync(fd)
            if created:
                files.sync_directory(path.parent)
            # A `git clean` removes ignored files: then what we have written is nowhere.
            if files.same_file(fd, path):
                return
        finally:
            os.close(fd)


def _open_for_writing(path: Path) -> tuple[int, bool]:
    try:
        return files.open_file(path, os.O_RDWR), False
    except FileNotFoundError:
        return files.open_file(path, os.O_RDWR | os.O_CREAT), True


def _header(entries: Sequence[JournalEntry]) -> bytes:
    payload_crc = 0
    for entry in entries:
        payload_crc = zlib.crc32(entry.planned, payload_crc)
    facts = {
        "journal": _VERSION,
        "checksum": payload_crc,
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
    return b"%08x %b" % (zlib.crc32(text), text)


def is_live(path: Path) -> bool:
    """Say, in microseconds, whether there may be a journal to recover from."""
    try:
        fd = files.open_file(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return files.read_at(fd, len(_BLANK), 0) not in (b"", _BLANK)
    finally:
        os.close(fd)


def read_journal(path: Path) -> tuple[JournalEntry, ...] | None:
    """Return what was planned, or None where there is no journal, or a torn one.

    Raises:
        OSError: It cannot be read.
        JournalVersionError: A newer version wrote it.
    """
    try:
        fd = files.open_file(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return _read_entries(fd)
    finally:
        os.close(fd)


def _read_entries(fd: int) -> tuple[JournalEntry, ...] | None:
    head = files.read_at(fd, 4096, 0)
    if head[: len(_BLANK)] in (b"", _BLANK):
        return None
    if b"\n" not in head:
        head = files.read_at(fd, _LONGEST_HEADER, 0)
    header, newline, _ = head.partition(b"\n")
    facts = _facts_of(header + newline)
    if facts is None:
        return None
    if facts["journal"] != _VERSION:
        raise JournalVersionError(f"version {facts['journal']!r} of the journal is not known")
    return _entries_of(fd, len(header) + 1, facts)


def _facts_of(header: bytes) -> dict[str, Any] | None:
    stated, _, text = header.partition(b" ")
    if stated != b"%08x" % zlib.crc32(text):
        return None
    facts: dict[str, Any] = json.loads(text)
    return facts


def _entries_of(fd: int, offset: int, facts: dict[str, Any]) -> tuple[JournalEntry, ...] | None:
    entries = []
    crc = 0
    for fact in facts["files"]:
        length = fact.pop("length")
        planned = files.read_at(fd, length, offset)
        offset += length
        crc = zlib.crc32(planned, crc)
        entries.append(JournalEntry(**fact, planned=planned))
    return tuple(entries) if crc == facts["checksum"] else None


def retire_journal(path: Path) -> None:
    """Do away with the journal; when this returns, no power cut brings it back.

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
            files.pwrite_all(fd, _BLANK, 0)
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
    """Give a journal that cannot be applied another name, for good, and return it.

    Raises:
        OSError: It could not be renamed, or that is not on the disk.
    """
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    aside = path.with_name(f"{path.name}-{stamp}-{secrets.token_hex(3)}")
    files.replace(path, aside)
    files.sync_directory(path.parent)
    return aside
