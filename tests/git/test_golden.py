"""What the commands for git print, on a pipe and on a terminal, to the letter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli import sample
from tests.cli.golden_files import compare, seen
from tests.cli.programs import on_pipe, on_terminal

pytestmark = pytest.mark.usefixtures("cold_hooks")

CASES: dict[str, list[str]] = {
    "init": ["init"],
    "init-json": ["init", "--json"],
    "git-status": ["git", "status"],
    "git-status-json": ["git", "status", "--json"],
    "git-install": ["git", "install"],
    "git-uninstall": ["git", "uninstall"],
    "log": ["log", "plan-001"],
    "log-json": ["log", "plan-001", "--json"],
    "diff": ["diff"],
    "diff-commits": ["diff", "HEAD~1", "HEAD"],
    "diff-json": ["diff", "HEAD~1", "--json"],
    "doctor": ["doctor"],
    "doctor-json": ["doctor", "--json"],
    "doctor-fix": ["doctor", "--fix"],
}
SETTINGS = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
ROLES = ("AUTHOR", "COMMITTER")
LINES: list[dict[str, Any]] = [
    {"id": "plan-001", "title": "Ship it", "status": "done", "updated_at": 1_700_000_500_000},
    {"id": "plan-005", "title": "Sail", "status": "open", "updated_at": 1_700_000_600_000},
]


def git(folder: Path, *call: str) -> None:
    """Run git as one and the same person, at one and the same time."""
    person = {"NAME": "Ada", "EMAIL": "ada@example.org", "DATE": "1700001000 +0000"}
    roles = [{f"GIT_{role}_{key}": person[key] for key in person} for role in ROLES]
    environment = {**os.environ, **SETTINGS, **roles[0], **roles[1]}
    subprocess.run(["git", *call], cwd=folder, env=environment, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the sample store: one commit, another, and a change since."""
    folder = tmp_path / "project"
    folder.mkdir()
    log = sample.make(folder) / "plans.jsonl"
    git(folder, "init", "-q", "-b", "main")
    for number, line in enumerate(LINES):
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", f"Change {number}")
        with log.open("a") as file:
            file.write(json.dumps(line) + "\n")
    return folder


def plain(text: str, folder: Path) -> str:
    """What was printed, without the paths of this machine."""
    return text.replace(sys.executable, "PYTHON").replace(str(folder.resolve()), "FOLDER")


@pytest.mark.parametrize("name", CASES)
def test_a_pipe_gets_plain_text(name: str, repository: Path) -> None:
    """In a pipe data is plain text on stdout, and all else is on stderr."""
    run = on_pipe(*CASES[name], cwd=repository, **SETTINGS)
    assert "\x1b" not in run.stdout + run.stderr
    compare(f"{name}.pipe", plain(seen(run, repository), repository))


@pytest.mark.parametrize("name", CASES)
def test_a_terminal_gets_tables(name: str, repository: Path) -> None:
    """On a terminal the same is in tables and colours."""
    run = on_terminal(*CASES[name], cwd=repository, **SETTINGS)
    compare(f"{name}.tty", plain(seen(run, repository), repository))
