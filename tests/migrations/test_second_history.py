"""An application's Alembic environment as `alembic init` makes it, with a history of its own."""

from __future__ import annotations

import io
import itertools
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, MetaData, create_engine, inspect, text

from taskstore import Store
from taskstore._cache.schema.models import DEFAULT
from taskstore._cache.schema.revisions import scripts
from taskstore._cache.schema.schema import current_revision
from taskstore.errors import MigrationRequiredError
from taskstore.migrations import HEAD

MODELS = """
import sqlalchemy as sa
metadata = sa.MetaData()
sa.Table("people", metadata, sa.Column("id", sa.String(20), primary_key=True),
         sa.Column("name", sa.String(50)))
sa.Table("visits", metadata, sa.Column("id", sa.Integer, primary_key=True),
         sa.Column("person", sa.String(20), sa.ForeignKey("people.id")))
"""
STEPS = {
    "people": (
        'op.create_table("people", sa.Column("id", sa.String(20), primary_key=True))',
        'op.drop_table("people")',
    ),
    "name": (
        'op.add_column("people", sa.Column("name", sa.String(50)))',
        'op.drop_column("people", "name")',
    ),
    "visits": (
        """op.create_table("visits", sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("person", sa.String(20), sa.ForeignKey("people.id")))""",
        'op.drop_table("visits")',
    ),
    "records": (
        f'taskstore.migrations.upgrade(op, "{HEAD}")',
        f'taskstore.migrations.downgrade(op, "base", since="{HEAD}")',
    ),
}
REVISION = """
import sqlalchemy as sa
import taskstore.migrations
from alembic import op
revision, down_revision = {name!r}, {before!r}
def upgrade():
    {up}
def downgrade():
    {down}
"""
OWN = {"people", "visits"}
OURS = {*DEFAULT.table_names, DEFAULT.version_table}
ORDERS = [
    pytest.param(("records", "people", "name", "visits"), id="ours-first"),
    pytest.param(("people", "records", "name", "visits"), id="ours-between"),
    pytest.param(("people", "name", "visits", "records"), id="ours-last"),
]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """The application's database."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def environment(tmp_path: Path) -> Callable[[tuple[str, ...]], Config]:
    """Makes an environment by `alembic init`, changed as the documentation says, with a history."""

    def make(order: tuple[str, ...]) -> Config:
        folder = tmp_path / "alembic"
        config = Config(tmp_path / "alembic.ini", stdout=io.StringIO())
        with redirect_stdout(io.StringIO()):
            command.init(config, str(folder))
        config = Config(stdout=io.StringIO())
        config.set_main_option("script_location", str(folder))
        config.set_main_option("path_separator", "os")
        config.set_main_option("sqlalchemy.url", f"sqlite:///{tmp_path / 'app.db'}")
        script = (folder / "env.py").read_text()
        told = script.replace("target_metadata = None", MODELS + "\ntarget_metadata = metadata")
        told = told.replace(
            "target_metadata=target_metadata",
            "target_metadata=target_metadata, include_name=taskstore.migrations.include_name",
        )
        assert 2 == told.count("include_name=")
        (folder / "env.py").write_text(f"import taskstore.migrations\n{told}")
        for before, name in itertools.pairwise([None, *order]):
            up, down = STEPS[name or ""]
            step = REVISION.format(name=name, before=before, up=up, down=down)
            (folder / "versions" / f"{name}.py").write_text(step)
        return config

    return make


def tables(engine: Engine) -> set[str]:
    """The names of the tables, without the application's version table."""
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def online(config: Config, engine: Engine, move: Any, span: str) -> None:
    """Run a command of Alembic against the database."""
    move(config, span.partition(":")[2])


def as_sql(config: Config, engine: Engine, move: Any, span: str) -> None:
    """Make a command print its script, and run the script."""
    config.output_buffer = io.StringIO()
    move(config, span, sql=True)
    connection: Any = engine.raw_connection()
    try:
        connection.driver_connection.executescript(config.output_buffer.getvalue())
    finally:
        connection.close()


