"""Our tables in a PostgreSQL database."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from taskstore._cache.schema.models import DEFAULT
from taskstore._cache.schema.names import HEAD
from taskstore._cache.schema.revisions import BASE, move, read_revision


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
