"""Copies of logs as they once were: store directories that nobody writes to, with a cache each.

They are kept where the mark of the clone is, outside of all that a clone or an archive can bring.
Their names follow from what they hold, so a copy never changes. The ones used last are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

import attrs

from taskstore._format.lines import LineError, decode_key
from taskstore._log import files
from taskstore._log.digest import LogDigest
from taskstore._log.files import access
from taskstore._log.homes import Home
from taskstore._log.layout import Layout
from taskstore._log.lines import split_lines
from taskstore._log.trust import Mark

KEPT = 8
"""How many copies are kept beside those that are in use."""

KEPT_BYTES = 2**30
"""How many bytes the copies that are not in use may have together, caches included."""

_PURPOSE = "as-of"
_USED = "used"
_STATE = "state"
_DRAFT = ".tmp"
_DRAFT_SECONDS = 3600.0
_CHUNK = 1024 * 1024

Fill = Callable[[Path], None]
"""Writes the logs of a copy into a directory."""


@attrs.frozen
class SnapshotLayout(Layout):
    """The paths of a copy. It contains the proof that its cache is ours.

    Attributes:
        secret: What its mark follows from.
    """

    secret: bytes = attrs.field(repr=False, eq=False)

    @cached_property
    def mark(self) -> Mark:
        """The mark of the copy."""
        return Mark(Home(self.directory / _STATE), self.secret)

    @cached_property
    def reader_mark(self) -> Mark:
        """The same."""
        return self.mark


@attrs.define
class Snapshot:
    """A copy that is in use until it is released.

    Attributes:
        layout: Its paths.
        is_kept: Whether it stays after the release.
    """

    layout: SnapshotLayout
    is_kept: bool
    _used: int | None = None

    def release(self) -> None:
        """Say that the copy is not in use any more. A second call does nothing."""
        fd, self._used = self._used, None
        if fd is not None:
            os.close(fd)
        if not self.is_kept:
            shutil.rmtree(self.layout.directory, ignore_errors=True)


def key_of(parts: Mapping[str, str | bytes]) -> str:
    """Return the name of the copy that holds these things.

    Args:
        parts: What it holds, by name: an id of the content, or the content.
    """
    digest = hashlib.sha256()
    for name, part in sorted(parts.items()):
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(name)} {name} {len(data)} ".encode() + data)
    return digest.hexdigest()[:32]


def snapshot(store: Layout, key: str, fill: Fill, *, keep: bool) -> Snapshot:
    """Return the copy with a name. If there is none, create it with `fill`.

    Args:
        store: The store that it is a copy of.
        key: Its name; see `key_of`.
        fill: Called with a new directory.
        keep: Whether it may be written beside the mark of the clone; otherwise it is a temporary
            directory that `release` removes.

    Raises:
        StoreAccessError: The operating system refused.
    """
    if not keep:
        folder = Path(tempfile.mkdtemp(prefix="taskstore-"))
        found = Snapshot(SnapshotLayout(folder, secrets.token_bytes(32)), is_kept=False)
        try:
            (folder / _STATE).mkdir(0o700)
            fill(folder)
        except BaseException:
            found.release()
            raise
        return found
    mark = Mark.of(store.directory, own=True)
    root = private_folder(mark)
    with access(root, "write"):
        fd = _used(root / key)
        if fd is None:
            fd = _made(root, key, fill)
            _prune(root)
    return Snapshot(SnapshotLayout(root / key, mark.key(f"{_PURPOSE} cache")), True, fd)


@contextlib.contextmanager
def others(copy: Snapshot) -> Iterator[list[Path]]:
    """Give the other kept copies of a store, which nobody removes in the block.

    Args:
        copy: A kept copy.
    """
    held = []
    try:
        found = []
        for _, folder in _copies(copy.layout.directory.parent):
            if folder != copy.layout.directory and not folder.name.endswith(_DRAFT):
                fd = _used(folder, touch=False)
                if fd is not None:
                    held.append(fd)
                    found.append(folder)
        yield found
    finally:
        for fd in held:
            os.close(fd)


def private_folder(mark: Mark) -> Path:
    """Return the directory for copies of old logs. Create it if there is none.

    Its name follows from the secret of the clone: an archive can bring a git directory, and the
    copies in it would be believed. Those of another secret are removed.

    Raises:
        StoreAccessError: The operating system refused.
    """
    assert mark.home is not None
    root = mark.home / f"{_PURPOSE}-{mark.key(_PURPOSE).hex()[:16]}"
    with access(root, "write"):
        if not root.is_dir():
            files.make_directories(root, 0o700)
            for other in mark.home.glob(f"{_PURPOSE}*"):
                if other != root:
                    shutil.rmtree(other, ignore_errors=True)
    return root


def _used(folder: Path, *, touch: bool = True) -> int | None:
    """Return an open file that says that a copy is in use; None if there is no copy.

    Args:
        folder: The copy.
        touch: Whether this counts as the last use.
    """
    while True:
        try:
            fd = files.open_file(folder / _USED, os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            _lock(fd, exclusive=False)
            # It may have been removed before it was locked.
            if files.same_file(fd, folder / _USED):
                if touch:
                    os.utime(folder / _USED)
                kept, fd = fd, -1
                return kept
        finally:
            if fd >= 0:
                os.close(fd)


def _made(root: Path, key: str, fill: Fill) -> int:
    draft = root / f"{key}.{secrets.token_hex(4)}{_DRAFT}"
    draft.mkdir(0o700)
    fd = files.open_file(draft / _USED, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _lock(fd, exclusive=False)
        (draft / _STATE).mkdir(0o700)
        fill(draft)
        try:
            files.replace(draft, root / key)
        except OSError:
            # Another process was quicker.
            other = _used(root / key)
            if other is None:
                raise
            shutil.rmtree(draft, ignore_errors=True)
            os.close(fd)
            return other
    except BaseException:
        os.close(fd)
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return fd


def _prune(root: Path) -> None:
    """Remove the copies that were not used for the longest time, and drafts of dead processes."""
    copies = sorted(_copies(root), reverse=True)
    total = 0
    for position, (_, folder) in enumerate(copies):
        total += _size(folder)
        is_old_draft = folder.name.endswith(_DRAFT)
        if position > KEPT or (position and total > KEPT_BYTES) or is_old_draft:
            _remove(folder)


def _copies(root: Path) -> Iterator[tuple[float, Path]]:
    for folder in root.iterdir():
        if not folder.is_dir():
            continue  # the history
        used = folder / _USED
        with contextlib.suppress(OSError):
            is_whole = used.exists()
            when = (used if is_whole else folder).lstat().st_mtime
            if is_whole or time.time() - when > _DRAFT_SECONDS:
                yield when, folder


def _size(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            total += path.lstat().st_size
    return total


def _remove(folder: Path) -> None:
    """Remove a copy, unless somebody uses it."""
    try:
        fd = files.open_file(folder / _USED, os.O_RDWR)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        if _lock(fd, exclusive=True):
            # Without this name nobody takes it for a copy while it is removed.
            files.unlink(folder / _USED)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(fd)


def _lock(fd: int, *, exclusive: bool) -> bool:
    """Lock a file, shared or exclusively. A shared lock waits for a removal of the file."""
    try:
        import fcntl
    except ImportError:
        return True  # Windows removes no directory that has an open file.
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
    except BlockingIOError:
        return False
    return True


def copy_until(source: Path, target: Path, size: int, until_us: int, digest: LogDigest) -> str:
    """Copy the records of a log that are not newer than a time.

    Args:
        source: The log.
        target: The new file.
        size: How many bytes of the log count.
        until_us: The time, in microseconds since the epoch.
        digest: A new digest, of the bytes that are read.

    Returns:
        The digest of what was read.

    Raises:
        OSError: A file cannot be read or written.
    """
    fd = files.open_log(source)
    try:
        out = files.open_file(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            kept: list[bytes] = []
            for line in split_lines(_digested(fd, size, digest)):
                if line.raw is not None and _is_until(line.raw, until_us):
                    kept.append(line.raw)
                if len(kept) >= 1000:
                    files.write_all(out, b"\n".join([*kept, b""]))
                    kept.clear()
            files.write_all(out, b"\n".join([*kept, b""]))
        finally:
            os.close(out)
    finally:
        os.close(fd)
    return digest.text()


def _digested(fd: int, size: int, digest: LogDigest) -> Iterator[bytes]:
    at = 0
    while at < size:
        data = files.read_at(fd, min(_CHUNK, size - at), at)
        if not data:
            return
        digest.update(data)
        at += len(data)
        yield data


def _is_until(raw: bytes, until_us: int) -> bool:
    try:
        return decode_key(raw.removeprefix(b"\xef\xbb\xbf"))[1] <= until_us
    except LineError:
        return False
