from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from taskstore._cache.engine.sqlite import create_cache_engine, enable_wal
from taskstore._cache.schema.models import DEFAULT, build_models
from taskstore._cache.schema.names import HEAD
from taskstore._cache.schema.schema import current_revision, ensure_schema
from taskstore.errors import InvalidDeclarationError, MigrationRequiredError, SchemaVersionError
from tests.store.workers import server


def _tables(path: Path) -> list[str]:
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")
        names = sorted(found.scalars())
    engine.dispose()
    return names


def test_brings_an_empty_database_up(tmp_path: Path) -> None:
    """An empty file gets the current schema; the second look changes nothing."""
    engine = create_cache_engine(tmp_path / "a.db")
    with engine.connect() as connection:
        assert current_revision(connection) is None
    assert ensure_schema(engine)
    assert not ensure_schema(engine)
    with engine.connect() as connection:
        assert HEAD == current_revision(connection)
    engine.dispose()


def test_an_application_engine_with_a_prefix(tmp_path: Path) -> None:
    """A plain engine of an application gets our tables beside its own."""
    models = build_models(prefix="ts_")
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE records (mine TEXT)")
    with pytest.raises(MigrationRequiredError, match=f'upgrade\\(op, "{HEAD}", prefix="ts_"\\)'):
        ensure_schema(engine, models, migrate=False)
    with pytest.raises(MigrationRequiredError, match=f'upgrade\\(op, "{HEAD}"\\)'):
        ensure_schema(engine, migrate=False)
    with pytest.raises(InvalidDeclarationError, match=r"a table 'records' .* prefix"):
        ensure_schema(engine)
    assert ensure_schema(engine, models)
    assert not ensure_schema(engine, models, migrate=False)
    engine.dispose()
    assert sorted([*models.table_names, "records", "ts_taskstore_version"]) == _tables(
        tmp_path / "app.db"
    )


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    """A revision that this library does not know is an error that says so."""
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    ensure_schema(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE taskstore_version SET version_num = '0099'")
    for migrate in (True, False):
        with pytest.raises(SchemaVersionError, match="'0099'"):
            ensure_schema(engine, migrate=migrate)
    engine.dispose()


def test_a_failed_upgrade_leaves_nothing(tmp_path: Path) -> None:
    """An upgrade that fails in the middle is rolled back whole."""
    engine = create_cache_engine(tmp_path / "a.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW sync_metadata AS SELECT 1")
    with pytest.raises(Exception, match="sync_metadata already exists"):
        ensure_schema(engine)
    engine.dispose()
    assert [] == _tables(tmp_path / "a.db")


def test_threads_upgrade_in_turn(tmp_path: Path) -> None:
    """Threads that upgrade 40 databases at once leave each of them whole."""
    engines = [create_cache_engine(tmp_path / f"{n}.db") for n in range(40)]
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            for engine in engines[number % 10 :: 10]:
                ensure_schema(engine)
        except Exception as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == errors
    for number, engine in enumerate(engines):
        engine.dispose()
        assert {*DEFAULT.table_names, "taskstore_version"} == set(
            _tables(tmp_path / f"{number}.db")
        )


def _upgrade(path: Path) -> None:
    engine = create_cache_engine(path)
    ensure_schema(engine)
    engine.dispose()


def test_processes_upgrade_in_turn(tmp_path: Path) -> None:
    """Processes that open one new file at once all find it upgraded."""
    path = tmp_path / "a.db"
    engine = create_cache_engine(path)
    enable_wal(engine)
    engine.dispose()
    children = [server.Process(target=_upgrade, args=(path,)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [0] * 4 == [child.exitcode for child in children]
    assert {*DEFAULT.table_names, "taskstore_version"} == set(_tables(path))


def test_no_alembic_when_current(tmp_path: Path) -> None:
    """A database that is current is opened without importing Alembic."""
    _upgrade(tmp_path / "a.db")
    program = (
        "import sys\n"
        "from taskstore._cache.schema.schema import ensure_schema\n"
        "from taskstore._cache.engine.sqlite import create_cache_engine\n"
        "import taskstore.migrations, taskstore.models\n"
        "assert not ensure_schema(create_cache_engine(sys.argv[1]))\n"
        "print([name for name in sys.modules if name.startswith('alembic')])\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ("[]\n", 0) == (done.stdout, done.returncode), done.stderr
