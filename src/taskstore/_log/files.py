"""Every file operation that the log's durability rests on, in one place.

The rest of the package calls these through the module (`files.write_all(...)`), so that a test can
record them, or make any of them fail.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from taskstore._log.swap import exchange_names

__all__ = [
    "exchange",
    "open_directory",
    "open_file",
    "open_log",
    "pwrite_all",
    "read_at",
    "replace",
    "same_file",
    "set_mtime",
    "sync",
    "sync_directory",
    "truncate",
    "unlink",
    "write_all",
]

_COMMON = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# A log that is a symbolic link would lead outside the directory, and opening a pipe would wait.
_LOG_FLAGS = _COMMON | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def open_file(path: Path, flags: int) -> int:
    """Open `path` and return its descriptor, which children do not inherit over exec."""
    return os.open(path, flags | _COMMON, 0o666)


def open_log(path: Path, *, write: bool = False, create: bool = False) -> int:
    """Open a log: to read, or to append (and cut) where `write`.

    Args:
        path: The log.
        write: Whether to append.
        create: Whether the file must be new.

    Raises:
        OSError: It cannot be opened; FileExistsError when `create` and something is there.
    """
    flags = os.O_RDWR | os.O_APPEND if write else os.O_RDONLY
    return open_file(path, flags | _LOG_FLAGS | (os.O_CREAT | os.O_EXCL if create else 0))


def open_directory(path: Path) -> int:
    """Open a directory, to lock or to sync it."""
    return open_file(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))


def write_all(fd: int, data: bytes) -> None:
    """Write `data` at the descriptor's position: in one call, where the system takes it whole."""
    view = memoryview(data)
    while view:
        view = view[write(fd, view) :]


def write(fd: int, data: bytes | memoryview) -> int:
    """Write once; return how many bytes were taken."""
    return os.write(fd, data)


def pwrite_all(fd: int, data: bytes, offset: int) -> None:
    """Write `data` at `offset`."""
    view = memoryview(data)
    while view:
        taken = pwrite(fd, view, offset)
        view = view[taken:]
        offset += taken


def pwrite(fd: int, data: bytes | memoryview, offset: int) -> int:
    """Write once at `offset`; return how many bytes were taken."""
    return os.pwrite(fd, data, offset)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Return the `size` bytes from `offset`, or fewer where the file ends before."""
    data = os.pread(fd, size, offset)
    if len(data) in (size, 0):
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (data := os.pread(fd, missing, offset + size - missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def sync(fd: int) -> None:
    """Return when the file's bytes and length are on the disk itself."""
    if sys.platform == "darwin":
        import fcntl

        # fsync on macOS leaves the bytes in the drive's cache; not every file system can do more.
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError:
            os.fsync(fd)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def sync_directory(path: Path) -> None:
    """Return when the names in a directory are on the disk."""
    if os.name == "nt":
        return
    fd = open_directory(path)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def truncate(fd: int, size: int) -> None:
    """Cut a file to its first `size` bytes."""
    os.ftruncate(fd, size)


def replace(source: Path, target: Path) -> None:
    """Give `source` the name `target`, in one step."""
    os.replace(source, target)


def exchange(first: Path, second: Path) -> bool:
    """Give each of two files the other's name, in one step; False where that cannot be done."""
    return exchange_names(first, second)


def unlink(path: Path) -> None:
    """Remove the name `path`."""
    os.unlink(path)


def set_mtime(fd: int, atime_ns: int, mtime_ns: int) -> None:
    """Set a file's times, in nanoseconds since the epoch."""
    os.utime(fd, ns=(atime_ns, mtime_ns))


def same_file(fd: int, path: Path) -> bool:
    """Say whether `path` still names the file that is open as `fd`."""
    try:
        named = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    opened = os.fstat(fd)
    return (named.st_ino, named.st_dev) == (opened.st_ino, opened.st_dev)
