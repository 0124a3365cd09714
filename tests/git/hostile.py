"""Repositories, made by real git, whose files attack a person who clones them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import attrs

from tests.warm import warm

LOG = ".taskstore/plans.jsonl"
EVE = ["-c", "user.name=Eve", "-c", "user.email=eve@example.org"]


def line(number: int, title: str, version: int = 1) -> str:
    """A line of the log."""
    return f'{{"id":"plan-{number:03}","title":"{title}","updated_at":{version}}}\n'


@attrs.frozen
class Hostile:
    """A repository with a store of one record, for a test to add its files to.

    Attributes:
        path: The work tree.
        witness: The directory in which each script of the attacker leaves a file.
    """

    path: Path
    witness: Path

    @classmethod
    def make(cls, folder: Path) -> Hostile:
        """Make one below a folder."""
        made = cls(folder / "hostile", folder / "witness")
        made.witness.mkdir()
        made.store.mkdir(parents=True)
        git(made.path, "init", "-q", "-b", "main")
        (made.path / LOG).write_text(line(1, "Ship"))
        return made

    @property
    def store(self) -> Path:
        """The store directory."""
        return self.path / ".taskstore"

    @property
    def seen(self) -> list[str]:
        """Which of the attacker's scripts have run."""
        return sorted(path.name for path in self.witness.iterdir())

    def commit(self) -> None:
        """Commit all files, whatever git would ignore."""
        git(self.path, "add", "-f", ".")
        git(self.path, "commit", "-q", "-m", "all")

    def clone(self, path: Path) -> Path:
        """Commit all files, and clone."""
        self.commit()
        git(path.parent, "clone", "-q", str(self.path), str(path))
        return path

    def script(self, name: str, then: str = "cat") -> str:
        """A command that leaves its name behind."""
        return f"touch '{self.witness / name}'; {then}"

    def embed(self, folder: Path) -> None:
        """Make a directory with a log a repository as well, with every program it can name."""
        place = ("--git-dir=.", "--work-tree=.")
        git(folder, *place, "init", "-q", "-b", "main", "--template=")
        (folder / ".gitattributes").write_text("*.jsonl filter=evil diff=taskstore merge=evil\n")
        for title in ("Sail", "Sink"):
            (folder / "plans.jsonl").write_text(line(1, title))
            git(folder, *place, "add", "plans.jsonl", ".gitattributes")
            git(folder, *place, "commit", "-q", "-m", title)
        settings = {
            "core.bare": "false",
            "core.worktree": ".",
            "core.fsmonitor": self.script("fsmonitor", "false"),
            "core.pager": self.script("pager"),
            "filter.evil.clean": self.script("clean"),
            "filter.evil.smudge": self.script("smudge"),
            "diff.taskstore.textconv": self.script("textconv"),
            "diff.external": self.script("external"),
            "merge.evil.driver": self.script("merge"),
            "alias.status": "!" + self.script("alias"),
        }
        for name, value in settings.items():
            git(folder, *place, "config", name, value)
        (folder / "refs/x").mkdir()
        (folder / "refs/x/keep").touch()
        (folder / "plans.jsonl").write_text(line(1, "Ship") + line(2, "Moor"))


def git(folder: Path, *call: str, status: int = 0) -> str:
    """Run git as Eve; return what it printed."""
    done = subprocess.run(["git", *EVE, *call], cwd=folder, check=False, capture_output=True)
    assert status == done.returncode, (call, done.stdout, done.stderr)
    return done.stdout.decode(errors="replace")


def taskstore(
    folder: Path, *call: str, status: int | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command, which must end within a minute and without a traceback."""
    done = subprocess.run(
        warm(*call),
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert status in (None, done.returncode), (call, done.stdout, done.stderr)
    return done
