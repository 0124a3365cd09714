"""An application with mirrored models and an Alembic history, in several clones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import attrs

from tests.git.clones import Clone
from tests.warm import warm_program

MODELS = {
    "old": """
        class Task(Base):
            __tablename__ = "tasks"
            id: Mapped[str] = mapped_column(primary_key=True)
            title: Mapped[str]
            prio: Mapped[str] = mapped_column(default="3")
            updated_at: Mapped[int] = mapped_column(BigInteger, default=0)
    """,
    "new": """
        class Task(Base):
            __tablename__ = "tasks"
            id: Mapped[str] = mapped_column(primary_key=True)
            name: Mapped[str]
            prio: Mapped[int] = mapped_column(default=3)
            updated_at: Mapped[int] = mapped_column(BigInteger, default=0)
    """,
}
HEAD = """
from sqlalchemy import BigInteger, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from taskstore import Store, mirrored

class Base(DeclarativeBase):
    pass
"""
TAIL = """
mirrored("tasks")(Task)
URL = "sqlite:///app.db"
"""
ENV = """
import sys
sys.path.insert(0, ".")
from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
import taskstore.migrations
import models

if context.is_offline_mode():
    context.configure(url=models.URL, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine(models.URL, poolclass=NullPool).connect() as connection:
        LOGGED
            context.configure(
                connection=connection, target_metadata=models.Base.metadata,
                render_as_batch=True,
                include_name=taskstore.migrations.include_name)
            with context.begin_transaction():
                context.run_migrations()
"""
LOGGED = 'with taskstore.migrations.logged(connection, ".taskstore", [models.Task]):'
SCRIPT = """
import sqlalchemy as sa
import taskstore.migrations
from alembic import op

revision = {revision!r}
down_revision = {down!r}

def upgrade():
{upgrade}

def downgrade():
{downgrade}
"""
FIRST = (
    """
    op.create_table(
        "tasks",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("prio", sa.String, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    taskstore.migrations.upgrade(op, "0009")
    """,
    """
    taskstore.migrations.downgrade(op, "base", since="0009")
    op.drop_table("tasks")
    """,
)
SECOND = (
    """
    with op.batch_alter_table("tasks") as tasks:
        tasks.alter_column("title", new_column_name="name")
        tasks.alter_column("prio", type_=sa.Integer, existing_type=sa.String)
        tasks.evolve_log(rename={"title": "name"}, convert={"prio": ("str", "int")})
    op.execute("UPDATE tasks SET prio = 1 WHERE name LIKE 'Ship%'")
    """,
    """
    with op.batch_alter_table("tasks") as tasks:
        tasks.alter_column("name", new_column_name="title")
        tasks.alter_column("prio", type_=sa.String, existing_type=sa.Integer)
    op.revert_log("tasks")
    """,
)


@attrs.frozen
class Application(Clone):
    """A clone with the application's code, its database and its store."""

    def write_models(self, which: str) -> None:
        """Write the models as they were, or as they are."""
        body = textwrap.dedent(MODELS[which])
        (self.path / "models.py").write_text(HEAD + body + TAIL)

    def write_env(self, *, logged: bool = True) -> None:
        """Write the Alembic environment, with or without our line."""
        folder = self.path / "alembic"
        (folder / "versions").mkdir(parents=True, exist_ok=True)
        (folder / "env.py").write_text(ENV.replace("LOGGED", LOGGED if logged else "if True:"))
        (folder / "script.py.mako").write_text(MAKO)
        (self.path / ".gitignore").write_text("app.db*\n__pycache__/\n")

    def write_revision(
        self, revision: str, down: str | tuple[str, ...] | None, steps: tuple[str, str]
    ) -> None:
        """Write a revision script."""
        up, back = (
            textwrap.indent(textwrap.dedent(step).strip() or "pass", "    ") for step in steps
        )
        text = SCRIPT.format(revision=revision, down=down, upgrade=up, downgrade=back)
        (self.path / "alembic" / "versions" / f"{revision}.py").write_text(text)

    def alembic(self, *call: str, status: int = 0, first: str = "") -> str:
        """Run Alembic in the clone, after some lines of a program; return what it printed."""
        program = (
            f"{first}\n"
            "import sys; from alembic.config import Config, CommandLine; "
            "c = Config(); c.set_main_option('script_location', 'alembic'); "
            "c.set_main_option('path_separator', 'os'); cli = CommandLine(); "
            "o = cli.parser.parse_args(sys.argv[1:]); cli.run_cmd(c, o)"
        )
        return self.python(program, *call, status=status)

    def python(self, program: str, *call: str, status: int = 0) -> str:
        """Run a program in the clone; return what it printed."""
        # Compiled code of the same second and length as a changed module would be taken for it.
        for compiled in self.path.rglob("__pycache__"):
            shutil.rmtree(compiled)
        done = subprocess.run(
            warm_program(program, *call),
            cwd=self.path,
            env={**os.environ, "PYTHONWARNINGS": "default"},
            capture_output=True,
            check=False,
            encoding="utf-8",
        )
        assert status == done.returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    def work(self, body: str = "") -> dict[str, Any]:
        """Open the store on the mirrored table, run some lines, and return all rows.

        The lines have `store` and a `session`, which is committed after them.
        """
        program = f"""
import json
from models import *
engine = create_engine(URL)
with Store.open(".taskstore", engine=engine, mirrors=[Task]) as store:
    with Session(engine) as session:
{textwrap.indent(textwrap.dedent(body), "        ")}
        session.commit()
    report = store.verify()
    with Session(engine) as session:
        rows = {{
            task.id: {{k: v for k, v in vars(task).items() if k[0] != "_" and k != "id"}}
            for task in session.query(Task)
        }}
    problems = [str(p) for p in (*report.differences, *report.problems, *store.sync().problems)]
    print(json.dumps({{"rows": rows, "problems": problems}}))
engine.dispose()
"""
        found: dict[str, Any] = json.loads(self.python(program).splitlines()[-1])
        return found

    def rows(self) -> dict[str, tuple[Any, ...]]:
        """The rows without their times; the store must have nothing to say against them."""
        found = self.work()
        assert [] == found["problems"], found["problems"]
        return {
            id: tuple(value for key, value in sorted(row.items()) if key != "updated_at")
            for id, row in found["rows"].items()
        }

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the log of tasks."""
        text = (self.directory / "tasks.jsonl").read_text()
        return list(map(json.loads, text.splitlines()))


MAKO = """
import sqlalchemy as sa
from alembic import op
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}

def upgrade():
    ${upgrades if upgrades else "pass"}

def downgrade():
    ${downgrades if downgrades else "pass"}
"""


def new_application(path: Path) -> Application:
    """An application in its first shape, with three tasks in a database and in a log."""
    path.mkdir(parents=True)
    one = Application(path)
    one.git("init", "-q", "-b", "main")
    one.write_models("old")
    one.write_env()
    one.write_revision("a1", None, FIRST)
    one.alembic("upgrade", "head")
    one.taskstore("init")
    one.work(
        """
        session.add_all([
            Task(id="t-1", title="Ship it", prio="2"),
            Task(id="t-2", title="Sail it", prio="5"),
            Task(id="t-3", title="Sell it"),
        ])
        """
    )
    one.git("add", "-A")
    one.git("commit", "-qm", "base", "--no-verify")
    return one


def evolve(one: Application) -> None:
    """Give an application its second shape: the models, and the revision."""
    one.write_models("new")
    one.write_revision("a2", "a1", SECOND)
