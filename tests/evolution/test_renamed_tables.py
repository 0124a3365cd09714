"""An application that renames a table: `op.rename_table`, and `op.evolve_log(..., was=...)`."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.evolution.application import HEAD, Application, new_application
from tests.evolution.test_kill import DIE, POINTS

MODELS = {
    "old": 'mirrored("tasks")(Task)',
    "new": 'mirrored("jobs", was="tasks")(Task)',
    "careless": 'mirrored("jobs")(Task)',
    "all": 'mirrored_all = mirror_all(Base, updated_at="updated_at", was={"jobs": "tasks"})',
}
CLASS = """
from taskstore import mirror_all

class Task(Base):
    __tablename__ = TABLE
    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    prio: Mapped[str] = mapped_column(default="3")
    updated_at: Mapped[int] = mapped_column(BigInteger, default=0)

DECLARED
URL = "sqlite:///app.db"
"""
RENAME = (
    """
    op.rename_table("tasks", "jobs")
    op.evolve_log("jobs", was="tasks")
    op.execute("UPDATE jobs SET prio = '1' WHERE id = 't-1'")
    """,
    """
    op.revert_log("jobs", was="tasks")
    op.rename_table("jobs", "tasks")
    """,
)
EXPECTED = {"t-1": ("1", "Ship it"), "t-2": ("5", "Sail it"), "t-3": ("3", "Sell it")}


def write(one: Application, which: str) -> None:
    """Write the models as they were, or as they are."""
    table = "tasks" if which == "old" else "jobs"
    body = CLASS.replace("TABLE", repr(table)).replace("DECLARED", MODELS[which])
    (one.path / "models.py").write_text(HEAD + body)


def rename(one: Application) -> None:
    """Give an application the new table: the models, and the revision."""
    write(one, "new")
    one.write_revision("a2", "a1", RENAME)


def copied(one: Application, path: Path) -> Application:
    """A clone of an application, with git's configuration and without a database."""
    return Application(one.clone(path).path)


@pytest.fixture
def one(tmp_path: Path) -> Application:
    """The application before, with three tasks."""
    return new_application(tmp_path / "one")


@pytest.mark.parametrize("renames", ["true", "false"])
def test_an_upgrade_takes_the_log_along(one: Application, tmp_path: Path, renames: str) -> None:
    """Clones that upgrade at other times end equal, and no line of any of them is lost."""
    third = copied(one, tmp_path / "three")
    third.git("config", "merge.renames", renames)
    third.alembic("upgrade", "head")
    third.work(
        'session.get(Task, "t-1").title = "Shipped"\nsession.add(Task(id="t-4", title="New"))'
    )
    third.commit("edits under the old name")
    old = one.lines()
    rename(one)
    one.alembic("upgrade", "head")
    assert EXPECTED == one.rows()
    assert old == one.lines()[: len(old)]
    assert not (one.directory / "jobs.jsonl").exists()
    assert {"1", "3", "5"} == {row["prio"] for row in one.json("list", "jobs")}
    one.commit("renamed")
    second = copied(one, tmp_path / "two")
    second.alembic("upgrade", "head")
    assert EXPECTED == second.rows()
    third.git("pull", "-q", "--no-rebase", "--no-edit", str(one.path), "main")
    third.alembic("upgrade", "head")
    merged = EXPECTED | {"t-1": ("1", "Shipped"), "t-4": ("3", "New")}
    assert merged == third.rows()
    second.git("pull", "-q", "--no-rebase", str(third.path), "main")
    assert merged == second.rows()
    assert second.lines() == third.lines()


def test_a_clone_before_the_upgrade_keeps_its_table(one: Application, tmp_path: Path) -> None:
    """Code and database of before serve what they know of lines that the new name came with."""
    second = copied(one, tmp_path / "two")
    second.alembic("upgrade", "head")
    second.rows()
    rename(one)
    one.alembic("upgrade", "head")
    one.rows()
    (second.directory / "tasks.jsonl").write_bytes((one.directory / "tasks.jsonl").read_bytes())
    (second.directory / "evolutions.jsonl").write_bytes(
        (one.directory / "evolutions.jsonl").read_bytes()
    )
    found = second.work('session.get(Task, "t-2").title = "Swim it"')
    assert {"t-2", "t-3"} <= found["rows"].keys()
    assert any("upgrade" in problem for problem in found["problems"])
    (one.directory / "tasks.jsonl").write_bytes((second.directory / "tasks.jsonl").read_bytes())
    assert EXPECTED | {"t-2": ("5", "Swim it")} == one.rows()


