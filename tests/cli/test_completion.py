"""What Tab offers, wherever a name or a value is typed."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from taskstore.cli import main

CASES = {
    "list pl": ["plans"],
    "list plans -w st": ["status="],
    "list plans --where status=o": ["open"],
    "list plans --sort title,-pri": ["title,-priority"],
    "list plans --columns id,ti": ["id,title"],
    "set plans plan-001 --unset la": ["labels"],
    "set plans plan-001 sta": ["status="],
    "set plans plan-001 status=d": ["done"],
    "set plans plan-001 labels=": [],
    "set plans plan-001 x=1 --if as": ["assignee="],
    "add plans title=x pri": ["priority="],
    "delete plans plan-00": ["plan-001", "plan-002", "plan-003"],
    "history plans plan-002": ["plan-002"],
    "log n": ["n1"],
    "log plan-00 --collection no": ["notes"],
    "indexes add plans sta": ["status"],
    "compact no": ["notes"],
    "drop no": ["notes"],
    "rename no": ["notes"],
    "diff v": ["v1.0"],
    "diff HEAD..v": ["HEAD..v1.0"],
    "diff HEAD...ma": ["HEAD...main"],
    "list plans --at v1": ["v1.0"],
    "restore plans plan-001 --at v": ["v1.0"],
    "revert v": ["v1.0"],
    "scribe app:mirrors --branch ma": ["main"],
    "list plans --format n": ["nl"],
    "git in": ["install"],
    "git ho": [],
}


def offered(folder: Path, line: str, shell: str) -> list[str]:
    """What a shell is offered for the end of a line."""
    words = shlex.split(f"taskstore {line}")
    if shell == "bash":
        # As bash splits it.
        words = [part for word in words for part in word.replace("=", " = ").split(" ") if part]
    last = "" if shell == "bash" and words[-1] == "=" else words[-1]
    position = str(len(words) - 1)
    variables = {
        "bash": {"COMP_WORDS": shlex.join(words), "COMP_CWORD": position},
        "zsh": {"COMP_WORDS": shlex.join(words), "COMP_CWORD": position},
        "fish": {"COMP_WORDS": shlex.join(words), "COMP_CWORD": last},
    }[shell]
    done = CliRunner().invoke(
        main,
        env={
            **variables,
            "_TASKSTORE_COMPLETE": f"{shell}_complete",
            "TASKSTORE_DIR": str(folder / ".taskstore"),
        },
        prog_name="taskstore",
    )
    assert (0, "") == (done.exit_code, done.stderr)
    lines = done.stdout.splitlines()
    if shell == "zsh":
        return lines[1::3]
    return [row.partition(",")[2] for row in lines]


@pytest.fixture
def committed(folder: Path) -> Path:
    """The folder of the sample store, in a repository with a branch and a tag."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for call in (["init", "-qb", "main"], ["add", "."], ["commit", "-qm", "x"], ["tag", "v1.0"]):
        subprocess.run([*git, *call], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("line", CASES)
def test_names_and_values_are_completed(line: str, committed: Path) -> None:
    """Collections, ids, fields, values and revisions are completed wherever they are typed."""
    assert CASES[line] == offered(committed, line, "bash")
    expected = CASES[line]
    if "=" in line.rsplit(" ", maxsplit=1)[-1]:
        start = line.rsplit(" ", maxsplit=1)[-1].partition("=")[0]
        expected = [f"{start}={value}" for value in expected]
    assert expected == offered(committed, line, "zsh")
