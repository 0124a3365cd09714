"""`alembic upgrade` takes an application's log along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evolution.application import Application, evolve, new_application

SHIPPED = {"t-1": ("Ship it", 1), "t-2": ("Sail it", 5), "t-3": ("Sell it", 3)}


@pytest.fixture
def one(tmp_path: Path) -> Application:
    """The application in its first shape."""
    return new_application(tmp_path / "one")


def copied(one: Application, path: Path) -> Application:
    """A clone of an application, with git's configuration and without a database."""
    return Application(one.clone(path).path)


def test_an_upgrade_takes_the_log_along(one: Application, tmp_path: Path) -> None:
    """Three clones, upgraded in each its way, end equal, and no old line is touched."""
    third = copied(one, tmp_path / "three")
    third.alembic("upgrade", "head")
    third.work(
        """
        session.get(Task, "t-2").prio = "4"
        session.add(Task(id="t-4", title="Sing it", prio="9"))
        """
    )
    third.commit("edits in the old shape")
    old = one.lines()
    evolve(one)
    one.alembic("upgrade", "head")
    assert SHIPPED == one.rows()
    assert old == one.lines()[: len(old)]
    [new] = one.lines()[len(old) :]
    assert ("t-1", 1, "a2") == (new["id"], new["prio"], new["$revision"])
    one.commit("evolved")
    second = copied(one, tmp_path / "two")
    second.alembic("upgrade", "head")
    assert SHIPPED == second.rows()
    assert one.lines() == second.lines()
    evolve(third)
    third.alembic("upgrade", "head")
    third.rows()
    third.commit("evolved alone")
    third.git("pull", "-q", "--no-rebase", str(one.path), "main")
    merged = SHIPPED | {"t-2": ("Sail it", 4), "t-4": ("Sing it", 9)}
    assert merged == third.rows()
    for other in (one, second):
        other.git("pull", "-q", "--no-rebase", str(third.path), "main")
        assert merged == other.rows()
    assert one.lines() == second.lines() == third.lines()


def test_what_a_revision_writes_is_logged(one: Application) -> None:
    """Rows that a revision inserts, changes and deletes are in the log, and stay so."""
    one.write_revision(
        "a2",
        "a1",
        (
            """
            op.execute("DELETE FROM tasks WHERE id = 't-1'")
            op.execute("INSERT INTO tasks VALUES ('t-9', 'New', '1', 0)")
            op.execute("UPDATE tasks SET title = 'Other' WHERE id = 't-2'")
            """,
            "",
        ),
    )
    one.alembic("upgrade", "head")
    expected = {"t-2": ("5", "Other"), "t-3": ("3", "Sell it"), "t-9": ("1", "New")}
    assert expected == one.rows()
    (one.path / "app.db").unlink()
    one.alembic("upgrade", "a1")
    assert expected == one.rows()


def test_a_failed_upgrade_changes_nothing(one: Application) -> None:
    """An upgrade that fails leaves tables, evolutions and lines as they were."""
    evolve(one)
    one.write_revision("a3", "a2", ("raise RuntimeError('no')", ""))
    before = one.lines()
    assert "RuntimeError: no" in one.alembic("upgrade", "head", status=1)
    one.write_models("old")
    assert before == one.lines()
    assert not (one.directory / "evolutions.jsonl").exists()
    assert ("2", "Ship it") == one.rows()["t-1"]


def test_a_downgrade_reverses_what_it_can(one: Application) -> None:
    """After a downgrade newer lines are read in the old shape, and an upgrade brings all back."""
    evolve(one)
    one.alembic("upgrade", "head")
    one.work('session.get(Task, "t-2").name = "Swim it"')
    one.write_models("old")
    one.alembic("downgrade", "a1")
    expected = {"t-1": ("1", "Ship it"), "t-2": ("5", "Swim it"), "t-3": ("3", "Sell it")}
    assert expected == one.rows()
    one.work('session.get(Task, "t-3").title = "Sold"')
    assert "$revision" not in one.lines()[-1]
    one.write_models("new")
    one.alembic("upgrade", "head")
    assert {"t-1": ("Ship it", 1), "t-2": ("Swim it", 5), "t-3": ("Sold", 3)} == one.rows()


