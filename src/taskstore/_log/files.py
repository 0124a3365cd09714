"""All file operations on which the durability of the log depends.

The rest of the package calls them through the module (`files.write_all(...)`), so that a test can
record them or make any of them fail.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskstore._format.config import MAX_CONFIG_BYTES
from taskstore.errors import StoreAccessError, TaskstoreError

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE; RENAME_SWAP on macOS
_UNABLE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def exchange_names(first: Path, second: Path) -> bool:
    """Give each of two files the other's name.

    Returns:
        True if it was done; False if the system or the file system does not support it.

    Raises:
        OSError: One of them is missing, or the system refused.
    """
    import ctypes

    one, other = os.fsencode(first), os.fsencode(second)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            failed = libc.renamex_np(one, other, _EXCHANGE)
        else:
            failed = libc.renameat2(_HERE, one, _HERE, other, _EXCHANGE)
    except (AttributeError, OSError, TypeError):
        # An old C library, or none.
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in _UNABLE:
        return False
    raise OSError(code, os.strerror(code), str(first), None, str(second))


_COMMON = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)

SMALL_FILE_BYTES = MAX_CONFIG_BYTES
"""The maximum size of the settings and other small files of a store, in bytes."""

# A symbolic link could lead outside the store, and opening a pipe would wait.
_INSIDE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_IRREGULAR = (errno.ELOOP, errno.EMLINK, errno.EINVAL, errno.EISDIR, errno.ENXIO)


def open_file(path: Path, flags: int, mode: int = 0o666) -> int:
    """Open a regular file and return its descriptor, which is closed in children on exec.

    Everybody who can push to the repository can put anything under the name of a store's file.

    Args:
        path: The file.
        flags: The flags of `os.open`.
        mode: The mode of a new file; the umask applies.

    Raises:
        OSError: It cannot be opened, is a symbolic link, or is not a regular file.
    """
    fd = os.open(path, flags | _COMMON | (0 if flags & _DIRECTORY else _INSIDE), mode)
    if not (flags & _DIRECTORY or stat.S_ISREG(os.fstat(fd).st_mode)):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


def open_state(path: Path, mode: int) -> int:
    """Open one of our files to read and write, and create it if it is missing.

    Anything else that a clone has brought under its name, such as a link, is moved away.

    Raises:
        OSError: It can be neither opened nor created.
    """
    while True:
        try:
            return open_file(path, os.O_RDWR)
        except FileNotFoundError:
            pass
        except OSError as error:
            if not is_irregular(error):
                raise
            clear_away(path)
        with contextlib.suppress(FileExistsError):
            fd = open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
            keep_owner(fd, os.stat(path.parent))
            return fd


def is_irregular(error: OSError) -> bool:
    """Return whether `open_file` failed because the path is a link, a pipe or a directory."""
    return error.errno in _IRREGULAR


def is_own(found: os.stat_result) -> bool:
    """Return whether a file belongs to the user who runs us, also through sudo."""
    if os.name == "nt":
        return True
    user = os.geteuid()
    called = os.environ.get("SUDO_UID", "") if user == 0 else ""
    return found.st_uid == user or (called.isascii() and called == str(found.st_uid))


def keep_owner(fd: int, like: os.stat_result) -> None:
    """Give a new file the owner of another file, if we may: root writes for other users."""
    if os.name != "nt" and os.geteuid() == 0:
        made = os.fstat(fd)
        if (made.st_uid, made.st_gid) != (like.st_uid, like.st_gid):
            os.fchown(fd, like.st_uid, like.st_gid)


def make_directories(path: Path, mode: int = 0o777, *, more: int = 0) -> None:
    """Create a directory and its missing parents.

    If root creates them, they get the owner of the directory that contains them.

    Args:
        path: The directory.
        mode: Its mode; the umask applies. Its parents get the usual mode.
        more: Bits that each of them gets, whatever the umask.

    Raises:
        OSError: One cannot be created, or something else has its name.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        try:
            folder.mkdir(mode=mode if folder == path else 0o777)
        except FileExistsError:
            # Another process was quicker.
            if folder.is_dir():
                continue
            raise
        if os.name == "nt":
            continue
        # By its descriptor, because root must not follow a link that was put there meanwhile.
        fd = open_directory(folder)
        try:
            keep_owner(fd, os.stat(folder.parent))
            if more:
                os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) | more)
        finally:
            os.close(fd)


