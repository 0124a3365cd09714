"""An application whose models follow its Alembic revisions, migrated within the test's process."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alembic.command
import attrs
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import BigInteger, Column, Engine, Integer, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import NullPool

from taskstore import Store, mirrored
from tests.evolution.application import SCRIPT
from tests.git.clones import Clone

FIELDS = 4
ENV = """
from contextlib import nullcontext
from alembic import context
import taskstore.migrations

given = context.config.attributes
with given["engine"].connect() as connection:
    with taskstore.migrations.logged(connection, given["path"], given["mirrors"]) if (
        given["logged"]
    ) else nullcontext():
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""
FIRST = """
op.create_table(
    "tasks",
    sa.Column("id", sa.String, primary_key=True),
    *(sa.Column(f"f{number}", sa.String, nullable=False) for number in range(4)),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)
taskstore.migrations.upgrade(op, "0009")
"""


@attrs.frozen
class Revision:
    """A revision of the application.

    Attributes:
        name: Its name.
        down: Those it follows.
        fields: The new name and type of each field that it changes, by number.
        touched: The numbers of the fields that it names.
        maps: Values of a field that become others, by number.
        body: What its upgrade does.
    """

    name: str
    down: tuple[str, ...]
    fields: dict[int, tuple[str, type]]
    touched: tuple[int, ...]
    maps: dict[int, dict[int, int]]
    body: str

    def write(self, folder: Path) -> None:
        """Write its script."""
        body = textwrap.indent(textwrap.dedent(self.body).strip() or "pass", "    ")
        down = self.down if len(self.down) > 1 else self.down[0] if self.down else None
        text = SCRIPT.format(revision=self.name, down=down, upgrade=body, downgrade="    pass")
        (folder / f"{self.name}.py").write_text(text)


ROOT = Revision("r0", (), {number: (f"f{number}", str) for number in range(FIELDS)}, (), {}, FIRST)


@attrs.define
class Side:
    """A clone of the application, and its database.

    Attributes:
        clone: The clone.
        revisions: All revisions of all clones, in the order in which they were made.
        times: Counts for unique names, values and times.
    """

    clone: Clone
    revisions: dict[str, Revision]
    times: Iterator[int]

    @property
    def versions(self) -> Path:
        """The folder of the revisions."""
        return self.clone.path / "alembic" / "versions"

    @property
    def reached(self) -> list[Revision]:
        """The revisions that the clone has, in the order in which they were made."""
        there = {path.stem for path in self.versions.glob("*.py")}
        return [one for name, one in self.revisions.items() if name in there]

    @property
    def heads(self) -> tuple[str, ...]:
        """The revisions that no other one of the clone follows."""
        return tuple(sorted(ScriptDirectory.from_config(self._config()).get_heads()))

    def heads_with(self, field: int) -> tuple[str, ...]:
        """The heads that have everything behind them that has been done to a field."""
        wanted = {one.name for one in self.reached if field in one.touched}
        return tuple(head for head in self.heads if wanted <= self._behind(head))

    def _behind(self, name: str) -> set[str]:
        found, pending = set[str](), [name]
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending += self.revisions[name].down
        return found

    def fields(self) -> dict[int, tuple[str, type]]:
        """The name and the type of each field, by number."""
        found: dict[int, tuple[str, type]] = {}
        for one in self.reached:
            found |= one.fields
        return found

    def model(self) -> Any:
        """The model as the clone's revisions have made it."""

        class Base(DeclarativeBase):
            pass

        columns: dict[str, Any] = {
            name: Column(String if type_ is str else Integer, nullable=False)
            for name, type_ in self.fields().values()
        }
        columns["id"] = Column(String, primary_key=True)
        columns["updated_at"] = Column(BigInteger, default=0, nullable=False)
        return mirrored("tasks")(type("Task", (Base,), {"__tablename__": "tasks", **columns}))

    def add(self, revision: Revision) -> None:
        """Write a new revision."""
        self.revisions[revision.name] = revision
        revision.write(self.versions)

    def upgrade(self, *, logged: bool = True) -> None:
        """Run `alembic upgrade heads`."""
        engine = self._engine()
        config = self._config()
        config.attributes |= {
            "engine": engine,
            "path": self.clone.directory,
            "mirrors": [self.model()],
            "logged": logged,
        }
        alembic.command.upgrade(config, "heads")
        engine.dispose()

    @contextmanager
    def session(self) -> Iterator[tuple[Session, Any, Store]]:
        """A session on the mirrored table, committed at the end, with the model and the store."""
        model, engine = self.model(), self._engine()
        try:
            with Store.open(
                self.clone.directory,
                engine=engine,
                mirrors=[model],
                clock=lambda: 1000 * next(self.times),
            ) as store:
                with Session(engine) as session:
                    yield session, model, store
                    session.commit()
                report = store.verify()
                assert ((), ()) == (report.differences, report.problems)
                assert () == tuple(store.sync().problems)
        finally:
            engine.dispose()

    def rows(self) -> dict[tuple[str, int], tuple[int, Any]]:
        """The value and the time of each field of each record."""
        fields = self.fields()
        with self.session() as (session, model, store):
            assert not store.sync(force=True).problems
            found: dict[tuple[str, int], tuple[int, Any]] = {}
            for row in session.query(model):
                for number, (name, type_) in fields.items():
                    value: Any = getattr(row, name)
                    assert type_.__name__ == type(value).__name__
                    found[str(row.id), number] = int(value), row.updated_at
        return found

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the log of tasks."""
        text = (self.clone.directory / "tasks.jsonl").read_text()
        return list(map(json.loads, text.splitlines()))

    def _engine(self) -> Engine:
        return create_engine(f"sqlite:///{self.clone.path / 'app.db'}", poolclass=NullPool)

    def _config(self) -> Config:
        config = Config()
        config.set_main_option("script_location", str(self.clone.path / "alembic"))
        config.set_main_option("path_separator", "os")
        return config


def new_side(path: Path, revisions: dict[str, Revision], times: Iterator[int]) -> Side:
    """A clone with the first revision, and without records."""
    path.mkdir(parents=True)
    clone = Clone(path)
    clone.git("init", "-q", "-b", "main")
    side = Side(clone, revisions, times)
    side.versions.mkdir(parents=True)
    (path / "alembic" / "env.py").write_text(ENV)
    (path / ".gitignore").write_text("app.db*\n__pycache__/\n")
    clone.taskstore("init")
    quicken(clone)
    side.add(ROOT)
    side.upgrade()
    return side


def clone_of(side: Side, path: Path) -> Side:
    """A clone with a database of its own, migrated from nothing."""
    other = attrs.evolve(side, clone=side.clone.clone(path))
    quicken(other.clone)
    other.upgrade()
    return other


def quicken(clone: Clone) -> None:
    """Leave out the hooks, which start a process at each merge and commit."""
    clone.git("config", "core.hooksPath", os.devnull)
