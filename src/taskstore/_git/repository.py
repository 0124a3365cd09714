"""The repository that a store lies in, as git sees it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import attrs

from taskstore._git.run import PLACES, Git, refused
from taskstore._log.layout import Layout
from taskstore.errors import GitError

__all__ = ["LOGS", "Repository"]

LOGS = f":(glob)**/{Layout.NAME}/*.jsonl"
"""The pattern of the logs of all stores of a repository, from its root."""


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
    def find(cls, directory: Path) -> Repository | None:
        """Return the repository of a directory; None where there is none.

        The environment may name it, as for a hook, if the directory lies in that one.

        Raises:
            GitError: Git cannot be run, or does not trust the repository.
        """
        place = _nearest_directory(directory)
        found = cls._read(Git.elsewhere(place))
        if any(name in os.environ for name in PLACES) and (here := cls._named(place)) is not None:
            # Of the one that it lies in, or of one that only the environment can name.
            return here if found is None or found.git_dir == here.git_dir else found
        return found

    @classmethod
    def has_no_work_tree(cls, directory: Path) -> bool:
        """Say whether a directory lies in git's own: in a bare repository, or inside of .git.

        Raises:
            GitError: Git cannot be run.
        """
        git = Git.elsewhere(_nearest_directory(directory))
        return git.ask("rev-parse", "--is-inside-git-dir").text == "true"

    @classmethod
    def _named(cls, place: Path) -> Repository | None:
        """Return the repository that the environment names, if `place` lies in its work tree."""
        # Where a work tree is not named, it is the directory that we are in.
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
        call = ("rev-parse", "--show-toplevel")
        answer = git.ask(*call)
        if answer.status != 0:
            if "not a git repository" in answer.message or "a work tree" in answer.message:
                return None
            raise refused(call, answer)
        top = Path(answer.text).resolve()
        git_dir = Path(git.run("rev-parse", "--absolute-git-dir").text)
        common = git.directory / git.run("rev-parse", "--git-common-dir").text
        return cls(attrs.evolve(git, directory=top), top, git_dir, common.resolve())

    def name_of(self, path: Path) -> str:
        """Return the name that git has for a file: its path from the root of the work tree."""
        return path.resolve().relative_to(self.top).as_posix()

    def stores(self) -> list[Path]:
        """Return the store directories that have a log in the index."""
        names = self.git.run("ls-files", "-z", "--", LOGS, literal=False).fields
        return sorted({self.top / os.path.dirname(name) for name in names})

    def attributes(self, name: str, *attributes: str) -> dict[str, str]:
        """Return what attributes hold for a file, from all places that git reads them from."""
        fields = self.git.run("check-attr", "-z", *attributes, "--", name).fields
        return dict(zip(fields[1::3], fields[2::3], strict=True))

    def ignored(self, names: Sequence[str]) -> list[str]:
        """Return those of some files that git ignores.

        Raises:
            GitError: Git refused.
        """
        # Names are read as they are here, and this command refuses to be told so.
        read = b"".join(b"./%b\0" % os.fsencode(name) for name in names)
        call = ("check-ignore", "-z", "--stdin")
        answer = self.git.ask(*call, stdin=read, literal=False)
        if answer.status not in (0, 1):
            raise refused(call, answer)
        return [name.removeprefix("./") for name in answer.fields]

    def setting(self, name: str) -> str | None:
        """Return a setting as it holds here; None where there is none."""
        answer = self.git.ask("config", "-z", "--get", name)
        if answer.status not in (0, 1):
            raise refused(("config",), answer)
        return os.fsdecode(answer.data.removesuffix(b"\0")) if answer.status == 0 else None

    def revision(self, name: str) -> str:
        """Return the id of the commit that a name means.

        Raises:
            GitError: There is no such commit.
        """
        answer = self.git.ask("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if answer.status != 0:
            raise GitError(
                "git rev-parse", reason=f"no commit is called {name!r}", status=answer.status
            )
        return answer.text

    def has_commits(self) -> bool:
        """Say whether HEAD is there; it is not in a new repository."""
        return self.git.ask("rev-parse", "--verify", "--quiet", "HEAD").status == 0


def _nearest_directory(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