def test_a_downgrade_reverses_it(one: Application) -> None:
    """After a downgrade the old name is back with all that was written, and up again as well."""
    rename(one)
    one.alembic("upgrade", "head")
    one.work('session.get(Task, "t-2").title = "Swim it"')
    shown = {item["collection"] for item in one.json("collections")}
    assert {"evolutions", "jobs"} == shown
    write(one, "old")
    one.alembic("downgrade", "a1")
    expected = EXPECTED | {"t-2": ("5", "Swim it")}
    assert expected == one.rows()
    one.work('session.get(Task, "t-3").title = "Sold"')
    assert "$revision" not in one.lines()[-1]
    write(one, "new")
    one.alembic("upgrade", "head")
    assert expected | {"t-3": ("3", "Sold")} == one.rows()


def test_as_sql(one: Application) -> None:
    """The scripts of `--sql` state the new name, and take it back, under the name of the log."""
    write(one, "new")
    one.write_revision("a2", "a1", (RENAME[0].partition("op.execute")[0], RENAME[1]))
    script = one.alembic("upgrade", "a1:a2", "--sql").partition("INFO")[0]
    one.python("import sqlite3, sys; sqlite3.connect('app.db').executescript(sys.argv[1])", script)
    expected = EXPECTED | {"t-1": ("2", "Ship it")}
    assert expected == one.rows()
    [line] = (one.directory / "evolutions.jsonl").read_text().splitlines()
    assert ("tasks@a2", [{"collection": ["tasks", "jobs"]}]) == (
        json.loads(line)["id"],
        json.loads(line)["steps"],
    )
    script = one.alembic("downgrade", "a2:a1", "--sql").partition("INFO")[0]
    one.python("import sqlite3, sys; sqlite3.connect('app.db').executescript(sys.argv[1])", script)
    write(one, "old")
    assert expected == one.rows()


def test_later_revisions_name_either(one: Application) -> None:
    """A revision after it evolves the log under the new name, and one renames it again."""
    rename(one)
    later = 'op.evolve_log("jobs", default={"note": ""})\nop.evolve_log("works", was="jobs")'
    one.write_revision("a3", "a2", (later, 'op.revert_log("works")'))
    one.alembic("upgrade", "head")
    one.rows()
    stated = [
        json.loads(line) for line in (one.directory / "evolutions.jsonl").read_text().splitlines()
    ]
    assert {"tasks@a2": [], "tasks@a3": ["a2"]} == {item["id"]: item["parents"] for item in stated}
    assert 3 == len(one.json("list", "works"))
    assert {""} == {row["note"] for row in one.json("list", "works")}


def test_a_model_without_the_former_name_is_refused(one: Application) -> None:
    """Nothing is exported to a second log by a model that has the new name alone."""
    rename(one)
    one.alembic("upgrade", "head")
    before = one.rows()
    write(one, "careless")
    said = one.python(
        "from models import *\nStore.open('.taskstore', engine=create_engine(URL), mirrors=[Task])",
        status=1,
    )
    assert "declare mirrored('jobs', was='tasks')" in said
    write(one, "new")
    assert before == one.rows()


def test_mirror_all_takes_former_names(one: Application) -> None:
    """`mirror_all` maps renamed tables to their logs, and refuses names of no table."""
    rename(one)
    one.alembic("upgrade", "head")
    write(one, "all")
    said = one.python(
        """
from models import *
from taskstore import InvalidDeclarationError
engine = create_engine(URL)
with Store.open(".taskstore", engine=engine, mirrors=mirrored_all) as store:
    with Session(engine) as session:
        session.get(Task, "t-2").title = "Swim it"
        session.commit()
    assert store.verify().ok
engine.dispose()
try:
    mirror_all(Base, was={"wrong": "tasks"})
except InvalidDeclarationError as error:
    print(error)
"""
    )
    assert "was names 'wrong'" in said
    assert ("t-2", "Swim it") == (one.lines()[-1]["id"], one.lines()[-1]["title"])


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_after_the_commit_loses_nothing(one: Application, point: str) -> None:
    """The next open states the name and logs what the revision changed."""
    rename(one)
    one.alembic("upgrade", "head", first=DIE + POINTS[point], status=-signal.SIGKILL)
    assert EXPECTED == one.rows()
    before = one.lines()
    (one.path / "app.db").unlink()
    one.alembic("upgrade", "head")
    assert EXPECTED == one.rows()
    assert before == one.lines()


def test_a_kill_before_the_commit_changes_nothing(one: Application) -> None:
    """A process that dies within the upgrade leaves table and log as they were."""
    rename(one)
    before = one.lines()
    one.write_revision("a3", "a2", ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ""))
    one.alembic("upgrade", "head", status=-signal.SIGKILL)
    assert before == one.lines()
    assert not (one.directory / "evolutions.jsonl").exists()
    write(one, "old")
    assert EXPECTED | {"t-1": ("2", "Ship it")} == one.rows()
