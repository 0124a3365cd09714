"""A store of plans, and the clock it is stamped by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine

from taskstore import Store
from tests.postgres.conftest import server_url, template
from tests.store.plans import Clock, Plan

__all__ = ["server_url", "template"]

_EMPTY = (
    "TRUNCATE records, record_indexes, tombstones, sync_metadata, taskstore_outbox",
    "TRUNCATE mirror_problems",
    "UPDATE taskstore_scribe SET clone = NULL, place = NULL",
)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def store(directory: Path, clock: Clock) -> Iterator[Store]:
    """An empty store that knows plans."""
    with Store.open(directory, types=[Plan], clock=clock) as store:
        yield store


@pytest.fixture(scope="module")
def postgres(server_url: URL, template: str) -> Iterator[Engine]:
    """An engine on a PostgreSQL database for one module."""
    engine = create_engine(server_url.set(database=template))
    yield engine
    engine.dispose()


@pytest.fixture
def ack() -> str:
    """When a commit on PostgreSQL returns: here, when a test can read the log."""
    return "log"


@pytest.fixture(params=["sqlite", "postgresql"])
def any_options(request: pytest.FixtureRequest, ack: str) -> dict[str, Any]:
    """The options of a store on either database, which is empty."""
    if request.param == "sqlite":
        return {}
    engine: Engine = request.getfixturevalue("postgres")
    Store.open(None, engine=engine, migrate=True).close()
    with engine.begin() as connection:
        for statement in _EMPTY:
            connection.exec_driver_sql(statement)
    return {"engine": engine, "ack": ack}


@pytest.fixture
def any_store(directory: Path, clock: Clock, any_options: dict[str, Any]) -> Iterator[Store]:
    """The same as `store`, on SQLite and on PostgreSQL."""
    with Store.open(directory, types=[Plan], clock=clock, **any_options) as store:
        yield store
