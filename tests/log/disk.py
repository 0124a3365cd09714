"""File operations that are watched, failed, cut off, or laid out as a power cut may leave them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from taskstore._log import files

OPERATIONS = (
    "open_file",
    "write",
    "pwrite",
    "sync",
    "sync_directory",
    "truncate",
    "replace",
    "exchange",
    "unlink",
    "set_mtime",
)


class Tap:
    """Calls `before(number, name, arguments)` ahead of every file operation."""

    def __init__(self, patch: pytest.MonkeyPatch, names: tuple[str, ...] = OPERATIONS) -> None:
        self.count = 0
        self.before: Callable[..., None] = lambda number, name, arguments: None
        for name in names:
            patch.setattr(files, name, self._wrap(name, getattr(files, name)))

    def _wrap(self, name: Any, real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            self.before(self.count, name, arguments)
            return real(*arguments, **options)

        return call

    def fail(self, *numbers: Any, code: Any = errno.EIO) -> None:
        """Make the operations with these numbers fail, counted from now."""
        self.count = 0

        def before(number: Any, name: Any, arguments: Any) -> None:
            if number in numbers:
                raise OSError(code, f"injected into {name}")

        self.before = before


@attrs.define
class Operation:
    """One recorded change; `synced` is the moment from which on the disk has it.

    What is `lost` failed to be written once, and no later sync will try again.
    """

    kind: str
    target: object
    arguments: tuple[Any, ...]
    synced: float = float("inf")
    lost: bool = False


class Recorder:
    """Records the changes of files and names below a directory, and which syncs cover them."""

    def __init__(self, patch: Any, directory: Any, ignored: Any = None) -> None:
        self.directory = directory
        self.operations: list[Operation] = []
        self.marks: list[tuple[int, str, object]] = []
        self.ignored = ignored
        self._inodes: dict[int, str] = {}
        self._numbers: dict[int, int] = {}
        for name in ("open_file", "write", "pwrite", "sync", "sync_directory", "truncate"):
            patch.setattr(files, name, getattr(self, f"_{name}")(getattr(files, name)))
        for name in ("replace", "exchange", "unlink"):
            patch.setattr(files, name, getattr(self, f"_{name}")(getattr(files, name)))

    def add(self, kind: Any, target: Any, *arguments: Any) -> None:
        self.operations.append(Operation(kind, target, arguments))

    def mark(self, what: Any, fact: Any) -> None:
        self.marks.append((len(self.operations), what, fact))

    def _key(self, fd: Any) -> Any:
        return self._numbers.get(os.fstat(fd).st_ino, 0)

    def _number(self, path: Any) -> Any:
        return self._numbers.get(os.stat(path).st_ino, 0)

    def number_anew(self, path: Any) -> Any:
        """Number a new file: its inode may be that of one that is gone."""
        number = self._numbers[os.stat(path).st_ino] = len(self.operations) + 1
        return number

    def _open_file(self, real: Any) -> Any:
        def call(path: Any, flags: Any, mode: Any = 0o666) -> Any:
            new = not Path(path).exists()
            fd = real(path, flags, mode)
            if new and flags & os.O_CREAT:
                self.add("name", path.name, self.number_anew(path))
            self._inodes[self._key(fd)] = path.name
            return fd

        return call

    def _write(self, real: Any) -> Any:
        def call(fd: Any, data: Any) -> Any:
            at = os.fstat(fd).st_size
            self.add("write", self._key(fd), at, bytes(data))
            return real(fd, data)

        return call

    def _pwrite(self, real: Any) -> Any:
        def call(fd: Any, data: Any, offset: Any) -> Any:
            self.add("write", self._key(fd), offset, bytes(data))
            return real(fd, data, offset)

        return call

    def _truncate(self, real: Any) -> Any:
        def call(fd: Any, size: Any) -> Any:
            self.add("truncate", self._key(fd), size)
            return real(fd, size)

        return call

    def _replace(self, real: Any) -> Any:
        def call(source: Any, target: Any) -> Any:
            self.add("name", target.name, self._number(source))
            self.add("gone", source.name)
            return real(source, target)

        return call

    def _exchange(self, real: Any) -> Any:
        def call(first: Any, second: Any) -> Any:
            one, other = self._number(first), self._number(second)
            done = real(first, second)
            if done:
                self.add("name", second.name, one)
                self.add("name", first.name, other)
            return done

        return call

    def _unlink(self, real: Any) -> Any:
        def call(path: Any) -> Any:
            self.add("gone", path.name)
            return real(path)

        return call

    def _sync(self, real: Any) -> Any:
        def call(fd: Any) -> Any:
            name = self._inodes[self._key(fd)]
            if name.endswith(".tmp"):
                name = "draft"
            state = "blank" if os.pread(fd, 1, 0) in (b"", b"\0") else "live"
            if self.ignored not in ((name, state), name):
                self._cover(("write", "truncate"), self._key(fd))
            return real(fd)

        return call

    def _sync_directory(self, real: Any) -> Any:
        def call(path: Any) -> Any:
            if self.ignored not in ("directory", self._purpose()):
                self._cover(("name", "gone"), None)
            return real(path)

        return call

    def _purpose(self) -> Any:
        """What a sync of the directory is for: the kind of the first name that needs it."""
        names = [
            str(operation.target)
            for operation in self.operations
            if operation.kind == "name" and operation.synced == float("inf")
        ]
        for kind, mark in (("journal", "journal"), ("git", "git"), ("draft", ".tmp")):
            if any(mark in name for name in names):
                return "directory", kind
        return "directory", "log" if names else "nothing"

    def _cover(self, kinds: Any, key: Any) -> None:
        for operation in self.operations:
            if operation.kind in kinds and key in (None, operation.target) and not operation.lost:
                operation.synced = min(operation.synced, len(self.operations))


def lay(directory: Any, base: Any, operations: Any, moment: Any, chance: Any) -> None:
    """Lay out one state that a power cut at `moment` may leave."""
    names = dict(base)
    inodes: dict[Any, bytearray] = {}
    for operation in operations[:moment]:
        sure = operation.synced <= moment
        taken = sure or chance.random() < 0.5
        if operation.kind == "name" and taken:
            names[operation.target] = operation.arguments[0]
        elif operation.kind == "gone" and taken:
            names.pop(operation.target, None)
        elif operation.kind == "truncate" and taken:
            data = inodes.setdefault(operation.target, bytearray())
            size = operation.arguments[0]
            data[size:] = b"\0" * max(0, size - len(data))
        elif operation.kind == "write" and taken:
            write(inodes.setdefault(operation.target, bytearray()), operation, sure, chance)
    for name, inode in names.items():
        (directory / name).write_bytes(inodes.get(inode, b""))


def write(data: Any, operation: Any, sure: Any, chance: Any) -> None:
    """Apply a write, torn perhaps where it is not sure."""
    offset, new = operation.arguments
    if not sure:
        torn = chance.choice(["whole", "whole", "less", "hole"])
        cut = chance.randrange(len(new) + 1)
        if torn == "less":
            new = new[:cut]
        elif torn == "hole":
            new = b"\0" * cut + new[cut:]
    data.extend(b"\0" * (offset - len(data)))
    data[offset : offset + len(new)] = new
