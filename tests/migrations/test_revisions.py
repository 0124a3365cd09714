from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

from taskstore._cache.schema.models import DEFAULT, Models, build_models
from taskstore._cache.schema.names import HEAD, REVISIONS
from taskstore._cache.schema.revisions import detect, move, scripts
from taskstore._cache.schema.schema import current_revision, ensure_schema
from tests.warm import warm_program

LAYOUTS = {"first": "0001", "second": "0002", "current": "0003"}
FOLDER = Path(__file__).parent / "layouts"


def made_of(layout: str | None, path: Path) -> Engine:
    """A database as an older directory has it; empty for None."""
    engine = create_engine(f"sqlite:///{path}")
    if layout is not None:
        connection = engine.raw_connection()
        connection.driver_connection.executescript(  # type: ignore[union-attr]
            (FOLDER / f"{layout}.sql").read_text(encoding="utf-8")
        )
        connection.close()
    return engine


def schema_of(engine: Engine, hidden: str = "%version") -> set[str]:
    """The statements that made what is in the database, without their layout."""
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            f"SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE '{hidden}'"
        ).scalars()
        return {_plain(statement) for statement in found}


def schema_by(models: Models) -> set[str]:
    """The statements that would make the models' tables."""
    dialect = sqlite.dialect()
    statements: list[DDLElement] = []
    for table in models.metadata.sorted_tables:
        statements += [CreateTable(table), *map(CreateIndex, table.indexes)]
    return {_plain(str(statement.compile(dialect=dialect))) for statement in statements}


def _plain(statement: str) -> str:
    words = " ".join(statement.replace('"', "").split())
    return words.replace("( ", "(").replace(" )", ")").replace(" ,", ",")


def migrate(engine: Engine, models: Models) -> None:
    """Take every revision that a database lacks."""
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection))
        move(operations, HEAD, models=models, since=None, down=False)


