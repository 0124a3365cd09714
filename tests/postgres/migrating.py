"""Clones of an application with Alembic revisions, some on PostgreSQL and some on SQLite."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alembic.command
import attrs
from alembic.config import Config
from sqlalchemy import URL, BigInteger, Engine, Text, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

from taskstore import Store, mirrored
from tests.evolution.application import SCRIPT
from tests.git.clones import Clone

ENV = """
from contextlib import nullcontext
from alembic import context
import taskstore.migrations

given = context.config.attributes
if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with given["engine"].connect() as connection:
        with taskstore.migrations.logged(connection, given["path"], given["mirrors"]):
            context.configure(connection=connection)
            with context.begin_transaction():
                context.run_migrations()
"""

SCRIPTS = {
    "a1": (
        None,
        """
        op.create_table(
            "tasks",
            sa.Column("id", sa.Text, primary_key=True),
            sa.Column("title", sa.Text, nullable=False),
            sa.Column("prio", sa.Text, nullable=False),
            sa.Column("state", sa.Text, nullable=False),
            sa.Column("note", sa.Text),
            sa.Column("author", sa.Text, nullable=False),
            sa.Column("street", sa.Text, nullable=False),
            sa.Column("town", sa.Text, nullable=False),
            sa.Column("updated_at", sa.BigInteger, nullable=False),
        )
        taskstore.migrations.upgrade(op, "0009")
        taskstore.migrations.capture(op, context.config.attributes["mirrors"])
        """,
        "pass",
    ),
    # Everything that an evolution can say.
    "a2": (
        "a1",
        """
        with op.batch_alter_table("tasks") as tasks:
            tasks.alter_column("title", new_column_name="name")
            tasks.alter_column(
                "prio", type_=sa.Integer, existing_type=sa.Text, postgresql_using="prio::integer"
            )
            tasks.drop_column("note")
            tasks.add_column(sa.Column("owner", sa.Text, nullable=False, server_default="me"))
            tasks.add_column(sa.Column("given", sa.Text, nullable=False, server_default=""))
            tasks.add_column(sa.Column("family", sa.Text, nullable=False, server_default=""))
            tasks.add_column(sa.Column("address", sa.Text, nullable=False, server_default=""))
            tasks.evolve_log(
                rename={"title": "name"},
                split={"author": (["given", "family"], " ")},
                join={"address": (["street", "town"], ", ")},
                map={"state": {"open": "todo"}},
                convert={"prio": ("str", "int")},
                default={"owner": "me"},
                drop=["note"],
            )
        taskstore.migrations.capture(op, context.config.attributes["mirrors"])
        cut = "strpos" if op.get_context().dialect.name == "postgresql" else "instr"
        op.execute(
            f"UPDATE tasks SET given = substr(author, 1, {cut}(author, ' ') - 1), "
            f"family = substr(author, {cut}(author, ' ') + 1), "
            "address = street || ', ' || town, "
            "state = CASE state WHEN 'open' THEN 'todo' ELSE state END"
        )
        with op.batch_alter_table("tasks") as tasks:
            tasks.drop_column("author")
            tasks.drop_column("street")
            tasks.drop_column("town")
        """,
        """
        op.revert_log("tasks")
        with op.batch_alter_table("tasks") as tasks:
            tasks.alter_column("name", new_column_name="title")
            tasks.alter_column(
                "prio", type_=sa.Text, existing_type=sa.Integer, postgresql_using="prio::text"
            )
            tasks.drop_column("owner")
            tasks.add_column(sa.Column("note", sa.Text))
            tasks.add_column(sa.Column("author", sa.Text, nullable=False, server_default=""))
            tasks.add_column(sa.Column("street", sa.Text, nullable=False, server_default=""))
            tasks.add_column(sa.Column("town", sa.Text, nullable=False, server_default=""))
        taskstore.migrations.capture(op, context.config.attributes["mirrors"])
        op.execute(
            "UPDATE tasks SET author = given || ' ' || family, "
            "street = split_part(address, ', ', 1), town = split_part(address, ', ', 2), "
            "state = CASE state WHEN 'todo' THEN 'open' ELSE state END"
        )
        with op.batch_alter_table("tasks") as tasks:
            tasks.drop_column("given")
            tasks.drop_column("family")
            tasks.drop_column("address")
        """,
    ),
    # Two columns change places.
    "a3": (
        "a2",
        """
        with op.batch_alter_table("tasks") as tasks:
            tasks.alter_column("name", new_column_name="between")
        with op.batch_alter_table("tasks") as tasks:
            tasks.alter_column("owner", new_column_name="name")
        with op.batch_alter_table("tasks") as tasks:
            tasks.alter_column("between", new_column_name="owner")
        op.evolve_log("tasks", rename={"name": "owner", "owner": "name"})
        taskstore.migrations.capture(op, context.config.attributes["mirrors"])
        """,
        "pass",
    ),
}


def model_at(revision: str, *, versioned: bool = True) -> Any:
    """The model as a revision leaves it."""

    class Base(DeclarativeBase):
        pass

    class Old(Base):
        __abstract__ = True
        title: Mapped[str] = mapped_column(Text)
        prio: Mapped[str] = mapped_column(Text, default="3")
        state: Mapped[str] = mapped_column(Text, default="open")
        note: Mapped[str | None] = mapped_column(Text)
        author: Mapped[str] = mapped_column(Text, default="Ada Byron")
        street: Mapped[str] = mapped_column(Text, default="High Street")
        town: Mapped[str] = mapped_column(Text, default="London")

    class New(Base):
        __abstract__ = True
        name: Mapped[str] = mapped_column(Text)
        prio: Mapped[int] = mapped_column(default=3)
        state: Mapped[str] = mapped_column(Text, default="todo")
        owner: Mapped[str] = mapped_column(Text, default="me")
        given: Mapped[str] = mapped_column(Text, default="Ada")
        family: Mapped[str] = mapped_column(Text, default="Byron")
        address: Mapped[str] = mapped_column(Text, default="High Street, London")

    kind: type[Any] = Old if revision == "a1" else New

    @mirrored("tasks", updated_at="updated_at" if versioned else None, exclude=())
    class Task(kind):  # type: ignore[misc]
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(Text, primary_key=True)
        updated_at: Mapped[int] = mapped_column(BigInteger, default=0)

    return Task


@attrs.define
class Side:
    """A clone of the application, and its database.

    Attributes:
        clone: The clone.
        url: Of the database.
        scripts: The folder with the revisions, which all clones share.
        versioned: Whether the model has a version column.
        at: The revision that the database has.
    """

    clone: Clone
    url: URL
    scripts: Path
    versioned: bool = True
    at: str = ""

    @property
    def is_postgres(self) -> bool:
        """Whether the rows are in PostgreSQL."""
        return self.url.get_backend_name() == "postgresql"

    def model(self, revision: str = "") -> Any:
        """The model as the database has it, or as a revision does."""
        return model_at(revision or self.at, versioned=self.versioned)

    def migrate(self, to: str) -> None:
        """Run `alembic upgrade` or `downgrade`."""
        engine = self.engine()
        config = self.config(to, engine)
        if to < self.at:
            alembic.command.downgrade(config, to)
        else:
            alembic.command.upgrade(config, to)
        engine.dispose()
        self.at = to

    def config(self, to: str, engine: Engine | None = None) -> Config:
        """The configuration of Alembic."""
        config = Config()
        config.set_main_option("script_location", str(self.scripts))
        config.set_main_option("path_separator", "os")
        config.attributes |= {
            "engine": engine,
            "path": self.clone.directory,
            "mirrors": [self.model(to)],
        }
        return config

    def engine(self) -> Engine:
        """A new engine."""
        return create_engine(self.url, poolclass=NullPool)

    def sql(self, *statements: str) -> None:
        """Run statements in one transaction, as a program that knows nothing of us."""
        engine = self.engine()
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    @contextmanager
    def store(self, revision: str = "", **options: Any) -> Iterator[tuple[Store, Any, Any]]:
        """The open store, a sessionmaker and the model."""
        engine, model = self.engine(), self.model(revision)
        try:
            with Store.open(
                self.clone.directory, engine=engine, mirrors=[model], **options
            ) as store:
                sessions = sessionmaker(engine)
                store.attach(sessions)
                yield store, sessions, model
        finally:
            engine.dispose()

    def put(self, id: str, **values: Any) -> None:
        """Add a row, or change some of its values."""
        with self.store() as (_, sessions, model), sessions.begin() as session:
            row = session.get(model, id)
            if row is None:
                session.add(model(id=id, **{"title" if self.at == "a1" else "name": id, **values}))
            else:
                for name, value in values.items():
                    setattr(row, name, value)

    def commit(self) -> None:
        """Commit the logs."""
        with self.store():
            pass
        self.clone.git("add", "-A")
        self.clone.git("commit", "-qm", "work", "--allow-empty")

    def pull(self, other: Side) -> None:
        """Merge what another clone has committed, and bring it into the tables."""
        self.clone.git("fetch", "-q", str(other.clone.path), "main")
        self.clone.git("merge", "-q", "--no-edit", "FETCH_HEAD")
        with self.store():
            pass

    def rows(self, *, problems: int = 0) -> dict[str, dict[str, Any]]:
        """The rows without their times; table and log must agree."""
        with self.store() as (store, sessions, model):
            report = store.verify()
            assert () == report.differences
            assert problems == len({one.id for one in report.problems}), report.problems
            with sessions() as session:
                return {
                    row.id: {
                        name: value
                        for name, value in vars(row).items()
                        if name not in ("_sa_instance_state", "id", "updated_at")
                    }
                    for row in session.query(model)
                }


def new_scripts(path: Path) -> Path:
    """A folder with the revisions."""
    (path / "versions").mkdir(parents=True)
    (path / "env.py").write_text(ENV)
    for revision, (down, up, back) in SCRIPTS.items():
        body = [textwrap.indent(textwrap.dedent(one).strip(), "    ") for one in (up, back)]
        script = SCRIPT.format(revision=revision, down=down, upgrade=body[0], downgrade=body[1])
        script = f"from alembic import context\n{script}"
        (path / "versions" / f"{revision}.py").write_text(script)
    return path


def new_side(path: Path, url: URL, scripts: Path, *, versioned: bool = True) -> Side:
    """A repository with a database at the first revision."""
    path.mkdir(parents=True)
    clone = Clone(path)
    clone.git("init", "-q", "-b", "main")
    (path / ".gitignore").write_text("app.db*\n")
    clone.taskstore("init")
    _quicken(clone)
    side = Side(clone, url, scripts, versioned)
    side.migrate("a1")
    return side


def clone_of(side: Side, path: Path, url: URL, at: str = "a1") -> Side:
    """A clone with a database of its own."""
    other = Side(side.clone.clone(path), url, side.scripts, side.versioned)
    _quicken(other.clone)
    other.migrate(at)
    with other.store():
        pass
    return other


def _quicken(clone: Clone) -> None:
    """Leave out the hooks, which start a process at each merge and commit."""
    clone.git("config", "core.hooksPath", os.devnull)


A1, A2 = [model_at("a1")], [model_at("a2")]
"""The modules that the scribes of the first and the second revision import."""
