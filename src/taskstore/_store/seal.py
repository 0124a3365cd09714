"""The seal of the store's own cache. It shows that this clone made it and last wrote to it.

A push or an archive can bring a cache with false records, or a write-ahead log that copies them
into our cache. So two numbers in the file's header are computed from the clone's mark. The state in
which SQLite leaves the files is noted beside the mark: the stat of the cache, which changes with
each checkpoint, and the salts of the write-ahead log, which change when it starts over. Files that
do not fit are not opened, and the cache is rebuilt from the logs.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
import weakref
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from taskstore._log import files
from taskstore._log.files import access
from taskstore._log.layout import Layout
from taskstore.errors import StoreAccessError

_NOTED = "cache"
_SALTS_AT = 16
_SALTS_BYTES = 8
_WAL_HEADER_BYTES = 32
_NO_SALTS = "-"
_NOTE_SECONDS = 1.0


class _Left(NamedTuple):
    """The state in which SQLite left the files.

    Attributes:
        inode, size, mtime_ns: The stat of the cache.
        salts: In the header of the write-ahead log, in hexadecimal; `_NO_SALTS` without one.
    """

    inode: int
    size: int
    mtime_ns: int
    salts: str

    def follows(self, noted: _Left) -> bool:
        """Return whether these are the noted files. The write-ahead log may be gone."""
        return self[:3] == noted[:3] and self.salts in (_NO_SALTS, noted.salts)


class CacheSeal:
    """Seals the cache file of one directory, and checks the seal.

    The numbers are `application_id` and `user_version` (https://www.sqlite.org/fileformat.html):
    SQLite returns them without a look at the schema, where a hostile file does its harm.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        # As text, because a Path takes longer than the stat.
        self._cache = os.fspath(layout.cache_path)
        self._noted: _Left | None = None
        # In case that it could not be noted, as on a full disk.
        self._left: _Left | None = None
        self._wal: int | None = None
        self._shm: tuple[int, int] | None = None
        self._drivers: set[weakref.ref[sqlite3.Connection]] = set()

    @cached_property
    def numbers(self) -> tuple[int, int]:
        """The numbers for the header: 62 bits of a key of this clone."""
        key = self._layout.mark.key("cache")
        first, second = (int.from_bytes(key[at : at + 4], "big") >> 1 for at in (0, 4))
        return first | 1, second | 1

    def make(self) -> None:
        """Create a cache file with our numbers and nothing else, as private as the logs; note it.

        Raises:
            OSError: It cannot be created, or it exists.
            sqlite3.Error: SQLite refused.
        """
        path = self._layout.cache_path
        mode = self._layout.state_mode()
        fd = files.open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        try:
            files.keep_owner(fd, os.stat(path.parent))
        finally:
            os.close(fd)
        application, version = self.numbers
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA application_id = {application}")
            connection.execute(f"PRAGMA user_version = {version}")
        self.note()

    def fits(self, driver: sqlite3.Connection) -> bool:
        """Return whether the file of a connection has our numbers, and the other files are ours.

        SQLite opens the write-ahead log by its name for each connection. So a file that was put
        there while we use another one would be read with our index. While this process has no
        connection, SQLite would also apply a log or a journal that was put there.

        Raises:
            sqlite3.Error: It is not a database.
            StoreAccessError: The operating system refused a file beside it.
        """
        if not self._is_used():
            if not self._is_whole_soon():
                return False
        elif self._is_replaced():
            return False
        self._drivers.add(weakref.ref(driver, self._drivers.discard))
        cursor = driver.cursor(sqlite3.Cursor)
        [application] = cursor.execute("PRAGMA application_id").fetchone()
        [version] = cursor.execute("PRAGMA user_version").fetchone()
        # By now SQLite has opened those that this connection uses.
        self._see()
        return (application, version) == self.numbers

    def is_whole(self) -> bool:
        """Return whether SQLite may open the cache: a regular file, with only our files beside it.

        A process may see the new salts of another one before they are noted. A process that has
        waited for the gate sees both.
        """
        if _kind(self._cache) != stat.S_IFREG or _kind(f"{self._cache}-shm") not in _USUAL:
            return False
        # With a write-ahead log there is none, and without it none that a writer does not use.
        if _kind(f"{self._cache}-journal") is not None:
            return False
        if _kind(f"{self._cache}-wal") not in _USUAL:
            return False
        noted = _decoded(self._layout.mark.read(_NOTED) or b"")
        present = self._present()
        if noted is not None and present.follows(noted):
            self._noted = noted
            return True
        return self._left is not None and present.follows(self._left)

    def _is_whole_soon(self) -> bool:
        """Return `is_whole`, once another process has had the time to note what it has changed.

        It cannot wait for the gate, which the connecting thread may hold.
        """
        end = time.monotonic() + _NOTE_SECONDS
        while True:
            self.close()
            is_whole = self.is_whole()
            # SQLite may open other files of these names than the ones that were looked at.
            self.close()
            if is_whole or time.monotonic() > end:
                return is_whole
            time.sleep(0.001)

    def note(self) -> None:
        """Note what a commit, or the end of the last connection, has left of the files.

        A pull can replace the files. Then nothing is noted, and the next open rebuilds the cache.
        """
        try:
            self._see()
            if self._is_replaced():
                self._noted = self._left = None
                if self._is_used():
                    self._layout.mark.write(_NOTED, b"")
                return
            present = self._left = self._present()
            if self._noted is None or not present.follows(self._noted):
                self._layout.mark.write(_NOTED, " ".join(map(str, present)).encode())
                self._noted = present
        except (OSError, StoreAccessError):
            # SQLite is done. The only consequence is that the next open rebuilds the cache.
            self._noted = None

    def _present(self) -> _Left:
        found = os.lstat(self._cache)
        return _Left(found.st_ino, found.st_size, found.st_mtime_ns, self._salts())

    def _is_used(self) -> bool:
        """Return whether a connection of this process is open, which protects the files."""
        for ref in list(self._drivers):
            driver = ref()
            if driver is None or getattr(driver, "inherited", False):
                continue
            with contextlib.suppress(sqlite3.ProgrammingError):  # it is closed
                _ = driver.in_transaction
                return True
        return False

    def _is_replaced(self) -> bool:
        """Return whether the files beside the cache were replaced since they were first seen."""
        if self._wal is None:
            return False
        wal = f"{self._cache}-wal"
        if _is_named(self._wal, wal) and _identity(f"{self._cache}-shm") == self._shm:
            # SQLite makes no other journal then, and would roll back one that a clone brought.
            return _kind(f"{self._cache}-journal") is not None
        # After the last connection SQLite has removed them; others may be there since.
        return self._is_used() or os.path.lexists(wal)

    def _see(self) -> None:
        """Keep in mind which files are beside the cache, if they are not known yet.

        Raises:
            StoreAccessError: The operating system refused.
        """
        if self._wal is None:
            path = Path(f"{self._cache}-wal")
            with access(path), contextlib.suppress(FileNotFoundError):
                self._wal = files.open_file(path, os.O_RDONLY)
                self._shm = _identity(f"{self._cache}-shm")

    def close(self) -> None:
        """Close what is open."""
        self._shm = None
        fd, self._wal = self._wal, None
        if fd is not None:
            os.close(fd)

    def _salts(self) -> str:
        """Return the salts in the header of the write-ahead log; `_NO_SALTS` without one.

        SQLite takes no locks on that file, which opening and closing it could take away.
        """
        self._see()
        if self._wal is None or os.fstat(self._wal).st_nlink == 0:
            return _NO_SALTS
        header = files.read_at(self._wal, _WAL_HEADER_BYTES, 0)
        if len(header) < _WAL_HEADER_BYTES:
            return _NO_SALTS
        return header[_SALTS_AT : _SALTS_AT + _SALTS_BYTES].hex()


_USUAL = (None, stat.S_IFREG)


def _kind(name: str) -> int | None:
    """Return the type of the file with a name, from `stat.S_IFMT`; None if there is none."""
    try:
        return stat.S_IFMT(os.lstat(name).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _identity(name: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _is_named(fd: int, name: str) -> bool:
    opened = os.fstat(fd)
    return (opened.st_dev, opened.st_ino) == _identity(name)


def _decoded(data: bytes) -> _Left | None:
    words = data.decode("ascii", "replace").split()
    if len(words) != 4 or not all(word.isdecimal() and len(word) < 32 for word in words[:3]):
        return None
    return _Left(int(words[0]), int(words[1]), int(words[2]), words[3])
