"""The repository that contains a store, as git sees it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import attrs

from taskstore._git.files import PIPE
from taskstore._git.run import PLACES, Git, refused, shown
from taskstore._log.layout import Layout
from taskstore.errors import CommitNotFoundError, GitError

LOGS = f":(glob)**/{Layout.NAME}/*.jsonl"
"""The pattern of the logs of all stores of a repository, from its root."""

_PATIENCE = 30.0
"""How long git may take to find a repository, in seconds. It would wait for a pipe forever."""

_HARMLESS = (stat.S_IFREG, stat.S_IFDIR)

_GIT = ".git"
_REFUSED_BARE = "safe.bareRepository"
# A bare repository is refused, because it may have come with a clone.
_NO_WORK_TREE = ("not a git repository", "a work tree", _REFUSED_BARE)


@attrs.frozen
class Repository:
    """A repository with a work tree.

    Attributes:
        git: Git, running at the root of the work tree.
        top: The root of the work tree.
        git_dir: The directory of this work tree's HEAD and index.
        common_dir: The directory that all work trees share, with the configuration.
    """

    git: Git
    top: Path
    git_dir: Path
    common_dir: Path

    @classmethod
    def find(cls, store: Path) -> Repository | None:
        """Return the repository that contains a store directory; None if there is none.

        The search starts at the parent. Somebody who can push to the repository can make the store
        directory itself a bare repository, and git would run commands from its configuration.

        Raises:
            GitError: Git cannot be run, does not trust the repository, or would wait for a pipe.
        """
        place = _real_place(store)
        found = cls.around(place.parent)
        if found is not None:
            found.check_way(place)
        return found

    @classmethod
    def around(cls, folder: Path) -> Repository | None:
        """Return the repository that contains a folder; None if there is none.

        The environment may name it, as for a hook, if that repository contains the folder.

        Raises:
            GitError: Git cannot be run, or does not trust the repository.
        """
        place = _nearest_directory(folder)
        found = cls._read(Git.elsewhere(place))
        if any(name in os.environ for name in PLACES) and (here := cls._named(place)) is not None:
            # Either in the repository around it, or in one that only the environment can name.
            return here if found is None or found.git_dir == here.git_dir else found
        return found

    @classmethod
    def has_no_work_tree(cls, store: Path) -> bool:
        """Return whether a store is inside a git directory: a bare repository, or `.git`.

        Raises:
            GitError: Git cannot be run.
        """
        git = Git.elsewhere(_nearest_directory(_real_place(store).parent))
        answer = git.ask("rev-parse", "--is-inside-git-dir")
        return answer.text == "true" or _REFUSED_BARE in answer.message

    @classmethod
    def _named(cls, place: Path) -> Repository | None:
        """Return the repository that the environment names, if its work tree contains `place`."""
        # If no work tree is named, it is the working directory.
        found = cls._read(Git(Path.cwd()))
        if found is None or not place.resolve().is_relative_to(found.top):
            return None
        places: dict[str, str | None] = {
            "GIT_DIR": str(found.git_dir),
            "GIT_WORK_TREE": str(found.top),
            "GIT_PREFIX": None,
        }
        if index := os.environ.get("GIT_INDEX_FILE"):
            places["GIT_INDEX_FILE"] = os.path.abspath(index)
        return attrs.evolve(found, git=Git(found.top, places))

    @classmethod
    def _read(cls, git: Git) -> Repository | None:
        places = ("--show-toplevel", "--absolute-git-dir", "--git-common-dir")
        call = ("rev-parse", *places)
        answer = git.ask(*call, timeout=_PATIENCE)
        if answer.status != 0:
            if any(text in answer.message for text in _NO_WORK_TREE):
                return None
            raise refused(call, answer)
        found = answer.text.split("\n")
        if len(found) != len(places):  # the name of a directory has a newline
            found = [git.run("rev-parse", place).text for place in places]
        top, git_dir = Path(found[0]).resolve(), Path(found[1])
        is_named = "GIT_DIR" in os.environ and "GIT_DIR" not in git.environment
        if not (is_named or git_dir.name == _GIT or os.path.lexists(top / _GIT)):
            return None  # embedded in the work tree of another, and not refused by an older git
        common = git.directory / found[2]
        return cls(attrs.evolve(git, directory=top), top, git_dir, common.resolve())

    def name_of(self, path: Path) -> str:
        """Return the name that git has for a file: its path from the root of the work tree.

        Raises:
            GitError: A symbolic link on the way leads out of the work tree.
        """
        place = _real_place(path)
        try:
            return place.relative_to(self.top).as_posix()
        except ValueError:
            reason = f"{shown(path)} leads out of the work tree {shown(self.top)}"
            remedy = "put the files themselves in the place of the symbolic link"
            raise GitError("git", reason=f"{reason}: {remedy}") from None

    def check_way(self, folder: Path) -> None:
        """Make sure that git does not wait for a file of attributes or ignore rules.

        Raises:
            GitError: A pipe or a device has the name of such a file.
        """
        folders = [each for each in (folder, *folder.parents) if each.is_relative_to(self.top)]
        paths = [each / name for each in folders for name in (".gitattributes", ".gitignore")]
        paths += [self.common_dir / "info" / name for name in ("attributes", "exclude")]
        for path in (*paths, self.top / ".gitmodules"):
            with contextlib.suppress(OSError):
                if stat.S_IFMT(path.stat().st_mode) not in _HARMLESS:
                    raise GitError("git", reason=f"{shown(path)}: {PIPE}")

    def embedded(self, store: Path) -> list[Path]:
        """Return the directories, from a store up to the root, that git treats as repositories."""
        place = _real_place(store)
        folders = [folder for folder in (place, *place.parents) if self.top in folder.parents]
        return [folder for folder in folders if _is_repository(folder)]

    def stores(self) -> list[Path]:
        """Return the store directories that have a log in the index."""
        names = self.git.run("ls-files", "-z", "--", LOGS, literal=False).fields
        return sorted({self.top / os.path.dirname(name) for name in names})

    def attributes(self, name: str, *attributes: str) -> dict[str, str]:
        """Return the attributes that apply to a file, from all places that git reads."""
        fields = self.git.run("check-attr", "-z", *attributes, "--", name).fields
        return dict(zip(fields[1::3], fields[2::3], strict=True))

    def ignored(self, names: Sequence[str]) -> list[str]:
        """Return the files that git ignores, out of some.

        Raises:
            GitError: Git refused.
        """
        # This command reads names literally, and refuses the option for it.
        read = b"".join(b"./%b\0" % os.fsencode(name) for name in names)
        call = ("check-ignore", "-z", "--stdin")
        answer = self.git.ask(*call, stdin=read, literal=False)
        if answer.status not in (0, 1):
            raise refused(call, answer)
        return [name.removeprefix("./") for name in answer.fields]

    def setting(self, name: str) -> str | None:
        """Return the value of a setting here; None if there is none."""
        answer = self.git.ask("config", "-z", "--get", name)
        if answer.status not in (0, 1):
            raise refused(("config",), answer)
        return os.fsdecode(answer.data.removesuffix(b"\0")) if answer.status == 0 else None

    def revision(self, name: str) -> str:
        """Return the id of the commit with a name.

        Raises:
            CommitNotFoundError: There is no such commit.
        """
        # A name that begins with a dash would be an option.
        if not _can_be_argument(name) or name.startswith("-"):
            raise CommitNotFoundError(name)
        answer = self.git.ask("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if answer.status != 0:
            raise CommitNotFoundError(name, is_shallow=self.is_shallow(), status=answer.status)
        return answer.text

    def is_shallow(self) -> bool:
        """Return whether this clone lacks older commits."""
        return (self.common_dir / "shallow").is_file()

    def empty_tree(self) -> str:
        """Return the id of a tree without files."""
        return self.git.run("hash-object", "-t", "tree", "--stdin").text

    def has_commits(self) -> bool:
        """Return whether HEAD exists. It does not in a new repository."""
        return self.git.ask("rev-parse", "--verify", "--quiet", "HEAD").status == 0


def _can_be_argument(value: object) -> bool:
    """Return whether a program can be given a value: a text without NUL and lone surrogates."""
    try:
        return isinstance(value, str) and value != "" and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _real_place(path: Path) -> Path:
    """Return a path without links, except in its last name, which is not followed."""
    if path.name in ("", ".."):
        return path.resolve()
    return path.parent.resolve() / path.name


def _is_repository(folder: Path) -> bool:
    """Return whether git would treat a directory as a repository."""
    if os.path.lexists(folder / _GIT):
        return True
    is_whole = all((folder / name).is_dir() for name in ("objects", "refs"))
    return os.path.lexists(folder / "HEAD") and (is_whole or os.path.lexists(folder / "commondir"))


def _nearest_directory(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
