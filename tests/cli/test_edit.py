"""`taskstore edit` writes what an editor has made of a record."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from tests.cli.programs import Run, on_pipe

CHANGE = """
import pathlib, sys
path = pathlib.Path(sys.argv[2])
text = path.read_text(encoding="utf-8")
assert path.suffix == ".json"
path.write_text(text.replace(*sys.argv[1].split("=>")), encoding="utf-8")
"""


def edit(folder: Path, change: str) -> Run:
    """Edit a record with an editor that replaces a text."""
    editor = shlex.join([sys.executable, "-c", CHANGE, change])
    return on_pipe("edit", "plans", "plan-001", cwd=folder, EDITOR=editor, VISUAL="")


def record(folder: Path) -> dict[str, object]:
    """The record as it is."""
    found = on_pipe("get", "plans", "plan-001", "--json", cwd=folder).stdout
    return json.loads(found)  # type: ignore[no-any-return]


def test_what_was_edited_is_written(folder: Path) -> None:
    """A changed value is written, and a field that is removed is removed."""
    done = edit(folder, '"open"=>"done"')
    assert (0, "plans/plan-001 was written\n") == (done.status, done.stderr)
    assert "done" == record(folder)["status"]
    assert 0 == edit(folder, '"priority": 7,=>').status
    assert "priority" not in record(folder)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ("nothing=>", 0, "nothing was changed\n"),
        ("{=>", 2, "Error: nothing was written: it is not JSON"),
        (f"{{=>{'[' * 100_000}", 2, "Error: nothing was written: it is not JSON"),
        ('"plan-001"=>"other"', 2, "Error: id cannot be edited: nothing was written\n"),
        ("1700000400000=>1700000400001", 2, "Error: updated_at cannot be edited: nothing was"),
        ('"status"=>"statsu"', 2, "did you mean 'status'?"),
    ],
)
def test_nothing_else_is_written(folder: Path, change: str, status: int, message: str) -> None:
    """What was left as it was, or cannot be written, changes nothing."""
    before = record(folder)
    done = edit(folder, change)
    assert status == done.status
    assert message in done.stderr
    assert before == record(folder)


def test_an_editor_that_fails_changes_nothing(folder: Path) -> None:
    """An editor that is missing, or fails, is reported."""
    missing = on_pipe("edit", "plans", "plan-001", cwd=folder, EDITOR="no-such-editor", VISUAL="")
    assert (2, True) == (missing.status, "set EDITOR" in missing.stderr)
    failed = on_pipe("edit", "plans", "plan-001", cwd=folder, EDITOR="false", VISUAL="")
    assert (1, "Error: false failed with 1: nothing was written\n") == (
        failed.status,
        failed.stderr,
    )
