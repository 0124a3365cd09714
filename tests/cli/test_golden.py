"""What every command prints, on a pipe and on a terminal, to the letter.

The commands for git are in tests/git.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from taskstore.cli import main
from tests.cli import shop
from tests.cli.golden_files import compare, seen
from tests.cli.programs import on_pipe, on_terminal
from tests.git.test_golden import CASES as GIT

CASES: dict[str, tuple[list[str], str]] = {
    "list": (["list", "plans"], ""),
    "list-filtered": (
        ["list", "plans", "-w", "status=open", "-w", "priority>5", "-s", "-priority", "-n", "1"],
        "",
    ),
    "list-columns": (["list", "plans", "--columns", "id,labels,note", "--no-header"], ""),
    "list-json": (["list", "plans", "--columns", "id,priority,done", "--json"], ""),
    "list-count": (["list", "plans", "-w", "!assignee", "--count"], ""),
    "list-nothing": (["list", "plans", "-w", "priority>99"], ""),
    "list-csv": (["list", "plans", "--format", "csv"], ""),
    "list-nl": (["list", "plans", "--format", "nl"], ""),
    "list-table": (["list", "plans", "--format", "table", "--columns", "id,note"], ""),
    "list-tsv": (["list", "plans", "--format", "tsv", "--no-header"], ""),
    "get": (["get", "plans", "plan-003"], ""),
    "get-json": (["get", "plans", "plan-001", "plan-002", "--json"], ""),
    "add": (["add", "plans", "id=plan-009", "title=5", "priority=5", "due=2024-01-01"], ""),
    "add-stdin": (["add", "plans", "-"], '[{"id": "a", "title": "x"}, {"id": "b"}]'),
    "set": (["set", "plans", "plan-001", "status=done", "priority=8", "--unset", "labels"], ""),
    "set-where": (["set", "plans", "-w", "priority>0", "status=done", "--yes"], ""),
    "set-where-dry": (["set", "plans", "-w", "status=open", "x=1", "--dry-run", "--json"], ""),
    "schema": (["schema", "plans"], ""),
    "schema-json": (["schema", "plans", "--json"], ""),
    "search": (["search", "SHIP"], ""),
    "search-nl": (["search", "open", "plans", "-n", "1", "-f", "nl"], ""),
    "set-nothing": (["set", "plans", "plan-001", "status=open"], ""),
    "set-refused": (["set", "plans", "plan-002", "status=done", "--if", "!assignee"], ""),
    "delete": (["delete", "plans", "plan-001", "plan-003"], ""),
    "delete-where": (["delete", "plans", "-w", "status=open"], "y\n"),
    "delete-dry": (["delete", "plans", "-w", "status=open", "--dry-run"], ""),
    "history": (["history", "plans", "plan-001"], ""),
    "history-json": (["history", "plans", "plan-004", "--json"], ""),
    "history-csv": (["history", "plans", "plan-001", "--format", "csv"], ""),
    "history-nl": (["history", "plans", "plan-004", "-f", "nl"], ""),
    "export-csv": (["export", "plans", "-f", "csv"], ""),
    "export-jsonl": (["export", "plans", "-w", "done"], ""),
    "export-file": (["export", "plans", "-o", "out.json"], ""),
    "import": (["import", "plans", "in.jsonl"], ""),
    "import-dry": (["import", "plans", "in.jsonl", "--dry-run"], ""),
    "import-json": (["import", "plans", "in.jsonl", "--dry-run", "--json"], ""),
    "status": (["status"], ""),
    "status-json": (["status", "--json"], ""),
    "collections": (["collections"], ""),
    "collections-json": (["collections", "--json"], ""),
    "indexes-show": (["indexes", "show"], ""),
    "indexes-add": (["indexes", "add", "plans", "status", "priority"], ""),
    "sql": (["sql", "SELECT status, count(*) AS n FROM plans GROUP BY status"], ""),
    "sql-csv": (["sql", "SELECT id, labels, done FROM plans", "--format", "csv"], ""),
    "sql-json": (["sql", "SELECT :a AS a, id FROM notes", "-p", "a", "x", "--json"], ""),
    "sync": (["sync"], ""),
    "sync-json": (["sync", "--json"], ""),
    "verify": (["verify"], ""),
    "verify-json": (["verify", "--json"], ""),
    "compact": (["compact", "plans"], ""),
    "compact-json": (["compact", "plans", "--keep-tombstones", "0", "--json"], ""),
    "drop": (["drop", "plans", "--yes"], ""),
    "drop-asks": (["drop", "notes"], "y\n"),
    "drop-json": (["drop", "plans", "--dry-run", "--json"], ""),
    "rename": (["rename", "plans", "tasks"], ""),
    "rename-json": (["rename", "plans", "tasks", "--json"], ""),
    "evolve": (["evolve"], ""),
    "evolve-json": (["evolve", "plans", "--json"], ""),
    "evolve-step": (["evolve", "plans", "--step", '{"rename": {"title": "name"}}'], ""),
    "adopt": (["adopt", "shop:Base", "--exclude", "users.token"], ""),
    "adopt-json": (["adopt", "shop:Base", "--json"], ""),
    "trust": (["trust"], ""),
    "trust-json": (["trust", "shop.models", "--json"], ""),
    "watch": (["watch", "--since", "0", "--once"], ""),
    "watch-json": (["watch", "notes", "--since", "0", "--once", "--json"], ""),
}

IMPORT = """\
{"id": "plan-001", "title": "Old", "updated_at": 1600000000000}
{"id": "plan-002", "title": "Write more docs", "updated_at": 1800000000000}
{"id": "plan-002", "title": "Older", "updated_at": 1750000000000}
{"id": "plan-010", "title": "New"}
{"id": "plan-003", "status": "done"}
{"id": "plan-404", "deleted": true, "updated_at": 5}
{"title": "No id"}
{"id": "plan-011", "updated_at": "yesterday"}
{"id":
[1]
"""


@pytest.fixture
def place(folder: Path) -> Path:
    """The folder of the sample store, with a file to import and the models of an application."""
    shutil.copy(shop.__file__, folder / "shop.py")
    (folder / "in.jsonl").write_text(IMPORT, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", CASES)
def test_a_pipe_gets_plain_text(name: str, place: Path) -> None:
    """In a pipe data is plain text on stdout, and all else is on stderr."""
    arguments, stdin = CASES[name]
    if name == "delete-where":
        arguments = [*arguments, "--yes"]
    run = on_pipe(*arguments, cwd=place, stdin=stdin)
    if not name.endswith("-csv"):
        assert "\x1b" not in run.stdout + run.stderr
    compare(f"{name}.pipe", seen(run, place))


@pytest.mark.parametrize("name", [name for name in CASES if name != "add-stdin"])
def test_a_terminal_gets_tables(name: str, place: Path) -> None:
    """On a terminal the same is in tables and colours."""
    arguments, typed = CASES[name]
    compare(f"{name}.tty", seen(on_terminal(*arguments, cwd=place, typed=typed), place))


def test_colour_can_be_turned_off(place: Path) -> None:
    """With NO_COLOR a terminal gets no colours; what a record has in it never steers it."""
    run = on_terminal("list", "plans", cwd=place, NO_COLOR="1")
    assert [] == re.findall(r"\x1b\[[0-9;]*3[0-9]m", run.stdout)
    assert r"\x1b[31mred" in run.stdout
    assert "\x1b[36m" in on_terminal("list", "plans", cwd=place).stdout


def test_every_command_is_tried() -> None:
    """Each command has a case here or in tests/git; the others have tests of their own."""
    tried = {arguments[0] for arguments, _ in CASES.values()} | {call[0] for call in GIT.values()}
    elsewhere = {"merge", "completion", "edit", "blame", "restore", "revert", "scribe"}
    elsewhere |= {"browse", "mcp"}
    assert set(main.list_commands(None)) == tried | elsewhere  # type: ignore[arg-type]