@pytest.mark.parametrize("run", [online, as_sql])
@pytest.mark.parametrize("order", ORDERS)
def test_ours_may_stand_anywhere_in_the_history(
    order: tuple[str, ...],
    run: Callable[..., None],
    environment: Callable[..., Config],
    engine: Engine,
) -> None:
    """Up to the head, step by step down to nothing, and up again, online and as scripts."""
    config = environment(order)
    run(config, engine, command.upgrade, f"base:{order[-1]}")
    assert OWN | OURS == tables(engine)
    for before, name in reversed(list(itertools.pairwise(["base", *order]))):
        run(config, engine, command.downgrade, f"{name}:{before}")
        assert ("records" in order[: order.index(name)]) == (tables(engine) >= OURS)
    assert set() == tables(engine)
    with engine.begin() as connection:
        # Scripts of newer versions of Alembic leave it empty, and all make it when they begin.
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
    run(config, engine, command.upgrade, f"base:{order[-1]}")
    assert OWN | OURS == tables(engine)
    with engine.connect() as connection:
        assert HEAD == current_revision(connection)


@pytest.mark.parametrize("order", ORDERS)
def test_autogenerate_stays_empty(
    order: tuple[str, ...], environment: Callable[..., Config], engine: Engine, directory: Path
) -> None:
    """`alembic check` finds nothing to do, also after a store has used the tables."""
    config = environment(order)
    command.upgrade(config, "head")
    command.check(config)
    with Store.open(directory, engine=engine) as store:
        store.create({"id": "a"}, collection="things")
    command.check(config)
    with redirect_stdout(io.StringIO()):
        made = command.revision(config, "nothing", autogenerate=True)
    text_of_it = Path(made.path).read_text()  # type: ignore[union-attr]
    assert 2 == text_of_it.count("    pass\n")
    assert "op." not in text_of_it.partition("def upgrade")[2]


@pytest.mark.parametrize("is_ours_up_first", [True, False])
@pytest.mark.parametrize("is_ours_down_first", [True, False])
def test_two_environments_on_one_database(
    is_ours_up_first: bool,
    is_ours_down_first: bool,
    environment: Callable[..., Config],
    engine: Engine,
) -> None:
    """The library's own environment and the application's go up and down in either order."""
    theirs = environment(("people", "name", "visits"))
    ours = Config(stdout=io.StringIO(), cmd_opts=Namespace(x=[f"url={engine.url}"]))
    ours.set_main_option("script_location", str(scripts()))
    ours.set_main_option("path_separator", "os")
    for config in (ours, theirs) if is_ours_up_first else (theirs, ours):
        command.upgrade(config, "head")
    assert OWN | OURS == tables(engine)
    command.check(theirs)
    first, second = (ours, theirs) if is_ours_down_first else (theirs, ours)
    command.downgrade(first, "base")
    left = OWN if is_ours_down_first else OURS
    assert left == tables(engine) - {DEFAULT.version_table} | (left & {DEFAULT.version_table})
    command.downgrade(second, "base")
    assert set() == tables(engine) - {DEFAULT.version_table}


def test_records_come_back_after_our_tables_were_gone(
    environment: Callable[..., Config], engine: Engine, directory: Path
) -> None:
    """A store needs the revision; taken back and taken again, the log has every record."""
    config = environment(("people", "name", "visits", "records"))
    command.upgrade(config, "visits")
    with pytest.raises(MigrationRequiredError, match=HEAD):
        Store.open(directory, engine=engine)
    command.upgrade(config, "head")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO people VALUES ('ada', 'Ada')"))
    with Store.open(directory, engine=engine) as store:
        store.create({"id": "a", "text": "kept"}, collection="things")
    command.downgrade(config, "visits")
    command.upgrade(config, "head")
    with Store.open(directory, engine=engine) as store:
        assert "kept" == store.get_one("things", "a")["text"]
        assert store.verify().ok
    metadata = MetaData()
    metadata.reflect(engine, only=["people"])
    with engine.connect() as connection:
        assert ["ada"] == [row.id for row in connection.execute(metadata.tables["people"].select())]
