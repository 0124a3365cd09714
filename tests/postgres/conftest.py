"""A PostgreSQL server for the session, and a new database for each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.pool import NullPool

from taskstore._cache.schema.schema import ensure_schema
from tests.postgres.clones import Clone, cloned
from tests.postgres.server import Server

_TEMPLATE = f"taskstore_template_{os.getpid()}"
_numbers = count()


@pytest.fixture(scope="session")
def server_url() -> Iterator[URL]:
    """The URL of a server: that of TASKSTORE_TEST_POSTGRES_URL, or one that is started here."""
    given = os.environ.get("TASKSTORE_TEST_POSTGRES_URL")
    if given:
        yield make_url(given)
        return
    with Server() as server:
        yield make_url(server.url())


@pytest.fixture(scope="session")
def template(server_url: URL) -> Iterator[str]:
    """The name of a database with our tables, to be copied."""
    _administer(server_url, f"CREATE DATABASE {_TEMPLATE}")
    engine = create_engine(server_url.set(database=_TEMPLATE), poolclass=NullPool)
    ensure_schema(engine)
    engine.dispose()
    yield _TEMPLATE
    _administer(server_url, f"DROP DATABASE {_TEMPLATE} WITH (FORCE)")


@pytest.fixture
def new_database(server_url: URL, template: str) -> Iterator[Callable[[], URL]]:
    """Makes databases that have our tables, and returns the URL of each."""
    made: list[str] = []

    def make() -> URL:
        name = f"taskstore_{os.getpid()}_{next(_numbers)}"
        _administer(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
        made.append(name)
        return server_url.set(database=name)

    yield make
    for name in made:
        _administer(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(new_database: Callable[[], URL]) -> Iterator[Engine]:
    """An engine on a new database."""
    engine = create_engine(new_database())
    yield engine
    engine.dispose()


@pytest.fixture
def one(new_database: Callable[[], URL], tmp_path: Path) -> Iterator[Clone]:
    """A clone of the application."""
    with cloned(new_database(), tmp_path / "one") as clone:
        yield clone


@pytest.fixture
def two(new_database: Callable[[], URL], tmp_path: Path) -> Iterator[Clone]:
    """Another."""
    with cloned(new_database(), tmp_path / "two") as clone:
        yield clone


def _administer(url: URL, sql: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(sql)
