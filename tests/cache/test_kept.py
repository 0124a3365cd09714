"""Connections that readers keep between two reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from taskstore._cache.engine.forks import KeptConnections
from taskstore._cache.engine.sqlite import create_cache_engine
from taskstore.errors import TransactionOpenError


@pytest.fixture
def file_engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_cache_engine(tmp_path / "cache.db")
    yield engine
    engine.dispose()


def test_a_connection_serves_one_read_after_the_other(file_engine: Engine) -> None:
    """The second read has the connection of the first, and no transaction that it began."""
    kept = KeptConnections(file_engine, keep=True)
    with kept.cursor() as first:
        first.execute("BEGIN")
    with kept.cursor() as second:
        assert first.connection is second.connection
        assert not second.connection.in_transaction
    kept.release()


def test_reads_at_once_have_connections_of_their_own(file_engine: Engine) -> None:
    """A read within a read does not get the connection that is in use."""
    kept = KeptConnections(file_engine, keep=True)
    with kept.cursor() as outer, kept.cursor() as inner:
        assert outer.connection is not inner.connection
    kept.release()


def test_what_is_in_use_at_a_release_is_closed_when_it_is_given_back(file_engine: Engine) -> None:
    """After a release no connection from before is used again, and none stays open."""
    kept = KeptConnections(file_engine, keep=True)
    with kept.cursor() as cursor:
        driver = cursor.connection
        kept.release()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("SELECT 1")
    with kept.cursor() as later:
        assert driver is not later.connection
    kept.release()


def test_a_connection_whose_read_failed_is_not_kept(file_engine: Engine) -> None:
    """An error may be the connection's own fault."""
    kept = KeptConnections(file_engine, keep=True)
    with pytest.raises(sqlite3.OperationalError), kept.cursor() as cursor:
        driver = cursor.connection
        cursor.execute("SELECT nothing FROM nowhere")
    with kept.cursor() as later:
        assert driver is not later.connection
    kept.release()


def test_an_applications_pool_gets_everything_back(file_engine: Engine) -> None:
    """Where nothing is to be kept, nothing is missing in the pool between two reads."""
    kept = KeptConnections(file_engine, keep=False)
    with kept.cursor() as cursor:
        driver = cursor.connection
    with kept.cursor() as cursor:
        assert driver is cursor.connection


def test_a_connection_that_has_permission_is_not_kept(file_engine: Engine) -> None:
    """Another call would write with it, and nothing would note that."""
    kept = KeptConnections(file_engine, keep=True)
    drivers = []

    def refuse(pooled: Any) -> None:
        drivers.append(pooled.dbapi_connection)
        pooled.dbapi_connection.permits += 1
        raise TransactionOpenError(operation="write")

    with pytest.raises(TransactionOpenError):
        kept.run(refuse)
    with kept.cursor() as later:
        assert [later.connection] != drivers
    kept.release()


def test_a_connection_that_is_given_back_during_a_release_is_closed(file_engine: Engine) -> None:
    """The release of another thread may come between the decision to keep one and its keeping."""
    kept = KeptConnections(file_engine, keep=True)

    class Idle(list[Any]):
        def append(self, connection: Any) -> None:
            kept.release()
            super().append(connection)

    kept._idle = Idle()
    with kept.cursor() as cursor:
        driver = cursor.connection
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("SELECT 1")
