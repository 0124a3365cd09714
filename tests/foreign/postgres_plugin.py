"""Give an application PostgreSQL where its tests use SQLite: `pytest -p postgres_plugin ...`.

Nothing of the application is changed. `create_engine` gets another URL: each file of SQLite is a
schema in one database, and so is each database in memory. Tests that look at the file itself fail.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import URL, Engine, make_url
from sqlalchemy.engine import create
from sqlalchemy.pool import NullPool

_SERVER = Path(__file__).parents[1] / "postgres" / "server.py"
_SQLITE_ONLY = ("connect_args", "poolclass")


class Redirection:
    """A server, and the ways to make an engine, which lead to it."""

    def __init__(self) -> None:
        # By its path: the application has tests of its own under that name.
        spec: Any = importlib.util.spec_from_file_location("postgres_server", _SERVER)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._server = module.Server()
        self._patch = pytest.MonkeyPatch()
        self._numbers = count()

    def begin(self) -> None:
        """Start the server, and let it take the place of SQLite."""
        self._server.start()
        made = self._made(create.create_engine)
        for module in (create, sqlalchemy.engine, sqlalchemy):
            self._patch.setattr(module, "create_engine", made)

    def end(self) -> None:
        """Stop it."""
        self._patch.undo()
        self._server.__exit__(None, None, None)

    def _made(self, create_engine: Callable[..., Engine]) -> Callable[..., Engine]:
        url = make_url(self._server.url())

        def made(given: str | URL, **options: Any) -> Engine:
            asked = make_url(given)
            if asked.get_backend_name() != "sqlite":
                return create_engine(asked, **options)
            schema = self._schema_of(asked.database)
            engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
            with engine.connect() as connection:
                connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            kept = {name: one for name, one in options.items() if name not in _SQLITE_ONLY}
            return create_engine(
                url.update_query_dict({"options": f"-csearch_path={schema}"}), **kept
            )

        return made

    def _schema_of(self, database: str | None) -> str:
        if database in (None, "", ":memory:"):
            return f"memory_{next(self._numbers)}"
        return f"file_{hashlib.sha256(str(database).encode()).hexdigest()[:24]}"


REDIRECTION = pytest.StashKey[Redirection]()


def pytest_configure(config: pytest.Config) -> None:
    """Start the server."""
    config.stash[REDIRECTION] = Redirection()
    config.stash[REDIRECTION].begin()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop it."""
    config.stash[REDIRECTION].end()
