"""A process that dies after the COMMIT of migrations and before what they wrote is logged."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.evolution.application import SECOND, Application, evolve, new_application

UPGRADE = (
    SECOND[0]
    + """
    op.execute("DELETE FROM tasks WHERE id = 't-3'")
    op.execute("INSERT INTO tasks VALUES ('t-9', 'New', 7, 0)")
    """,
    SECOND[1],
)
EXPECTED = {"t-1": ("Ship it", 1), "t-2": ("Sail it", 5), "t-9": ("New", 7)}
DIE = """
import os, signal
from taskstore._api import store, upgrading
from taskstore._log import commit, journal

def die(*values, **options):
    os.kill(os.getpid(), signal.SIGKILL)
"""
POINTS = {
    "before the store is opened": "upgrading.Upgrade.log = die",
    "before the rows are logged": "store.Store._log_migrated = die",
    "after the lines are appended": """
append = commit.LogWriter.append
def append_and_die(self, batch, *values):
    appended = append(self, batch, *values)
    if "tasks" in batch:
        die()
    return appended
commit.LogWriter.append = append_and_die
""",
}


@pytest.fixture
def one(tmp_path: Path) -> Application:
    """The application in its first shape, with a revision for its second one."""
    one = new_application(tmp_path / "one")
    evolve(one)
    one.write_revision("a2", "a1", UPGRADE)
    one.commit("a revision")
    return one


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_after_the_commit_loses_nothing(one: Application, point: str) -> None:
    """The next open logs what the migrations have changed, inserted and deleted."""
    one.alembic("upgrade", "head", first=DIE + POINTS[point], status=-signal.SIGKILL)
    assert EXPECTED == one.rows()
    before = one.lines()
    (one.path / "app.db").unlink()
    one.alembic("upgrade", "head")
    assert EXPECTED == one.rows()
    assert before == one.lines()


def test_what_comes_before_the_next_open_counts(one: Application, tmp_path: Path) -> None:
    """A record that was changed elsewhere meanwhile has that change, and not the old row."""
    two = Application(one.clone(tmp_path / "two").path)
    two.write_models("old")
    two.alembic("upgrade", "a1")
    two.rows()
    two.write_models("new")
    two.alembic("upgrade", "head")
    two.work('session.get(Task, "t-1").name = "Shipped"\nsession.get(Task, "t-9").prio = 8')
    two.commit("edited")
    one.alembic("upgrade", "head", first=DIE + POINTS["before the store is opened"], status=-9)
    one.git("pull", "-q", "--no-rebase", str(two.path), "main")
    expected = {"t-1": ("Shipped", 1), "t-2": ("Sail it", 5), "t-9": ("New", 8)}
    assert expected == one.rows() == two.rows()


def test_a_stamp_opens_no_store(one: Application) -> None:
    """`alembic stamp` and `alembic current` go through `logged`, and have nothing to log."""
    one.alembic("upgrade", "head")
    before = one.lines()
    refuse = DIE + "store.Store.open = die"
    one.alembic("stamp", "a1", first=refuse)
    one.alembic("stamp", "a2", first=refuse)
    one.alembic("current", first=refuse)
    assert before == one.lines()
