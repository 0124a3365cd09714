"""The example application goes through three revisions, and its log with it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from alembic import command

from taskstore import RecordSkippedWarning
from tests.applications.tracker import (
    EVOLVING,
    IGNORED,
    Running,
    apply,
    database,
    history,
    imported,
    laid_out,
    running,
)
from tests.git.clones import Clone

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

TITLES = ("Ship it", "Sail it", "Sell it")


@pytest.fixture
def one(tmp_path: Path) -> Clone:
    """The git-tracked application with three tasks, of which one has a label."""
    one = Clone(laid_out(tmp_path / "one", tracked=True))
    one.git("init", "-q", "-b", "main")
    one.write(IGNORED, ".gitignore")
    one.taskstore("init")
    with imported(one.path) as api, running(one, api) as app:
        for title in TITLES:
            app.call("POST", "/tasks", title=title)
        app.call("PUT", f"/tasks/{ids(app, 'title')['Ship it']}/labels/urgent")
    one.commit("base")
    return one


def ids(app: Running, name: str) -> dict[str, str]:
    """The ids of the tasks, by what a field calls them."""
    return {task[name]: task["id"] for task in app.call("GET", "/tasks")}


def done(app: Running) -> dict[str, bool]:
    """Which tasks are done, by name."""
    return {task["name"]: task["is_done"] for task in app.call("GET", "/tasks")}


def colors(clone: Clone) -> list[Any]:
    """The colors of the labels."""
    with database(clone.path) as engine, engine.connect() as connection:
        return list(connection.exec_driver_sql("SELECT color FROM labels").scalars())


def test_the_log_goes_through_three_revisions(one: Clone, tmp_path: Path) -> None:
    """A clone that has upgraded and one that edits in the old shape merge, and end equal."""
    two = one.clone(tmp_path / "two")
    with imported(two.path) as api, running(two, api) as app:
        found = ids(app, "title")
        app.call("PATCH", f"/tasks/{found['Sail it']}", status="closed")
        app.call("PATCH", f"/tasks/{found['Sell it']}", title="Sold")
    two.commit("edits in the old shape")
    before = one.read(".taskstore/tasks.jsonl")
    apply(EVOLVING, one.path)
    with imported(one.path) as api, running(one, api) as app:
        assert dict.fromkeys(TITLES, False) == done(app)
        assert ["gray"] == colors(one)
        app.call("PATCH", f"/tasks/{ids(app, 'name')['Sell it']}", is_done=True)
    assert one.read(".taskstore/tasks.jsonl").startswith(before)
    one.commit("evolved")
    two.git("pull", "-q", "--no-rebase", "--no-edit", str(one.path), "main")
    expected = {"Ship it": False, "Sail it": True, "Sold": True}
    with imported(two.path) as api, running(two, api) as app:
        assert expected == done(app)
        assert ["gray"] == colors(two)
        merged = app.dump()
    # It has upgraded on its own, and nothing was left to log.
    assert "" == two.git("status", "--porcelain").stdout
    one.git("pull", "-q", "--no-rebase", "--no-edit", str(two.path), "main")
    with imported(one.path) as api, running(one, api) as app:
        assert expected == done(app)
        assert merged == app.dump()
    three = two.clone(tmp_path / "three")
    with imported(three.path) as api, running(three, api) as app:
        assert merged == app.dump()


def test_the_revisions_go_back(one: Clone) -> None:
    """After a downgrade the old code reads what the new one has written."""
    apply(EVOLVING, one.path)
    with imported(one.path) as api, running(one, api) as app:
        app.call("PATCH", f"/tasks/{ids(app, 'name')['Ship it']}", is_done=True, name="Shipped")
    with imported(one.path), pytest.warns(RecordSkippedWarning, match="lacks the column"):
        command.downgrade(history(one.path), "a3")
    one.git("stash", "-q", "--include-untracked", "--", "tracker", "migrations")
    with imported(one.path) as api, running(one, api) as app:
        found = {task["title"]: task["status"] for task in app.call("GET", "/tasks")}
    assert {"Shipped": "closed", "Sail it": "open", "Sell it": "open"} == found
