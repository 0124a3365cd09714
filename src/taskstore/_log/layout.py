"""The store directory: which files it has, and how it is made and brought up to date."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import attrs

from taskstore._format.names import check_collection_name
from taskstore._format.problems import Problem
from taskstore._log import files
from taskstore.errors import (
    ConfigError,
    InvalidNameError,
    StoreAccessError,
    StoreNotFoundError,
    StoreVersionError,
)

__all__ = ["Layout"]

_SUFFIX = ".jsonl"


@attrs.frozen
class Layout:
    """The paths of one store directory. Nothing outside of it is ever touched."""

    NAME: ClassVar[str] = ".taskstore"
    VERSION: ClassVar[int] = 1
    IGNORED: ClassVar[tuple[str, ...]] = (
        "taskstore.db",
        "taskstore.db-shm",
        "taskstore.db-wal",
        "taskstore.journal*",
        "taskstore.gate",
        "taskstore.turn",
        "*.tmp",
    )

    directory: Path = attrs.field(converter=Path)
    _log_paths: dict[str, Path] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    @cached_property
    def cache_path(self) -> Path:
        """The cache."""
        return self.directory / "taskstore.db"

    @cached_property
    def journal_path(self) -> Path:
        """The journal of a transaction of more than one line."""
        return self.directory / "taskstore.journal"

    @cached_property
    def gate_path(self) -> Path:
        """The file whose lock is the gate."""
        return self.directory / "taskstore.gate"

    @cached_property
    def turn_path(self) -> Path:
        """The file whose lock is the right to be the next at the gate."""
        return self.directory / "taskstore.turn"

    @property
    def version_path(self) -> Path:
        """The version of the directory's format."""
        return self.directory / ".version"

    @property
    def config_path(self) -> Path:
        """The tracked settings; need not exist."""
        return self.directory / "config.toml"

    @property
    def ignore_path(self) -> Path:
        """What git is to leave alone."""
        return self.directory / ".gitignore"

    def log_path(self, collection: str) -> Path:
        """Return the log of a collection, whose name has been checked."""
        # Asked for several times in each unit of work, and a Path takes microseconds to make.
        path = self._log_paths.get(collection)
        if path is None:
            path = self._log_paths[collection] = self.directory / f"{collection}{_SUFFIX}"
        return path

    def log_name(self, collection: str) -> str:
        """Return the path of a collection's log as text: for a stat, which is all it takes."""
        return f"{self._logs}{collection}{_SUFFIX}"

    @cached_property
    def _logs(self) -> str:
        return os.path.join(self.directory, "")

    def collections(self) -> tuple[list[str], list[Problem]]:
        """Return the sorted names of the collections that have a log, and what is no log.

        Raises:
            StoreNotFoundError: There is no such directory.
            StoreAccessError: It cannot be read.
        """
        names: list[str] = []
        problems: list[Problem] = []
        with self._access(self.directory, "read"), os.scandir(self.directory) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not entry.name.endswith(_SUFFIX):
                    continue
                reason = _why_no_log(entry)
                if reason is None:
                    names.append(entry.name.removesuffix(_SUFFIX))
                else:
                    problems.append(Problem(None, entry.path, None, reason))
        return sorted(names), problems

    def create(self) -> None:
        """Make the directory, with its parents, durable; what is there already stays.

        Raises:
            StoreAccessError: The operating system refused.
            StoreVersionError: It is there, of a newer version.
        """
        with self._access(self.directory, "create"):
            missing = [self.directory, *self.directory.parents]
            missing = [path for path in missing if not path.exists()]
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in missing:
                files.sync_directory(path.parent)
        self.prepare()

    def prepare(self) -> None:
        """Check the version, and add the version file and the ignored names where they miss.

        Raises:
            StoreVersionError: The version is greater than ours, or none that we know.
            StoreAccessError: The operating system refused.
        """
        if self.check_version() is None:
            with self._access(self.version_path, "write"):
                self._write_whole(self.version_path, str(self.VERSION).encode())
        self._complete_ignore()

    def check_version(self) -> int | None:
        """Return the directory's version, None where it has no version file.

        Raises:
            StoreVersionError: It is greater than ours, or none that we know.
            StoreAccessError: It cannot be read.
        """
        with self._access(self.version_path, "read"):
            try:
                text = self.version_path.read_bytes().decode(errors="replace").strip()
            except FileNotFoundError:
                return None
        # Any spelling that int() takes and a person would not write is unknown to us as well.
        if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= self.VERSION:
            return int(text)
        raise StoreVersionError(self.directory, found=text, supported=self.VERSION)

    @classmethod
    def find(cls, start: str | os.PathLike[str] = ".") -> Path:
        """Return the nearest store directory in `start` or above.

        Raises:
            StoreNotFoundError: There is none.
        """
        origin = Path(start).absolute()
        for folder in (origin, *origin.parents):
            candidate = folder / cls.NAME
            if candidate.is_dir():
                return candidate
        raise StoreNotFoundError(start, searched_upwards=True)

    def read_config(self) -> str:
        """Return the text of the settings; none where there is no file.

        Raises:
            ConfigError: They are no text, or no file.
            StoreAccessError: The operating system refused.
        """
        path = self.config_path
        try:
            return path.read_bytes().decode()
        except FileNotFoundError:
            return ""
        except UnicodeDecodeError:
            raise ConfigError(path, reason="not UTF-8") from None
        except OSError as error:
            if path.is_dir():
                reason = "it is a directory, and the settings are a file: rename or remove it"
                raise ConfigError(path, reason=reason) from None
            reason = error.strerror or str(error)
            raise StoreAccessError(
                path, operation="read", reason=reason, errno=error.errno
            ) from error

    def write_config(self, text: str) -> None:
        """Replace the settings, wholly or not at all.

        Raises:
            StoreAccessError: The operating system refused.
        """
        with self._access(self.config_path, "write"):
            self._write_whole(self.config_path, text.encode())

    def _complete_ignore(self) -> None:
        path = self.ignore_path
        with self._access(path, "write"):
            # A link is somebody's own arrangement, and what it leads to may lie outside.
            if path.is_symlink():
                return
            old = path.read_bytes() if path.exists() else b""
            present = {line.strip() for line in old.splitlines()}
            missing = [name.encode() for name in self.IGNORED if name.encode() not in present]
            if missing:
                gap = b"\n" if old and not old.endswith(b"\n") else b""
                self._write_whole(path, b"".join([old, gap, *(b"%b\n" % name for name in missing)]))

    def _write_whole(self, path: Path, data: bytes) -> None:
        """Replace a small file, so that after a power cut either content is there whole."""
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        fd = files.open_file(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            try:
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

    @contextmanager
    def _access(self, path: Path, operation: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if operation == "read" and isinstance(error, FileNotFoundError):
                raise StoreNotFoundError(self.directory) from error
            reason = error.strerror or str(error)
            raise StoreAccessError(
                path, operation=operation, reason=reason, errno=error.errno
            ) from error


def _why_no_log(entry: os.DirEntry[str]) -> str | None:
    try:
        check_collection_name(entry.name.removesuffix(_SUFFIX))
    except InvalidNameError as error:
        return f"no collection: {error}"
    if not entry.is_file(follow_symlinks=False):
        return "no collection: no regular file"
    return None
