"""Our schema within an application's own Alembic history."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import alembic.op
import pytest
from alembic import command
from alembic.autogenerate import produce_migrations
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, MetaData, create_engine, inspect

from taskstore import migrations
from taskstore._cache.schema.models import DEFAULT, build_models
from taskstore._cache.schema.schema import current_revision, ensure_schema
from taskstore.errors import SchemaVersionError

ENV = """
from alembic import context
from sqlalchemy import create_engine, MetaData
from sqlalchemy.pool import NullPool
from taskstore.migrations import include_name
url = context.config.get_main_option("sqlalchemy.url")
if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, include_name=include_name)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        context.configure(
            connection=connection, target_metadata=MetaData(), include_name=include_name)
        with context.begin_transaction():
            context.run_migrations()
"""
REVISION = """
import sqlalchemy as sa
import taskstore.migrations
from alembic import op
revision, down_revision = {name!r}, {down!r}
def upgrade():
    op.create_table("before_{name}", sa.Column("a", sa.Integer))
    taskstore.migrations.upgrade(op, {up_to!r})
    op.create_table("after_{name}", sa.Column("a", sa.Integer))
def downgrade():
    op.drop_table("after_{name}")
    taskstore.migrations.downgrade(op, {down_to!r}{since})
    op.drop_table("before_{name}")
"""


@pytest.fixture
def application(tmp_path: Path) -> Config:
    """An application with two revisions, which take our schema along in two steps."""
    folder = tmp_path / "alembic"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV)
    (folder / "script.py.mako").write_text("")
    for name, down, up_to, down_to, since in (
        ("one", None, "0003", "base", ', since="0003"'),
        ("two", "one", "0009", "0003", ""),
    ):
        text = REVISION.format(name=name, down=down, up_to=up_to, down_to=down_to, since=since)
        (folder / "versions" / f"{name}.py").write_text(text)
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", f"sqlite:///{tmp_path / 'app.db'}")
    return config


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """The application's database."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    yield engine
    engine.dispose()


OWN = {"before_one", "after_one", "before_two", "after_two"}
OURS = {*DEFAULT.table_names, "taskstore_version"}


def tables(engine: Engine) -> set[str]:
    """The names of the tables, without the application's version table."""
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_up_and_down_online(application: Config, engine: Engine) -> None:
    """Our steps run inside the application's, whose `op` goes on working after them."""
    command.upgrade(application, "one")
    with engine.connect() as connection:
        assert "0003" == current_revision(connection)
    command.upgrade(application, "head")
    assert OWN | OURS == tables(engine)
    assert not ensure_schema(engine, migrate=False)
    command.downgrade(application, "one")
    with engine.connect() as connection:
        assert "0003" == current_revision(connection)
    command.downgrade(application, "base")
    assert set() == tables(engine)


def test_up_and_down_as_sql(application: Config, engine: Engine) -> None:
    """The scripts of `--sql` do the same, also from the middle of the history."""
    driver: Any = engine.raw_connection()

    def run(move: Any, span: str) -> None:
        application.output_buffer = io.StringIO()
        move(application, span, sql=True)
        driver.driver_connection.executescript(application.output_buffer.getvalue())

    run(command.upgrade, "head")
    assert OWN | OURS == tables(engine)
    assert not ensure_schema(engine, migrate=False)
    run(command.downgrade, "two:one")
    with engine.connect() as connection:
        assert "0003" == current_revision(connection)
    run(command.downgrade, "one:base")
    assert set() == tables(engine)
    driver.close()


def test_a_database_that_is_there_already(application: Config, engine: Engine) -> None:
    """Steps that the database has behind it are left out, and never taken back."""
    ensure_schema(engine)
    command.upgrade(application, "head")
    assert OWN | OURS == tables(engine)
    with engine.connect() as connection:
        assert "0009" == current_revision(connection)


def test_autogenerate_leaves_our_tables_alone(application: Config, engine: Engine) -> None:
    """With `include_name`, autogenerate would drop the application's table and none of ours."""
    command.upgrade(application, "head")
    with redirect_stdout(io.StringIO()), engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": migrations.include_name}
        )
        found = produce_migrations(context, MetaData())
    assert found.upgrade_ops is not None
    assert OWN == {operation.table_name for operation in found.upgrade_ops.ops}  # type: ignore[attr-defined]


def test_autogenerate_with_a_prefix(engine: Engine) -> None:
    """Tables with a prefix are left alone by `include_name` with that prefix."""
    ensure_schema(engine, build_models(prefix="ts_"))
    with engine.connect() as connection:
        include = partial(migrations.include_name, prefix="ts_")
        context = MigrationContext.configure(connection, opts={"include_name": include})
        found = produce_migrations(context, MetaData())
    assert found.upgrade_ops is not None
    assert [] == found.upgrade_ops.ops


def test_the_proxy_of_another_migration_survives(engine: Engine) -> None:
    """An `Operations` object of one's own works too, and the outer `op` is given back."""
    with engine.connect() as connection:
        outer = MigrationContext.configure(connection)
        with Operations.context(outer):
            proxy = alembic.op._proxy  # type: ignore[attr-defined]
            inner = Operations(MigrationContext.configure(connection))
            migrations.upgrade(inner, "0004", prefix="ts_")
            assert alembic.op._proxy is proxy  # type: ignore[attr-defined]
            alembic.op.execute("CREATE TABLE mine (a)")
        migrations.downgrade(Operations(outer), "base", prefix="ts_")
        assert ["mine"] == inspect(connection).get_table_names()


def test_unknown_revisions(engine: Engine) -> None:
    """A revision that does not exist, or that a newer library wrote, is an error."""
    with engine.connect() as connection:
        op = Operations(MigrationContext.configure(connection))
        for move in (migrations.upgrade, migrations.downgrade):
            with pytest.raises(SchemaVersionError, match="'0099'"):
                move(op, "0099")
