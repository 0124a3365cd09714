"""Clones of a repository with a store in it, worked on by the real git and the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from taskstore import Store
from tests.merge.repositories import IDENTITY, Repository
from tests.warm import warm

COMMAND = (sys.executable, "-P", "-m", "taskstore")


@attrs.frozen
class Clone(Repository):
    """A clone, and the store at its root."""

    @property
    def directory(self) -> Path:
        """The store directory."""
        return self.path / ".taskstore"

    def taskstore(self, *call: str, status: int = 0, **env: str) -> str:
        """Run the command and check its exit status; return what it printed on stdout."""
        done = self.run(*call, **env)
        assert status == done.returncode, done.stdout + done.stderr
        return done.stdout

    def run(self, *call: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return subprocess.run(
            warm(*call),
            cwd=self.path,
            env={
                **os.environ,
                **IDENTITY,
                "GIT_CONFIG_GLOBAL": os.devnull,
                "GIT_CONFIG_NOSYSTEM": "1",
                **env,
            },
            capture_output=True,
            check=False,
            encoding="utf-8",
        )

    def json(self, *call: str, status: int = 0) -> Any:
        """Run the command with --json and return what it says."""
        return json.loads(self.taskstore(*call, "--json", status=status))

    def put(self, id: str, /, **fields: Any) -> None:
        """Create or change a record through the store."""
        with Store.open(self.directory) as store:
            old = store.get("plans", id) or {"id": id}
            store.save({**old, **fields}, collection="plans")

    def delete(self, id: str) -> None:
        """Delete a record through the store."""
        with Store.open(self.directory) as store:
            store.delete("plans", id)

    def change(self, id: str, /, **fields: Any) -> None:
        """Change a record and commit that."""
        self.put(id, **fields)
        self.commit(f"{id} {fields}")

    def plans(self) -> dict[str, dict[str, Any]]:
        """The records as the store has them, without their times; the cache must verify."""
        with Store.open(self.directory) as store:
            report = store.verify()
            assert ((), ()) == (report.differences, report.problems)
            found = {row["id"]: dict(row) for row in store.list("plans")}
        for row in found.values():
            del row["updated_at"]
        return found

    def is_stale(self) -> bool:
        """Whether the cache, as it is, does not know what the logs say."""
        with Store.open(self.directory, refresh=False) as store:
            return store.is_stale()

    def clone(self, path: Path, *, driver: bool = True) -> Clone:
        """A fresh clone, with everything installed if `driver`."""
        self.git("clone", "-q", ".", str(path))
        cloned = Clone(path)
        if driver:
            cloned.taskstore("git", "install")
        return cloned

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The open store."""
        with Store.open(self.directory) as store:
            yield store


def new_clone(path: Path, *, install: bool = True) -> Clone:
    """A repository with a store of two records, committed."""
    path.mkdir(parents=True)
    clone = Clone(path)
    clone.git("init", "-q", "-b", "main")
    clone.taskstore("init", *([] if install else ["--no-git"]))
    clone.put("a", title="A", status="open", labels=["x"])
    clone.put("b", title="B")
    clone.git("add", "-A")
    # The hook would start an interpreter for each clone, and has tests of its own.
    clone.git("commit", "-qm", "base", "--no-verify")
    return clone


def files_of(folder: Path) -> dict[str, tuple[int, bytes | str]]:
    """Every file below a folder with its permissions and bytes, or where it links to."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = 0, os.readlink(path)
        elif path.is_file():
            found[name] = path.stat().st_mode & 0o7777, path.read_bytes()
        else:
            found[name] = 0, "folder"
    return found
