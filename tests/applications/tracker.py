"""The example application, as it is or made git-tracked, in clones of a repository."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
from alembic import command
from alembic.config import Config
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine

from tests.git.clones import Clone

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "tracker_app"
PATCH = EXAMPLE / "git_tracked.patch"
EVOLVING = EXAMPLE / "evolving.patch"
IGNORED = "tracker.db*\n__pycache__/\n"
TABLES = ("people", "tasks", "labels", "task_labels")
"""What the patch makes git-tracked."""


def laid_out(folder: Path, *, tracked: bool) -> Path:
    """A copy of the application in a new folder."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "tracker.db*"))
    if tracked:
        apply(PATCH, folder)
    return folder


def apply(patch: Path, folder: Path) -> None:
    """Apply a patch to the application in a folder."""
    subprocess.run(
        ["git", "apply", str(patch)],
        cwd=folder,
        # Not the repository that the folder may happen to be in.
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)},
        check=True,
    )


@contextmanager
def imported(folder: Path) -> Iterator[Any]:
    """The application's `tracker.api`, imported from a folder for a block."""
    # A patch changes modules within a second and without changing their length, which is all that
    # compiled code is compared with. So none is written.
    writes_none, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    try:
        from tracker import api

        yield api
    finally:
        sys.dont_write_bytecode = writes_none
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "tracker"]:
            del sys.modules[name]


def history(folder: Path) -> Config:
    """The application's Alembic history, for the database in a folder."""
    config = Config(str(folder / "alembic.ini"))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{folder / 'tracker.db'}")
    return config


@contextmanager
def database(folder: Path) -> Iterator[Engine]:
    """The application's database, seen from outside."""
    engine = create_engine(f"sqlite:///{folder / 'tracker.db'}")
    yield engine
    engine.dispose()


@attrs.frozen
class Running:
    """A clone in which the application runs.

    Attributes:
        clone: The clone, for git and the command.
        app: The application.
    """

    clone: Clone
    app: FastAPI

    def request(self, method: str, path: str, **fields: Any) -> httpx.Response:
        """Call an endpoint."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                return await client.request(method, path, json=fields)

        return asyncio.run(ask())

    def call(self, method: str, path: str, **fields: Any) -> Any:
        """Call an endpoint, which must succeed."""
        answer = self.request(method, path, **fields)
        assert answer.is_success, answer.text
        return answer.json()

    def tasks(self) -> dict[str, dict[str, Any]]:
        """What the application shows, by title, without what is each clone's own."""
        found = self.call("GET", "/tasks")
        return {task.pop("title"): task for task in found if task.pop("comments") is not None}

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """What the git-tracked tables hold."""
        with database(self.clone.path) as engine, engine.connect() as connection:
            return {
                name: sorted(
                    tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {name}")
                )
                for name in TABLES
            }


@contextmanager
def running(clone: Clone, api: Any) -> Iterator[Running]:
    """Run the application in a clone, whose database is upgraded first."""
    command.upgrade(history(clone.path), "head")
    app = api.create_app(clone.path)

    async def end() -> None:
        async with app.router.lifespan_context(app):
            pass

    try:
        yield Running(clone, app)
    finally:
        asyncio.run(end())
