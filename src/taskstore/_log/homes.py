"""Where the secret of a clone is kept: in a place that a clone or an archive cannot bring.

If the store is in a repository of the user, it is the git directory. Otherwise, and if the git
directory may not be written, it is the user's state directory, under the path of the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

from taskstore._log import files

_LONGEST_POINTER = 8192


@attrs.frozen
class Home:
    """A directory for what is private to a clone. It need not exist.

    Attributes:
        path: The directory.
        repository: The git directory that it is in; None for one in the state directory.
    """

    path: Path
    repository: Path | None = None

    @property
    def file_mode(self) -> int:
        """The mode of files in it. In a shared repository, the group may use them too."""
        return 0o660 if self._is_shared() else 0o600

    def make(self) -> None:
        """Make the directory and the parents that it lacks.

        Raises:
            OSError: It cannot be made.
        """
        files.make_directories(self.path, 0o700, more=0o2070 if self._is_shared() else 0)

    def is_writable(self) -> bool:
        """Return whether files can be created in it. A git directory may be read-only."""
        effective = os.access in os.supports_effective_ids
        return os.access(self.path, os.W_OK | os.X_OK, effective_ids=effective)

    def is_linked(self) -> bool:
        """Return whether it is a link elsewhere. Root does not follow links of other users."""
        return os.path.islink(self.path.parent) or os.path.islink(self.path)

    def may_own(self, found: os.stat_result) -> bool:
        """Return whether the owner of a file in it is trusted.

        In a repository of the user, or of the owner of the store, everybody who may write there is
        trusted. In the state directory, others may have created a directory before us.
        """
        return self.repository is not None or files.is_own(found)

    def _is_shared(self) -> bool:
        """Return whether the repository is for a group, as `core.sharedRepository` makes it."""
        return self.repository is not None and bool(os.stat(self.repository).st_mode & stat.S_IWGRP)


def homes_of(directory: Path, *, own: bool = False) -> Iterator[Home]:
    """Yield where the secret of a store may be, the best place first. A moved clone keeps them.

    There is none if the store is not in a repository and no state directory is known.

    Args:
        directory: The store directory.
        own: Whether to leave out the repository of another user who owns the store.
    """
    git, top = _git_directory(directory)
    if git is not None and top is not None and (not own or files.is_own(os.lstat(git))):
        inside = os.fsencode(os.path.relpath(directory, top))
        home = Home(git / "taskstore" / _name(inside), git)
        if not home.is_linked():
            yield home
    if (state := _state_home()) is not None:
        place = os.fsencode(os.path.realpath(directory.parent) + "/" + directory.name)
        yield Home(state / "taskstore" / "stores" / _name(place))


def _name(place: bytes) -> str:
    return hashlib.sha256(place).hexdigest()[:32]


def _state_home() -> Path | None:
    for name in ("TASKSTORE_STATE_HOME", "XDG_STATE_HOME"):
        # The standard says to ignore a relative path.
        if os.path.isabs(named := os.environ.get(name, "")):
            return Path(named)
    if sys.platform == "win32" and (named := os.environ.get("LOCALAPPDATA", "")):
        return Path(named)
    # Without a HOME, and for a user without an account, "~" stays as it is.
    home = os.path.expanduser("~")
    return Path(home, ".local", "state") if os.path.isabs(home) else None


def _git_directory(directory: Path) -> tuple[Path | None, Path | None]:
    """Return the git directory of the nearest work tree and its top; None if it is not ours."""
    for top in directory.parents:
        name = os.path.join(top, ".git")
        try:
            found = os.lstat(name)
        except OSError:
            continue
        git = Path(name) if stat.S_ISDIR(found.st_mode) else None
        if stat.S_ISREG(found.st_mode):
            git = _pointed_to(Path(name))
        return (git, top) if git is not None and _is_ours(git, directory) else (None, None)
    return None, None


def _is_ours(git: Path, directory: Path) -> bool:
    """Return whether this is a git directory of this user or of the store's owner.

    A user of somebody else's store has confirmed that, and root acts for its owner.
    """
    try:
        found = os.lstat(git)
        head = os.lstat(git / "HEAD")
    except OSError:
        return False
    if not stat.S_ISDIR(found.st_mode) or stat.S_ISDIR(head.st_mode):
        return False
    return files.is_own(found) or found.st_uid == _owner(directory)


def _owner(directory: Path) -> int | None:
    for path in (directory, directory.parent):
        with contextlib.suppress(OSError):
            return os.lstat(path).st_uid
    return None


def _pointed_to(pointer: Path) -> Path | None:
    """Return the git directory that a `.git` file names, if that confirms it.

    An archive can bring such a file, and have it lead anywhere. The directory of a linked work
    tree names the file in turn; that of a submodule is in the git directory of a work tree above.
    """
    try:
        git = _named_by(pointer)
        if git is None:
            return None
        back = git / "gitdir"
        if back.is_file():
            named = files.read_small(back)[:_LONGEST_POINTER].decode().strip()
            return git if os.path.realpath(git / named) == os.path.realpath(pointer) else None
        for above in pointer.parents[1:]:
            modules = above / ".git" / "modules"
            if git.is_relative_to(os.path.realpath(modules)) and not modules.is_symlink():
                return git
    except (OSError, UnicodeDecodeError, ValueError):
        return None
    return None


def _named_by(pointer: Path) -> Path | None:
    text = files.read_small(pointer)[:_LONGEST_POINTER].decode()
    if not text.startswith("gitdir:"):
        return None
    return Path(os.path.realpath(pointer.parent / text.removeprefix("gitdir:").strip()))
