from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.exc import OperationalError

from taskstore._cache.engine.sqlite import (
    create_cache_engine,
    create_memory_engine,
    enable_wal,
    is_busy,
    no_waiting,
)
from taskstore._cache.rows.rows import Rows
from taskstore._cache.schema.models import DEFAULT
from taskstore._cache.schema.schema import ensure_schema
from taskstore.models import StoredRecord

SETTINGS = {"foreign_keys": 1, "synchronous": 1, "busy_timeout": 30_000, "journal_mode": "wal"}


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings(engine: Engine, setting: str) -> None:
    """Foreign keys are enforced, WAL with NORMAL is on, and a lock is waited for 30 s."""
    with engine.connect() as connection:
        found = connection.exec_driver_sql(f"PRAGMA {setting}").scalar_one()
    assert SETTINGS[setting] == found


def test_wal_is_a_decision(tmp_path: Path) -> None:
    """An engine alone does not turn WAL on; `enable_wal` does, and twice is once."""
    engine = create_cache_engine(tmp_path / "cache?with #odd%20name.db")
    with engine.connect() as connection:
        assert "delete" == connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    assert "wal" == enable_wal(engine)
    assert "wal" == enable_wal(engine)
    engine.dispose()
    assert (tmp_path / "cache?with #odd%20name.db").is_file()


def test_writers_begin_at_once(engine: Engine) -> None:
    """A connection with the write option holds the lock from BEGIN; others read meanwhile."""
    writing = engine.execution_options(taskstore_write=True)
    with writing.connect() as writer:
        writer.begin()
        with no_waiting(engine) as other:
            assert other is None
        with engine.connect() as reader:
            assert [] == reader.execute(select(StoredRecord)).all()
    with no_waiting(engine) as other:
        assert other is not None
        assert 30_000 == other.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
        with no_waiting(engine) as third:
            assert third is None


def test_no_waiting_works_on_any_engine(engine: Engine) -> None:
    """An application's engine, begun in the driver's own way, is locked likewise."""
    plain = create_engine(engine.url)
    with no_waiting(plain) as first, no_waiting(engine) as second:
        assert first is not None
        assert second is None
    plain.dispose()


def test_lock_turns_a_reader_into_a_writer(engine: Engine) -> None:
    """`Rows.lock` takes the write lock in a deferred transaction without changing anything."""
    with engine.connect() as connection:
        connection.begin()
        with no_waiting(engine) as other:
            assert other is not None
        Rows(connection.connection.cursor(), DEFAULT).lock()
        with no_waiting(engine) as other:
            assert other is None


def test_is_busy(engine: Engine) -> None:
    """Only an error that says that another holds a lock counts as busy."""
    with pytest.raises(OperationalError) as caught, engine.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM absent")
    assert not is_busy(caught.value)
    assert not is_busy(ValueError())
    with engine.connect() as reader:
        reader.execute(select(StoredRecord)).all()
        with engine.begin() as writer:
            writer.exec_driver_sql("CREATE TABLE mine (a)")
        with pytest.raises(sqlite3.OperationalError) as stale:
            Rows(reader.connection.cursor(), DEFAULT).lock()
        assert is_busy(stale.value)


def test_autocommit_is_left_to_the_driver(engine: Engine) -> None:
    """Under AUTOCOMMIT no transaction is begun, and afterwards again."""
    with engine.connect() as connection:
        automatic = connection.execution_options(isolation_level="AUTOCOMMIT")
        automatic.exec_driver_sql("CREATE TABLE mine (a)")
    with engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO mine VALUES (1)")
    with engine.connect() as connection:
        assert [] == connection.exec_driver_sql("SELECT * FROM mine").all()


def test_memory_is_shared_between_threads() -> None:
    """A database in memory is one for all connections of its engine, and gone with it."""
    engine = create_memory_engine()
    ensure_schema(engine)
    found: list[int] = []

    def look() -> None:
        with engine.connect() as connection:
            found.append(len(connection.execute(select(StoredRecord)).all()))

    with engine.connect() as connection:
        connection.execute(select(StoredRecord)).all()
        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [0] * 8 == found
    other = create_memory_engine()
    ensure_schema(other)
    engine.dispose()
    other.dispose()