def content(engine: Engine, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """The rows of a table."""
    with engine.connect() as connection:
        found = connection.exec_driver_sql(f"SELECT {columns} FROM {table} ORDER BY 1, 2")
        return [tuple(row) for row in found]


def alembic(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the alembic command at the repository's root."""
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        warm_program("from alembic.config import main; main(prog='alembic')", *arguments),
        cwd=root,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_list_is_the_scripts() -> None:
    """The revisions that the code names are those of the scripts, in one line of descent."""
    directory = ScriptDirectory(str(scripts()))
    assert [HEAD] == directory.get_heads()
    assert list(REVISIONS) == [script.revision for script in directory.walk_revisions()][::-1]


@pytest.mark.parametrize("prefix", ["", "ts_"])
@pytest.mark.parametrize("layout", [None, *LAYOUTS])
def test_models_equal_migrations(tmp_path: Path, layout: str | None, prefix: str) -> None:
    """The migrations make exactly the models' tables and indexes, from every older layout."""
    models = build_models(prefix=prefix)
    engine = made_of(layout if not prefix else None, tmp_path / "a.db")
    migrate(engine, models)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": models.version_table,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        assert [] == compare_metadata(context, models.metadata)
    assert schema_by(models) == schema_of(engine)
    engine.dispose()


@pytest.mark.parametrize("prefix", ["", "ts_"])
def test_a_new_database_is_as_the_migrations_leave_it(tmp_path: Path, prefix: str) -> None:
    """An empty database, which gets its tables at once, is as one that was migrated to them."""
    models = build_models(prefix=prefix)
    new, migrated = made_of(None, tmp_path / "new.db"), made_of(None, tmp_path / "migrated.db")
    assert ensure_schema(new, models)
    migrate(migrated, models)
    assert schema_of(migrated, "") == schema_of(new, "")
    for engine in (new, migrated):
        with engine.connect() as connection:
            assert HEAD == current_revision(connection, models)
        engine.dispose()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_adopts_older_databases(tmp_path: Path, layout: str) -> None:
    """An older database keeps its 25 records, their index rows and which fields are indexed."""
    engine = made_of(layout, tmp_path / "a.db")
    columns = "collection, id, data_json, updated_at"
    records = content(engine, "records", columns)
    keys = "collection, id, field_name, field_value_str, field_value_int, field_value_bool"
    indexes = sorted(content(engine, "record_indexes", keys), key=repr)
    read = content(engine, "sync_metadata") if layout != "first" else []
    assert ensure_schema(engine)
    assert 25 == len(records)
    assert records == content(engine, "records", columns)
    assert indexes == sorted(content(engine, "record_indexes", keys), key=repr)
    assert [row[3] * 1000 for row in records] == [
        row[2] for row in content(engine, "records", "collection, id, updated_at_us")
    ]
    assert [("tasks", "priority", "int", None), ("tasks", "status", "string", None)] == content(
        engine, "record_index_fields"
    )
    assert read == content(engine, "sync_metadata", "collection, last_sync_time, file_mtime")
    assert [] == content(engine, "sync_metadata WHERE size IS NOT NULL")
    engine.dispose()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_downgrades_to_the_older_layout(tmp_path: Path, layout: str) -> None:
    """Upgraded and taken back, an older database has its data and its layout again."""
    before = made_of(layout, tmp_path / "before.db")
    after = made_of(layout, tmp_path / "after.db")
    url = f"url=sqlite:///{tmp_path / 'after.db'}"
    for command in (("upgrade", "head"), ("downgrade", LAYOUTS[layout])):
        done = alembic("-x", url, *command)
        assert 0 == done.returncode, done.stderr
    tables = ["records", "record_indexes", "record_index_fields", "sync_metadata"]
    for table in tables[: 2 if layout == "first" else 4]:
        if table == "record_index_fields" and layout == "second":
            continue
        assert sorted(content(before, table), key=repr) == sorted(content(after, table), key=repr)
    names = "SELECT type, name, tbl_name FROM sqlite_master WHERE name NOT LIKE '%version%'"
    with before.connect() as one, after.connect() as other:
        assert set(one.exec_driver_sql(names)) == set(other.exec_driver_sql(names))
    before.dispose()
    after.dispose()


def test_downgrade_keeps_what_fits(tmp_path: Path) -> None:
    """Types that the older layout lacks become strings, or go with their index rows."""
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    ensure_schema(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO records VALUES ('p', 'a', '{}', 1, 1000)")
        for name, type, value in (
            ("s", "string", "'x', NULL, NULL, NULL"),
            ("u", "uuid", "'y', NULL, NULL, NULL"),
            ("b", "bool", "NULL, NULL, 1, NULL"),
            ("f", "float", "NULL, 1, NULL, NULL"),
            ("i", "int", "NULL, NULL, NULL, 1.5"),
            ("t", "datetime", "NULL, 5, NULL, NULL"),
        ):
            connection.exec_driver_sql(
                f"INSERT INTO record_index_fields VALUES ('p', '{name}', '{type}', NULL)"
            )
            connection.exec_driver_sql(
                f"INSERT INTO record_indexes VALUES ('p', 'a', '{name}', {value})"
            )
        connection.exec_driver_sql("INSERT INTO tombstones VALUES ('p', 'z', 1, 1000, NULL, NULL)")
    done = alembic("-x", f"url=sqlite:///{tmp_path / 'a.db'}", "downgrade", "0003")
    assert 0 == done.returncode, done.stderr
    assert [("p", "a", "{}", 1)] == content(engine, "records")
    assert [("p", "b", "bool"), ("p", "i", "int"), ("p", "s", "string"), ("p", "u", "string")] == (
        content(engine, "record_index_fields")
    )
    assert {("b", None, None, 1), ("s", "x", None, None), ("u", "y", None, None)} == {
        row[2:] for row in content(engine, "record_indexes")
    }
    done = alembic("-x", f"url=sqlite:///{tmp_path / 'a.db'}", "downgrade", "base")
    assert 0 == done.returncode, done.stderr
    assert set() == schema_of(engine)
    engine.dispose()


def moved(engine: Engine, revision: str, *, down: bool = False) -> None:
    """Bring a database to a revision."""
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        move(Operations(context), revision, models=DEFAULT, since=None, down=down)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_database_without_a_revision_is_recognised(tmp_path: Path, revision: str) -> None:
    """Each revision is told from the others by its tables alone."""
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    moved(engine, revision)
    with engine.connect() as connection:
        assert revision == detect(connection, DEFAULT)
    engine.dispose()


def test_a_digest_takes_the_place_of_the_checksum(tmp_path: Path) -> None:
    """What was noted of a log is kept up and down, but for its digest, which is not known then."""
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    moved(engine, "0006")
    with engine.begin() as connection:
        for name in ("plans", "notes"):
            connection.exec_driver_sql(
                f"INSERT INTO sync_metadata VALUES ('{name}', 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 0)"
            )
    rows = [(name, 1, 2, 3, 4, 5, 6, None, 8, 9, 1, 0) for name in ("notes", "plans")]
    for revision, column in (("0007", ("digest", "TEXT")), ("0006", ("checksum", "BIGINT"))):
        moved(engine, revision, down=revision == "0006")
        assert rows == content(engine, "sync_metadata")
        with engine.connect() as connection:
            info = connection.exec_driver_sql("PRAGMA table_info(sync_metadata)").all()
        assert column == (info[7][1], info[7][2])
    engine.dispose()


@pytest.mark.parametrize("named", ["argument", "environment"])
def test_the_alembic_command(tmp_path: Path, named: str) -> None:
    """`alembic upgrade head` at the root works on a database named in either way."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    arguments = ("-x", f"url={url}") if named == "argument" else ()
    environment = {"TASKSTORE_DATABASE_URL": url} if named == "environment" else {}
    for command in (("upgrade", "head"), ("check",)):
        done = alembic(*arguments, *command, **environment)
        assert 0 == done.returncode, done.stderr
    engine = create_engine(url)
    assert schema_by(DEFAULT) == schema_of(engine)
    with engine.connect() as connection:
        assert HEAD == current_revision(connection)
    assert not ensure_schema(engine)
    engine.dispose()


def test_the_alembic_command_without_a_database() -> None:
    """Without a database the command says how to name one."""
    done = alembic("upgrade", "head", TASKSTORE_DATABASE_URL="")
    assert 0 != done.returncode
    assert "TASKSTORE_DATABASE_URL" in done.stderr


@pytest.mark.parametrize("layout", [None, "current"])
def test_the_alembic_command_as_sql(tmp_path: Path, layout: str | None) -> None:
    """The script that `--sql` writes makes the same tables, and takes them away again."""
    url = f"url=sqlite:///{tmp_path / 'unused.db'}"
    start = "0003:" if layout else ""
    up = alembic("-x", url, "upgrade", f"{start}head", "--sql")
    assert 0 == up.returncode, up.stderr
    engine = made_of(layout, tmp_path / "a.db")
    connection = engine.raw_connection()
    driver: Any = connection.driver_connection
    if layout:
        driver.execute("CREATE TABLE taskstore_version (version_num VARCHAR(32) NOT NULL)")
        driver.execute("INSERT INTO taskstore_version VALUES ('0003')")
        driver.commit()
    driver.executescript(up.stdout)
    assert schema_by(DEFAULT) == schema_of(engine)
    down = alembic("-x", url, "downgrade", f"{HEAD}:base", "--sql")
    driver.executescript(down.stdout)
    assert set() == schema_of(engine)
    connection.close()
    engine.dispose()
    assert not (tmp_path / "unused.db").exists()
