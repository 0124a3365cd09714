"""A cache file with the current schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from taskstore._cache.engine.sqlite import create_cache_engine, enable_wal
from taskstore._cache.rows.rows import Rows
from taskstore._cache.schema.models import DEFAULT
from taskstore._cache.schema.schema import ensure_schema


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine on a cache file with the current schema."""
    engine = create_cache_engine(tmp_path / "taskstore.db")
    enable_wal(engine)
    ensure_schema(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection in a write transaction that is rolled back."""
    with engine.connect().execution_options(taskstore_write=True) as connection:
        connection.begin()
        yield connection


@pytest.fixture
def rows(connection: Connection) -> Rows:
    """The rows of the cache, in a transaction that is rolled back."""
    return Rows(connection.connection.cursor(), DEFAULT)
