"""Clones of one repository, each with a database and a scribe."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from click.testing import CliRunner, Result
from sqlalchemy import URL, create_engine, text
from sqlalchemy.pool import NullPool

from taskstore.cli import main
from tests.git.clones import COMMAND
from tests.git.clones import Clone as GitClone
from tests.postgres.clones import cloned

ROOT = Path(__file__).parents[2]
MODELS = "tests.postgres.models:MIRRORS"


@attrs.frozen
class Site(GitClone):
    """A clone with a database of its own, whose store is at its root.

    Attributes:
        url: Of the database.
    """

    url: URL = attrs.field(kw_only=True)

    def prepare(self) -> Site:
        """Install everything in the clone, and the tables and triggers in the database."""
        for name, value in (("user.name", "A"), ("user.email", "a@example.org")):
            self.git("config", name, value)
        self.taskstore("init")
        self.open()
        return self

    def open(self) -> None:
        """Open the store once, as an application does, and close it."""
        with cloned(self.url, self.directory):
            pass

    def scribe(self, *words: str, status: int = 0) -> Result:
        """Let the scribe do what there is to do, in this process."""
        call = ["scribe", MODELS, "--url", self.url.render_as_string()]
        call += ["--store", str(self.directory), "--once", *words]
        done = CliRunner().invoke(main, call, prog_name="taskstore")
        assert status == done.exit_code, (done.output, done.exception)
        return done

    @contextmanager
    def running(self, *words: str, **env: str) -> Iterator[subprocess.Popen[str]]:
        """A scribe that looks around all the time, in a process of its own."""
        call = [*COMMAND, "scribe", MODELS, "--url", self.url.render_as_string()]
        call += ["--store", str(self.directory), "--interval", "0.05", "--git-interval", "0.05"]
        with subprocess.Popen(
            [*call, *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", **env},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            try:
                told = process.stderr.readline()
                assert "ready" in told, told + process.stderr.read()
                yield process
            finally:
                process.kill()

    def sql(self, *statements: str) -> None:
        """Run statements in one transaction, as an application without a store."""
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def put_task(self, id: str, title: str) -> None:
        """Write a task."""
        self.sql(
            f"INSERT INTO tasks (id, title) VALUES ('{id}', '{title}') "
            "ON CONFLICT (id) DO UPDATE SET title = excluded.title"
        )

    def rows(self) -> dict[str, str]:
        """The titles of the tasks in the database."""
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.connect() as connection:
            found = connection.execute(text("SELECT id, title FROM tasks ORDER BY id"))
            return {row[0]: row[1] for row in found}

    def committed(self, revision: str = "HEAD", name: str = "tasks") -> list[dict[str, Any]]:
        """The lines of a log in a commit."""
        data = self.git("show", f"{revision}:.taskstore/{name}.jsonl").stdout
        return [json.loads(line) for line in data.splitlines()]

    def head(self) -> str:
        """The id of the newest commit."""
        return self.git("rev-parse", "HEAD").stdout.strip()

    def status(self) -> list[str]:
        """What is staged, changed or untracked, as git shows it."""
        return self.git("status", "--porcelain").stdout.splitlines()


def new_remote(path: Path) -> GitClone:
    """A bare repository with one commit."""
    seed = GitClone(path.with_name("seed"))
    seed.path.mkdir()
    seed.git("init", "-q", "-b", "main")
    seed.write("read me\n", "README")
    seed.commit("begin")
    seed.git("clone", "-q", "--bare", ".", str(path))
    return GitClone(path)


def new_site(remote: GitClone, path: Path, url: URL) -> Site:
    """A clone of a remote, with everything installed."""
    remote.git("clone", "-q", ".", str(path))
    return Site(path, url=url).prepare()


@contextmanager
def refusing(remote: GitClone, name: str = "update") -> Iterator[None]:
    """Within a block, a remote refuses every push."""
    hook = remote.path / "hooks" / name
    hook.write_text("#!/bin/sh\necho no pushes today >&2\nexit 1\n")
    hook.chmod(0o755)
    try:
        yield
    finally:
        hook.unlink()


def soon(is_so: Callable[[], Any]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
