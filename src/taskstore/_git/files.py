"""Small files, replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

__all__ = ["read", "remove", "write"]


def read(path: Path) -> bytes | None:
    """Return a file's bytes; None where there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(path: Path, data: bytes, *, executable: bool = False, private: bool = False) -> None:
    """Give a file its content in one step, so that nobody sees half of it.

    Args:
        path: The file; a symbolic link is followed, and stays. Its permissions stay too.
        data: The content.
        executable: Whether a new file may be run by those who may read it.
        private: Whether only its owner may read it.

    Raises:
        OSError: It cannot be written; it is as it was.
    """
    target = path.resolve()
    draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    fd = os.open(draft, flags, 0o600 if private else 0o666)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        draft.chmod(0o600 if private else _mode(target, draft, executable))
        os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _mode(target: Path, draft: Path, executable: bool) -> int:
    try:
        return target.stat().st_mode & 0o7777
    except FileNotFoundError:
        mode = draft.stat().st_mode & 0o7777
        return mode | (mode & 0o444) >> 2 if executable else mode


def remove(path: Path) -> bool:
    """Remove a file; say whether there was one."""
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
