"""Small files, replaced as a whole or not at all, without following links or waiting for pipes.

Everybody who can push to the repository can write the files of the work tree. Any file can be a
link to another place, or have no end.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from taskstore._git.run import LOG_BYTES, shown
from taskstore._log import files
from taskstore.errors import GitError

FILE_BYTES = 16 * 2**20
"""The maximum size of a file of settings, attributes or a hook, in bytes."""

PIPE = "it is not a regular file, but a pipe, a socket or a device: remove it"
"""The message for a file that git would wait for."""

_GONE = (FileNotFoundError, NotADirectoryError)


def read(path: Path, *, limit: int = FILE_BYTES) -> bytes | None:
    """Return a file's bytes; None if there is none.

    Raises:
        GitError: It is a link, not a regular file, or larger than `limit`.
        OSError: It cannot be read.
    """
    try:
        fd = files.open_file(path, os.O_RDONLY)
    except _GONE:
        return None
    except OSError as error:
        raise _refused(path) or error from error
    try:
        size = os.fstat(fd).st_size
        if size > limit:
            raise _too_large(path, limit)
        return files.read_at(fd, size, 0)
    finally:
        os.close(fd)


def read_log(path: Path) -> bytes | None:
    """Return a log's bytes; otherwise like `read`."""
    return read(path, limit=LOG_BYTES)


def peek(path: Path) -> bytes | None:
    """Return the bytes of a file, or of the target of a link, to search for words.

    Returns:
        None if there is nothing; no bytes if it cannot be read, is not a regular file, or is larger
        than FILE_BYTES.
    """
    if not os.path.lexists(path):
        return None
    try:
        return read(path.resolve(strict=True))
    except (OSError, GitError):
        return b""


def write(
    path: Path,
    data: bytes,
    *,
    below: Path | None = None,
    executable: bool = False,
    private: bool = False,
) -> None:
    """Write a file in one step, so that nobody sees half of it.

    Args:
        path: The file. Its permissions stay, and if possible its owner and group.
        data: The content.
        below: The directory below which no part of the path may be a link.
        executable: Whether everybody who may read a new file may also run it.
        private: Whether only its owner may read it.

    Raises:
        GitError: The path has a link, or something other than a regular file, in it.
        OSError: It cannot be written. It is unchanged.
    """
    for place in (path, *_between(path, below)):
        if (found := fault(place, is_folder=place != path)) is not None:
            raise GitError("git", reason=f"{shown(place)}: {found}")
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    fd = files.open_file(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
    try:
        try:
            _take_after(fd, path, executable=executable, private=private)
            files.write_all(fd, data)
            files.sync(fd)
        finally:
            os.close(fd)
        files.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            files.unlink(draft)
        raise
    files.sync_directory(path.parent)


def _between(path: Path, below: Path | None) -> list[Path]:
    return [] if below is None else [place for place in path.parents if below in place.parents]


def _take_after(fd: int, path: Path, *, executable: bool, private: bool) -> None:
    """Copy the owner, group and permissions of a file to the new file that replaces it."""
    try:
        old = os.lstat(path)
    except FileNotFoundError:
        files.keep_owner(fd, os.stat(path.parent))
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        mode |= (mode & 0o444) >> 2 if executable else 0
    else:
        files.keep_owner(fd, old)
        with contextlib.suppress(OSError, AttributeError):  # a group that we are not in
            os.fchown(fd, -1, old.st_gid)
        mode = stat.S_IMODE(old.st_mode)
    if hasattr(os, "fchmod"):
        os.fchmod(fd, 0o600 if private else mode)


def remove(path: Path) -> bool:
    """Remove a file; return whether it existed."""
    try:
        path.unlink()
    except _GONE:
        return False
    return True


def fault(path: Path, *, is_folder: bool = False) -> str | None:
    """Return why a file cannot be read or written, with the remedy; None if it can.

    Args:
        path: The file. It may be missing.
        is_folder: Whether it has to be a directory.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return None
    what = "directory" if is_folder else "file"
    if stat.S_ISLNK(mode):
        return f"it is a symbolic link: replace it with the {what} that it points to"
    if is_folder or stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        return "it is a directory, and must be a file: rename or remove it"
    return PIPE


def _refused(path: Path) -> GitError | None:
    found = fault(path)
    return None if found is None else GitError("git", reason=f"{shown(path)}: {found}")


def _too_large(path: Path, limit: int) -> GitError:
    reason = f"it is larger than {limit // 2**20} MiB: shorten it, or bring it back from git"
    return GitError("git", reason=f"{shown(path)}: {reason}")