def clear_away(path: Path) -> None:
    """Remove whatever has a name that belongs to us. A directory is kept under another name.

    Raises:
        OSError: The name is still taken.
    """
    try:
        unlink(path)
    except FileNotFoundError:
        return
    except OSError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise
        replace(path, path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp"))


def _regular(path: Path) -> os.stat_result | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def put_whole(path: Path, data: bytes, *, mode: int = 0o666, durable: bool = True) -> None:
    """Replace a small file. At any moment, it has either the old or the new content.

    Args:
        path: The file. An existing file keeps its mode, and its owner if we are root.
        data: The new content.
        mode: The mode of a new file; the umask applies.
        durable: Whether this also holds after a power cut, and the new content stays.

    Raises:
        OSError: The old content is still there.
    """
    old = _regular(path)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    fd = open_file(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        try:
            if old is not None:
                os.fchmod(fd, stat.S_IMODE(old.st_mode))
            keep_owner(fd, old or os.stat(path.parent))
            write_all(fd, data)
            if durable:
                sync(fd)
        finally:
            os.close(fd)
        replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            unlink(draft)
        raise
    if durable:
        sync_directory(path.parent)


def read_small(path: Path) -> bytes:
    """Return the bytes of a small file of a store, such as its settings.

    Raises:
        OSError: It cannot be opened, is not a regular file, or has more than 1 MiB.
    """
    fd = open_file(path, os.O_RDONLY)
    try:
        if os.fstat(fd).st_size > SMALL_FILE_BYTES:
            raise OSError(errno.EFBIG, f"larger than {SMALL_FILE_BYTES} bytes", str(path))
        return read_at(fd, SMALL_FILE_BYTES, 0)
    finally:
        os.close(fd)


def small_file_fault(path: Path, error: OSError | None = None) -> str | None:
    """Return why a small file of a store cannot be read, and the remedy; None if it can.

    Args:
        path: The file. It may be missing.
        error: What `read_small` raised, if it was called.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as other:
        return other.strerror or str(other)
    if stat.S_ISLNK(found.st_mode):
        return "it is a symbolic link: replace it with the file that it points to"
    if stat.S_ISDIR(found.st_mode):
        return "it is a directory, and must be a file: rename or remove it"
    if not stat.S_ISREG(found.st_mode):
        return "it is not a regular file, but a pipe, a socket or a device: remove it"
    if found.st_size > SMALL_FILE_BYTES:
        return "it is larger than 1 MiB: shorten it, or bring it back from git"
    return None if error is None else error.strerror or str(error)


def open_log(path: Path, *, write: bool = False, create: bool = False) -> int:
    """Open a log to read, or with `write` to append and cut.

    Args:
        path: The log.
        write: Whether to append.
        create: Whether the file must be new.

    Raises:
        OSError: It cannot be opened; FileExistsError when `create` and something is there.
    """
    flags = os.O_RDWR | os.O_APPEND if write else os.O_RDONLY
    if not create:
        return open_file(path, flags)
    fd = open_file(path, flags | os.O_CREAT | os.O_EXCL)
    keep_owner(fd, os.stat(path.parent))
    return fd


def open_directory(path: Path) -> int:
    """Open the directory of a store, to lock it.

    Raises:
        OSError: It cannot be opened, or is a symbolic link.
    """
    try:
        return open_file(path, os.O_RDONLY | _DIRECTORY | getattr(os, "O_NOFOLLOW", 0))
    except NotADirectoryError:
        if os.path.islink(path):
            raise OSError(errno.ELOOP, "it is a symbolic link", str(path)) from None
        raise


def write_all(fd: int, data: bytes) -> None:
    """Write `data` at the descriptor's position, in one call if the system takes all of it."""
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
    """Return the `size` bytes from `offset`, or fewer if the file ends before."""
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

        # fsync on macOS leaves the bytes in the drive's cache. Not every file system supports more.
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
    fd = open_file(path, os.O_RDONLY | _DIRECTORY)
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
    """Return whether `path` still names the file that is open as `fd`."""
    return stat_if_same(fd, path) is not None


def stat_if_same(fd: int, path: Path) -> os.stat_result | None:
    """Return the stat of the file that is open as `fd`; None if `path` does not name it."""
    try:
        named = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    opened = os.fstat(fd)
    is_same = named.st_ino == opened.st_ino and named.st_dev == opened.st_dev
    return opened if is_same else None


@contextmanager
def access(path: Path, operation: str = "read") -> Iterator[None]:
    """Turn errors with a file in a block into StoreAccessError."""
    try:
        yield
    except TaskstoreError:
        raise
    except OSError as error:
        raise StoreAccessError(
            path, operation=operation, reason=error.strerror or str(error), errno=error.errno
        ) from error


def make_distinctive(fd: int, now_ns: int) -> int | None:
    """Set a distinctive time on a file that we have just appended to.

    Returns:
        The time that it has now, in nanoseconds since the epoch: then the file is not racy, though
        it has just changed. None if that did not work.
    """
    wanted = now_ns - 20_000_000 - random.randrange(10_000_000)  # noqa: S311
    try:
        set_mtime(fd, now_ns, wanted)
        # Some file systems keep microseconds, and some whole seconds, which tell nothing.
        found = os.fstat(fd).st_mtime_ns
    except OSError:
        return None
    return found if abs(found - wanted) < 1_000 else None
