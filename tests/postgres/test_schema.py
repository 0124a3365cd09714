"""Our tables in a PostgreSQL database."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, delete, inspect, text

from taskstore import Store, migrations
from taskstore._api.opening import mirrors_of
from taskstore._cache.schema.models import DEFAULT
from taskstore._cache.schema.names import HEAD
from taskstore._cache.schema.revisions import BASE, move, read_revision
from taskstore._postgres.names import outbox_of
from taskstore._postgres.triggers import missing_triggers, triggers_of
from taskstore.errors import UnsupportedError
from tests.postgres.clones import Clone
from tests.postgres.models import MIRRORS, Base, Label, Task


def test_the_migrations_make_the_tables_of_the_models(engine: Engine) -> None:
    """On PostgreSQL, too, the migrated schema is that of the models."""
    with engine.connect() as connection:
        options = {"version_table": DEFAULT.version_table}
        context = MigrationContext.configure(connection, opts=options)
        assert [] == compare_metadata(context, DEFAULT.metadata)
        assert HEAD == read_revision(connection, DEFAULT.version_table)


def test_the_way_down_and_up_keeps_records(engine: Engine) -> None:
    """A record with an index row survives the way to the first layout and back."""
    with engine.begin() as connection:
        for sql in (
            "INSERT INTO records VALUES ('plans', 'a', '{\"id\":\"a\"}', 1, 1000)",
            "INSERT INTO record_indexes VALUES ('plans', 'a', 'done', NULL, NULL, true, NULL)",
        ):
            connection.execute(text(sql.replace(":", r"\:")))
        context = MigrationContext.configure(connection)
        for target, down in (("0001", True), (HEAD, False)):
            move(Operations(context), target, models=DEFAULT, since=None, down=down)
        found = connection.execute(text("SELECT id, updated_at_us FROM records")).all()
        assert [("a", 1000)] == found
        bools = connection.execute(text("SELECT field_value_bool FROM record_indexes")).scalars()
        assert [True] == bools.all()
        move(Operations(context), BASE, models=DEFAULT, since=None, down=True)
        assert [] == inspect(connection).get_table_names()


def operations(connection: Connection) -> Operations:
    return Operations(MigrationContext.configure(connection))


def test_a_revision_of_the_application_makes_the_triggers(engine: Engine, tmp_path: Path) -> None:
    """With `capture` in a migration, a store opens without migrate=True; `release` undoes it."""
    Base.metadata.create_all(engine)
    for _ in range(2):
        with engine.begin() as connection:
            migrations.capture(operations(connection), MIRRORS)
    with Store.open(tmp_path / "one", engine=engine, mirrors=MIRRORS, ack="log"):
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO tasks (id, title) VALUES ('a', '')"))
        assert '"id":"a"' in (tmp_path / "one" / "tasks.jsonl").read_text()
    with engine.begin() as connection:
        migrations.release(operations(connection), MIRRORS, outbox=True)
        connection.execute(text("INSERT INTO tasks (id, title) VALUES ('b', '')"))
        names = set(inspect(connection).get_table_names())
        assert set() == {"taskstore_outbox", "taskstore_scribe"} & names
        found = connection.execute(
            text("SELECT proname FROM pg_proc WHERE proname LIKE 'taskstore%'")
        )
        assert [] == found.all()


def test_old_revisions_run_with_the_models_of_today(engine: Engine, tmp_path: Path) -> None:
    """A revision may capture models whose tables and columns later revisions create."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE labels CASCADE"))
        for sql in ("DROP COLUMN name", "DROP COLUMN updated_at"):
            connection.execute(text(f"ALTER TABLE projects {sql}"))
        migrations.capture(operations(connection), MIRRORS)
        connection.execute(text("INSERT INTO projects (id) VALUES ('p')"))
        connection.execute(text("ALTER TABLE projects ADD updated_at bigint NOT NULL DEFAULT 1"))
        migrations.capture(operations(connection), MIRRORS)
        connection.execute(text("UPDATE projects SET updated_at = updated_at"))
    with engine.connect() as connection:
        mirrors = mirrors_of(MIRRORS, engine, DEFAULT)
        triggers = triggers_of(connection, outbox_of(connection, DEFAULT), mirrors)
        assert ["projects", "labels"] == sorted(missing_triggers(connection, triggers))[::-1]
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE projects ADD name text NOT NULL DEFAULT 'none'"))
        Base.metadata.create_all(connection)
        migrations.capture(operations(connection), MIRRORS)
        connection.execute(text("UPDATE projects SET name = 'new'"))
    with Store.open(tmp_path / "one", engine=engine, mirrors=MIRRORS, ack="log"):
        assert '"name":"new"' in (tmp_path / "one" / "projects.jsonl").read_text()


def test_the_script_is_what_runs_online(engine: Engine) -> None:
    """The statements of `--sql` make the same triggers."""
    Base.metadata.create_all(engine)
    buffer = io.StringIO()
    options = {"as_sql": True, "output_buffer": buffer}
    context = MigrationContext.configure(dialect=engine.dialect, opts=options)
    migrations.capture(Operations(context), MIRRORS)
    driver = engine.raw_connection()
    driver.cursor().execute(buffer.getvalue())
    driver.commit()
    driver.close()
    with engine.connect() as connection:
        mirrors = mirrors_of(MIRRORS, engine, DEFAULT)
        outbox = outbox_of(connection, DEFAULT)
        assert [] == missing_triggers(connection, triggers_of(connection, outbox, mirrors))


def test_autogenerate_leaves_the_outbox_alone() -> None:
    """Its tables are ours, with and without a prefix."""
    for name in ("taskstore_outbox", "taskstore_scribe"):
        assert not migrations.include_name(name, "table", {})
        assert not migrations.include_name(f"ts_{name}", "table", {}, prefix="ts_")


def test_a_map_of_schemas_is_refused(engine: Engine, tmp_path: Path) -> None:
    """The triggers would be on the tables of another schema than the rows."""
    mapped = engine.execution_options(schema_translate_map={None: "tenant"})
    with pytest.raises(UnsupportedError, match="search_path"):
        Store.open(tmp_path / "one", engine=mapped, mirrors=MIRRORS)


@pytest.mark.parametrize("way", ["flush", "statement", "options"])
def test_a_map_of_schemas_in_a_session_is_refused(one: Clone, way: str) -> None:
    """Before anything is written; a map of other schemas does no harm."""
    mapped = {"schema_translate_map": {None: "tenant"}}
    with one.sessions() as session:
        if way != "options":
            session.connection(execution_options=mapped)
        with pytest.raises(UnsupportedError, match="search_path"):
            if way == "flush":
                session.add(Label(id="a"))
                session.flush()
            elif way == "statement":
                session.execute(delete(Label))
            else:
                session.execute(delete(Base.metadata.tables["labels"]), execution_options=mapped)
    with one.sessions.begin() as session:
        session.connection(execution_options={"schema_translate_map": {"other": "tenant"}})
        session.add(Task(id="t", title=""))