def test_without_our_line_the_next_open_reports(one: Application) -> None:
    """Rows that a bare upgrade wrote are kept, reported with the remedy, and exported."""
    evolve(one)
    one.write_env(logged=False)
    one.alembic("upgrade", "head")
    found = one.work()
    assert 1 == found["rows"]["t-1"]["prio"]
    assert any("export" in problem for problem in found["problems"]), found
    one.work("assert 1 == store.export(Task)")
    assert SHIPPED == one.rows()


def test_as_sql(one: Application) -> None:
    """The script of `--sql` states the evolution, and the next open brings it into the log."""
    evolve(one)
    one.write_revision(
        "a2",
        "a1",
        (
            """
            op.execute("ALTER TABLE tasks RENAME COLUMN title TO name")
            op.execute("ALTER TABLE tasks RENAME COLUMN prio TO old")
            op.execute("ALTER TABLE tasks ADD COLUMN prio INTEGER NOT NULL DEFAULT 3")
            op.execute("UPDATE tasks SET prio = CAST(old AS INTEGER)")
            op.execute("ALTER TABLE tasks DROP COLUMN old")
            op.evolve_log("tasks", rename={"title": "name"}, convert={"prio": ("str", "int")})
            """,
            'op.revert_log("tasks")',
        ),
    )
    script = one.alembic("upgrade", "a1:a2", "--sql").partition("INFO")[0]
    assert "log_evolutions" in script
    one.python("import sqlite3, sys; sqlite3.connect('app.db').executescript(sys.argv[1])", script)
    assert SHIPPED | {"t-1": ("Ship it", 2)} == one.rows()
    [line] = (one.directory / "evolutions.jsonl").read_text().splitlines()
    assert "tasks@a2" == json.loads(line)["id"]


def test_an_older_clone_keeps_newer_lines(one: Application, tmp_path: Path) -> None:
    """A clone that has not upgraded keeps and reports newer lines, and can write other records."""
    old = copied(one, tmp_path / "old")
    old.alembic("upgrade", "head")
    old.rows()
    evolve(one)
    one.alembic("upgrade", "head")
    one.rows()
    one.commit("evolved")
    old.git("fetch", "-q")
    old.git("checkout", "-q", "origin/main", "--", ".taskstore")
    found = old.work('session.get(Task, "t-2").title = "Mine"')
    assert any("'a2'" in problem and "upgrade" in problem for problem in found["problems"])
    assert {"t-1", "t-2", "t-3"} == found["rows"].keys()
    before = old.lines()
    refused = """
from taskstore import UnknownRevisionError
try:
    session.get(Task, "t-1").title = "Mine"
    session.commit()
except UnknownRevisionError as error:
    session.rollback()
else:
    raise AssertionError
"""
    old.work(refused)
    assert before == old.lines()


def test_autogenerate_states_the_evolution(one: Application) -> None:
    """Beside the changes of a mirrored table stands how lines are read; a rename is suspected."""
    one.write_models("new")
    one.alembic("revision", "--autogenerate", "--rev-id", "a2")
    [script] = (one.path / "alembic" / "versions").glob("a2*.py")
    upgrade, _, downgrade = script.read_text().partition("def downgrade")
    assert "# if 'title' has become 'name': rename={'title': 'name'}" in upgrade
    assert "evolve_log('tasks', convert={'prio': ('str', 'int')}, drop=['title'])" in upgrade
    assert "revert_log('tasks')" in downgrade


def test_a_database_without_our_tables(one: Application) -> None:
    """On a connection that knows no store, an upgrade warns and goes through."""
    evolve(one)
    one.write_env(logged=False)
    one.write_revision("a1", None, (FIRST_ALONE, 'op.drop_table("tasks")'))
    (one.path / "app.db").unlink()
    assert "EvolutionSkippedWarning" in one.alembic("upgrade", "head")


FIRST_ALONE = """
op.create_table(
    "tasks",
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("title", sa.String, nullable=False),
    sa.Column("prio", sa.String, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)
"""
