"""Git repositories with a store's logs in them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs

LOG = ".taskstore/plans.jsonl"
DRIVER = f"{shlex.quote(sys.executable)} -P -m taskstore merge %O %A %B %P"
IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def line(id: str, updated_at: int, **fields: Any) -> str:
    """A record's line with its newline."""
    record = {"id": id, **fields, "updated_at": updated_at}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


@attrs.frozen
class Repository:
    """A repository and its work tree."""

    path: Path

    def git(self, *call: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run git and check its exit status."""
        done = subprocess.run(
            ["git", *call],
            cwd=self.path,
            env={
                **os.environ,
                **IDENTITY,
                "GIT_CONFIG_GLOBAL": os.devnull,
                "GIT_CONFIG_NOSYSTEM": "1",
            },
            capture_output=True,
            check=False,
            encoding="utf-8",
        )
        assert status == done.returncode, done.stdout + done.stderr
        return done

    def use_driver(self, command: str = DRIVER) -> None:
        """Let git merge logs with the driver, in this clone."""
        self.git("config", "merge.union.driver", command)

    def write(self, text: str | bytes, name: str = LOG) -> None:
        """Write a file of the work tree."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    def append(self, text: str) -> None:
        """Append lines to the log."""
        self.write(self.read() + text)

    def read(self, name: str = LOG) -> str:
        """Read a file of the work tree."""
        return (self.path / name).read_text(encoding="utf-8")

    def records(self) -> dict[str, dict[str, Any]]:
        """Replay the log, which must have records only."""
        newest: dict[str, dict[str, Any]] = {}
        for text in self.read().splitlines():
            record = json.loads(text)
            old = newest.get(record["id"])
            if old is None or record["updated_at"] >= old["updated_at"]:
                newest[record["id"]] = record
        return {id: fields for id, fields in newest.items() if fields.get("deleted") is not True}

    def commit(self, message: str = "change") -> None:
        """Commit all there is."""
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def diverge(self, ours: str | bytes, theirs: str | bytes, name: str = LOG) -> None:
        """Commit one version on `main`, where we are, and another on `other`."""
        self.git("switch", "-qc", "other")
        self.write(theirs, name)
        self.commit("theirs")
        self.git("switch", "-q", "main")
        self.write(ours, name)
        self.commit("ours")

    def clone(self, path: Path, *, driver: bool = True) -> Repository:
        """A fresh clone of it."""
        self.git("clone", "-q", ".", str(path))
        cloned = Repository(path)
        if driver:
            cloned.use_driver()
        return cloned


def new_repository(path: Path, text: str | bytes, *, driver: bool = True) -> Repository:
    """A repository with one commit of a log and the attributes for it."""
    path.mkdir(parents=True)
    repository = Repository(path)
    repository.git("init", "-q", "-b", "main")
    repository.write("*.jsonl merge=union text eol=lf\n", ".gitattributes")
    repository.write(text)
    repository.commit("base")
    if driver:
        repository.use_driver()
    return repository
