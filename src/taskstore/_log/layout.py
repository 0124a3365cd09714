"""The store directory: its files, and how it is created and updated."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import attrs

from taskstore._format.names import check_collection_name
from taskstore._format.problems import Problem
from taskstore._log import files
from taskstore._log.digest import Digester
from taskstore._log.files import access
from taskstore._log.trust import Mark
from taskstore.errors import (
    ConfigError,
    InvalidNameError,
    StoreAccessError,
    StoreNotFoundError,
    StoreOwnerError,
    StoreVersionError,
)

_SUFFIX = ".jsonl"


@attrs.frozen
class Layout:
    """The paths of one store directory. Nothing outside it is ever changed."""

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

    @cached_property
    def mark(self) -> Mark:
        """The mark of the clone that contains the directory. It is created if missing.

        Raises:
            StoreAccessError: It can be neither read nor created.
        """
        return Mark.of(self.directory)

    @cached_property
    def reader_mark(self) -> Mark:
        """The same for a store that writes nothing: if there is no mark, one that fits nothing."""
        return Mark.of_reader(self.directory)

    @cached_property
    def digester(self) -> Digester:
        """The digester for the logs of this clone."""
        return Digester(self.mark.key("digest"))

    @cached_property
    def reader_digester(self) -> Digester:
        """The same for a store that writes nothing."""
        return Digester(self.reader_mark.key("digest"))

    @property
    def version_path(self) -> Path:
        """The version of the directory's format."""
        return self.directory / ".version"

    @property
    def config_path(self) -> Path:
        """The tracked settings. The file may be missing."""
        return self.directory / "config.toml"

    @property
    def ignore_path(self) -> Path:
        """The file with the names that git ignores."""
        return self.directory / ".gitignore"

    def log_path(self, collection: str) -> Path:
        """Return the log of a collection, whose name has been checked."""
        # Needed several times in each unit of work, and a Path takes microseconds to create.
        path = self._log_paths.get(collection)
        if path is None:
            path = self._log_paths[collection] = self.directory / f"{collection}{_SUFFIX}"
        return path

    def log_name(self, collection: str) -> str:
        """Return the path of a collection's log as text, which is enough for a stat."""
        return f"{self._logs}{collection}{_SUFFIX}"

    @cached_property
    def _logs(self) -> str:
        return os.path.join(self.directory, "")

    def stat_log(self, collection: str) -> os.stat_result | None:
        """Return the stat of a collection's log; None if it is missing or not a regular file.

        Raises:
            StoreAccessError: The directory may not be searched.
        """
        name = self.log_name(collection)
        try:
            found = os.lstat(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreAccessError(
                name, operation="read", reason=error.strerror or str(error), errno=error.errno
            ) from error
        return found if stat.S_ISREG(found.st_mode) else None

    def collections(self) -> tuple[list[str], list[Problem]]:
        """Return the sorted names of the collections that have a log, and the strays.

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

    def state_mode(self) -> int:
        """Return the mode of a file with content of logs: as private as the most private log.

        Raises:
            StoreNotFoundError: There is no such directory.
            StoreAccessError: It cannot be read.
        """
        mode = 0o666
        with self._access(self.directory, "read"), os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        mode &= entry.stat(follow_symlinks=False).st_mode
        # The owner must be able to write state, even if only others may write a log.
        return mode | stat.S_IRUSR | stat.S_IWUSR

    def restrict_state(self) -> None:
        """Restrict a cache and a journal that are more readable than the logs.

        Raises:
            StoreAccessError: The operating system refused.
        """
        allowed = self.state_mode()
        cache = os.fspath(self.cache_path)
        for name in (cache, f"{cache}-wal", f"{cache}-shm", os.fspath(self.journal_path)):
            try:
                mode = os.lstat(name).st_mode
            except FileNotFoundError:
                continue
            if stat.S_ISREG(mode) and mode & 0o666 & ~allowed:
                with self._access(Path(name), "protect"):
                    os.chmod(name, stat.S_IMODE(mode) & allowed)

    def create(self) -> None:
        """Create the directory and its parents durably; existing ones stay.

        Raises:
            StoreAccessError: The operating system refused.
            StoreVersionError: The directory exists and was written by a newer release.
        """
        self.check_place()
        with self._access(self.directory, "create"):
            missing = [self.directory, *self.directory.parents]
            missing = [path for path in missing if not path.exists()]
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in missing:
                files.sync_directory(path.parent)
        self.prepare()

    def prepare(self) -> None:
        """Check the version, then write the version file and the ignore rules if they are missing.

        Raises:
            StoreVersionError: The version is newer than this release supports, or unknown.
            StoreAccessError: The operating system refused.
        """
        self.check_place()
        if self.check_version() is None:
            with self._access(self.version_path, "write"):
                files.put_whole(self.version_path, str(self.VERSION).encode())
        self._complete_ignore()

    def check_version(self) -> int | None:
        """Return the directory's version; None if it has no version file.

        Raises:
            StoreVersionError: The version is newer than this release supports, or unknown.
            StoreAccessError: It cannot be read.
        """
        path = self.version_path
        try:
            text = files.read_small(path).decode(errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._version_error(error) from error
        # A spelling that int() accepts but nobody would write is also unknown.
        if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= self.VERSION:
            return int(text)
        raise StoreVersionError(self.directory, found=text, supported=self.VERSION)

    def _version_error(self, error: OSError) -> StoreAccessError:
        path = self.version_path
        fault = files.small_file_fault(path)
        if fault is None:
            reason = error.strerror or str(error)
            return StoreAccessError(path, operation="read", reason=reason, errno=error.errno)
        remedy = f"then restore it, or write {self.VERSION} to a file of that name"
        return StoreAccessError(
            path, operation="read", reason=fault, errno=error.errno, remedy=remedy
        )

    @classmethod
    def find(
        cls,
        start: str | os.PathLike[str] = ".",
        *,
        is_safe: Callable[[Path], bool] = lambda directory: False,
    ) -> Path:
        """Return the nearest store directory in `start` or a parent directory.

        Args:
            start: Where to look first.
            is_safe: Returns whether the user trusts a store that belongs to another user.

        Raises:
            StoreNotFoundError: There is no store.
            StoreOwnerError: The nearest store belongs to another user, who is not trusted.
            StoreAccessError: The nearest store is a symbolic link, or cannot be looked at.
        """
        origin = Path(start).absolute()
        for folder in (origin, *origin.parents):
            candidate = folder / cls.NAME
            with access(candidate, "open"):
                is_there = candidate.is_dir()
            if is_there:
                cls(candidate).check_place()
                found = os.lstat(candidate)
                if not (files.is_own(found) or is_safe(candidate)):
                    raise StoreOwnerError(candidate, owner=found.st_uid)
                return candidate
        raise StoreNotFoundError(start, searched_upwards=True)

    def check_place(self) -> None:
        """Refuse a store directory that is a symbolic link. It may be missing.

        Raises:
            StoreAccessError: It is a link. A clone could bring one, and everything written into
                the store would be written to its target.
        """
        if os.path.islink(self.directory):
            reason = (
                "it is a symbolic link, which a clone may have brought: name the directory that "
                f"it leads to, {os.path.realpath(self.directory)!r}"
            )
            raise StoreAccessError(self.directory, operation="open", reason=reason)

    def read_config(self) -> str:
        """Return the text of the settings; empty if there is no file.

        Raises:
            ConfigError: They cannot be read, or are not text.
        """
        path = self.config_path
        try:
            return files.read_small(path).decode()
        except FileNotFoundError:
            return ""
        except UnicodeDecodeError:
            raise ConfigError(path, reason="not UTF-8") from None
        except OSError as error:
            raise ConfigError(
                path, reason=files.small_file_fault(path, error) or str(error)
            ) from error

    def write_config(self, text: str) -> None:
        """Replace the settings, as a whole or not at all.

        Raises:
            StoreAccessError: The operating system refused.
        """
        with self._access(self.config_path, "write"):
            files.put_whole(self.config_path, text.encode())

    def ignore_problem(self) -> Problem | None:
        """Return why `.gitignore` cannot be used; None if it can or is missing."""
        path = self.ignore_path
        reason = files.small_file_fault(path)
        return None if reason is None else Problem(None, str(path), None, reason)

    def missing_ignored(self) -> list[str]:
        """Return the names that `.gitignore` lacks; none if it cannot be read."""
        old = self._read_ignore()
        return [] if old is None else _missing(old, self.IGNORED)

    def ignore(self, name: str) -> None:
        """Make git ignore a file of the store.

        Raises:
            StoreAccessError: The operating system refused.
        """
        self._complete_ignore((name,))

    def _complete_ignore(self, names: tuple[str, ...] = IGNORED) -> None:
        old = self._read_ignore()
        # If it cannot be read, that is a problem, but the store works without it.
        if old is None or not (missing := _missing(old, names)):
            return
        gap = b"\n" if old and not old.endswith(b"\n") else b""
        with self._access(self.ignore_path, "write"):
            lines = [b"%b\n" % name.encode() for name in missing]
            files.put_whole(self.ignore_path, b"".join([old, gap, *lines]))

    def _read_ignore(self) -> bytes | None:
        try:
            return files.read_small(self.ignore_path)
        except FileNotFoundError:
            return b""
        except OSError:
            return None

    @contextmanager
    def _access(self, path: Path, operation: str) -> Iterator[None]:
        with access(path, operation):
            try:
                yield
            except FileNotFoundError as error:
                if operation == "read":
                    raise StoreNotFoundError(self.directory) from error
                raise


def _missing(ignore: bytes, names: tuple[str, ...]) -> list[str]:
    present = {line.strip() for line in ignore.splitlines()}
    return [name for name in names if name.encode() not in present]


def _why_no_log(entry: os.DirEntry[str]) -> str | None:
    try:
        check_collection_name(entry.name.removesuffix(_SUFFIX))
    except InvalidNameError as error:
        return f"not a collection: {error}"
    if not entry.is_file(follow_symlinks=False):
        return "not a collection: not a regular file"
    return None
