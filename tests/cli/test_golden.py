"""What every command prints, on a pipe and on a terminal, to the letter.

The files in `golden/` are what was looked at and found good. To look at new ones, run the tests
with TASKSTORE_GOLDEN=write and read the difference.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from taskstore.cli import main
from tests.cli.programs import Run, on_pipe, on_terminal

GOLDEN = Path(__file__).parent / "golden"

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
    "get": (["get", "plans", "plan-003"], ""),
    "get-json": (["get", "plans", "plan-001", "plan-002", "--json"], ""),
    "add": (["add", "plans", "id=plan-009", "title=5", "priority=5", "due=2024-01-01"], ""),
    "add-stdin": (["add", "plans", "-"], '[{"id": "a", "title": "x"}, {"id": "b"}]'),
    "set": (["set", "plans", "plan-001", "status=done", "priority=8", "--unset", "labels"], ""),
    "set-nothing": (["set", "plans", "plan-001", "status=open"], ""),
    "set-refused": (["set", "plans", "plan-002", "status=done", "--if", "!assignee"], ""),
    "delete": (["delete", "plans", "plan-001", "plan-003"], ""),
    "delete-where": (["delete", "plans", "-w", "status=open"], "y\n"),
    "delete-dry": (["delete", "plans", "-w", "status=open", "--dry-run"], ""),
    "history": (["history", "plans", "plan-001"], ""),
    "history-json": (["history", "plans", "plan-004", "--json"], ""),
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
    "sql-json": (["sql", "SELECT :a AS a, id FROM notes", "-p", "a", "x", "--json"], ""),
    "sync": (["sync"], ""),
    "sync-json": (["sync", "--json"], ""),
    "verify": (["verify"], ""),
    "verify-json": (["verify", "--json"], ""),
    "compact": (["compact", "plans"], ""),
    "compact-json": (["compact", "plans", "--keep-tombstones", "0", "--json"], ""),
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


def seen(run: Run, folder: Path) -> str:
    """A run as text, without what differs from one to the next."""
    parts = [run.stdout] + ([f"--- stderr\n{run.stderr}"] if run.stderr else [])
    # On a busy machine anything may take so long that there is a bar, which then goes again.
    text = re.sub(
        r"\x1b\[\?25l.*?\x1b\[\?25h\r?(?:\x1b\[1A\x1b\[2K)*", "", "".join(parts), flags=re.DOTALL
    )
    text = text.replace(str(folder.resolve()), "FOLDER")
    text = re.sub(r"\d+ days ago", "MANY days ago", text)
    text = re.sub(r'("cache_bytes"): \d+|\(cache: [^)]*\)', r"\1CACHE", text)
    text = text.replace("\x1b", "␛")
    return text + (f"--- exit status {run.status}\n" if run.status else "")


def compare(name: str, found: str) -> None:
    """Compare with the golden file of a name, or write it."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("TASKSTORE_GOLDEN") == "write":
        path.write_text(found, encoding="utf-8", newline="")
    assert path.read_bytes().decode() == found


@pytest.fixture
def place(folder: Path) -> Path:
    """The folder of the sample store, with a file to import."""
    (folder / "in.jsonl").write_text(IMPORT, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", CASES)
def test_a_pipe_gets_plain_text(name: str, place: Path) -> None:
    """In a pipe data is plain text on stdout, and all else is on stderr."""
    arguments, stdin = CASES[name]
    if name == "delete-where":
        arguments = [*arguments, "--yes"]
    run = on_pipe(*arguments, cwd=place, stdin=stdin)
    if name != "export-csv":
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
    """Each command has a case here; `merge` and `completion` have tests of their own."""
    tried = {arguments[0] for arguments, _ in CASES.values()}
    elsewhere = {"merge", "completion"}
    assert set(main.list_commands(None)) == tried | elsewhere  # type: ignore[arg-type]
