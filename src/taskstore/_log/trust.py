"""The clone's mark: a secret that proves which files this clone made.

Everybody who can push to a repository or make an archive can put a cache or a journal beside the
logs. So our own files contain a value that is computed from a random secret. The secret is kept
where a clone cannot bring one: in the git directory, or without git in the user's state directory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from pathlib import Path
from typing import Self

import attrs

from taskstore._log import files
from taskstore._log.files import access
from taskstore._log.homes import Home, homes_of
from taskstore.errors import StoreAccessError

_MARK = "mark"
_SECRET_BYTES = 32
_VERSION = "2"


@attrs.frozen
class Mark:
    """A secret that only this clone knows, and the files beside it."""

    _home: Home | None
    _secret: bytes = attrs.field(repr=False)

    @classmethod
    def of(cls, directory: Path, *, own: bool = False) -> Self:
        """Return the mark of the clone that a store directory is in, made at the first call.

        Args:
            directory: The store directory.
            own: Whether it must belong to the user, even if the repository belongs to another one.

        Raises:
            StoreAccessError: The directory that keeps it cannot be read or written.
        """
        place, secret = Path("~"), None
        failed = OSError("no directory is known to be the user's")
        for home in homes_of(directory, own=own):
            place = home.path
            try:
                secret = secret or _read(home) or _make(home)
                # A git directory that may only be read knows the secret, and keeps no notes.
                if not home.is_writable():
                    home.make()
                if home.is_writable():
                    return cls(home, secret)
                failed = OSError(errno.EROFS, os.strerror(errno.EROFS))
            except OSError as error:
                failed = error
        raise StoreAccessError(
            place,
            operation="write",
            reason=failed.strerror or str(failed),
            errno=failed.errno,
            remedy="the store keeps there what shows that its cache and journal are its own: "
            "allow it, or set TASKSTORE_STATE_HOME to a directory that you can write",
        ) from failed

    @classmethod
    def transient(cls) -> Self:
        """Return a mark that nothing was made with, for a reader that writes nothing."""
        return cls(None, secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def of_reader(cls, directory: Path, *, own: bool = False) -> Self:
        """Return the mark of a clone, or a transient one if it has none. Create nothing."""
        secret, known = None, None
        for home in homes_of(directory, own=own):
            with contextlib.suppress(OSError):
                secret = secret or _read(home)
            if secret is not None:
                known = known or home
                if home.is_writable():
                    return cls(home, secret)
        return cls.transient() if secret is None else cls(known, secret)

    def key(self, purpose: str) -> bytes:
        """Return 32 bytes that are computed from the secret, different for each purpose."""
        return hashlib.blake2b(purpose.encode(), key=self._secret, digest_size=32).digest()

    @property
    def id(self) -> str:
        """A name for the clone, in hexadecimal digits, that does not reveal the secret."""
        return self.key("id")[:16].hex()

    @property
    def home(self) -> Path | None:
        """The directory that keeps what is private to the clone; None for a mark in memory."""
        return None if self._home is None else self._home.path

    def read(self, name: str) -> bytes | None:
        """Return what `write` last stored under a name, if anything.

        Raises:
            StoreAccessError: It cannot be read.
        """
        if self.home is None:
            return None
        path = self.home / name
        with access(path):
            try:
                return files.read_small(path)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, name: str, data: bytes) -> None:
        """Store something small that is private to this clone, and replace the old content.

        Raises:
            StoreAccessError: It cannot be written.
        """
        if self._home is None:
            return
        path = self._home.path / name
        with access(path, "write"):
            # A power cut may take it: then what it proves is rebuilt.
            files.put_whole(path, data, mode=self._home.file_mode, durable=False)


def _read(home: Home) -> bytes | None:
    """Return the secret in a directory; None if it is missing or was copied.

    The file states its own inode, so the copy of a git directory, or one from an archive, gets its
    own mark. The file does not state the device, because its number may change when the machine
    restarts, which may be just when there is a journal to recover.
    """
    try:
        fd = files.open_file(home.path / _MARK, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found = os.fstat(fd)
        words = files.read_at(fd, 512, 0).decode("ascii", "replace").split()
    finally:
        os.close(fd)
    if len(words) != 3 or words[:2] != [_VERSION, str(found.st_ino)]:
        return None
    try:
        secret = bytes.fromhex(words[2])
    except ValueError:
        return None
    return secret if len(secret) == _SECRET_BYTES and home.may_own(found) else None


def _make(home: Home) -> bytes:
    """Make the mark, or return the one that another process was quicker to make."""
    home.make()
    path = home.path / _MARK
    draft = path.with_name(f"{_MARK}.{secrets.token_hex(4)}.tmp")
    fd = files.open_file(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, home.file_mode)
    try:
        secret = secrets.token_bytes(_SECRET_BYTES)
        text = f"{_VERSION} {os.fstat(fd).st_ino} {secret.hex()}\n"
        files.write_all(fd, text.encode())
        files.keep_owner(fd, os.stat(home.path))
        files.sync(fd)
    finally:
        os.close(fd)
    try:
        return _name(draft, home, secret)
    finally:
        with contextlib.suppress(FileNotFoundError):
            files.unlink(draft)


def _name(draft: Path, home: Home, secret: bytes) -> bytes:
    path = home.path / _MARK
    while True:
        try:
            # Unlike a rename it never takes the place of a mark that somebody already uses.
            os.link(draft, path)
        except FileExistsError:
            other = _read(home)
            if other is not None:
                return other
            files.clear_away(path)
        else:
            files.sync_directory(path.parent)
            return secret
