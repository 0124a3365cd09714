"""Store directories that a push has made repositories as well, and repositories of other users."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.git.hostile import LOG, Hostile, git, line, taskstore

pytestmark = pytest.mark.usefixtures("cold_hooks")

COMMANDS: list[tuple[str, int, str]] = [
    ("diff", 0, ""),
    ("diff HEAD~1", 0, "plans/plan-002: created"),
    ("diff HEAD~1..HEAD", 0, '+ title: "Moor"'),
    ("doctor", 1, "is a git repository of its own"),
    ("doctor --fix", 1, "is a git repository of its own"),
    ("init", 0, ", merge driver"),
    ("git install", 0, "installed: log attributes"),
    ("git status", 1, "merge driver: not configured"),
    ("git uninstall", 0, "nothing was installed"),
    ("git hook pre-commit", 0, ""),
    ("git hook post-checkout", 0, ""),
    ("log plan-002", 0, "by Eve: all"),
    ("history plans plan-002", 0, 'title="Moor"'),
    ("list plans", 0, "Moor"),
    ("get plans plan-001", 0, "Ship"),
    ("add plans id=plan-003", 0, "plan-003"),
    ("status", 0, "plans"),
    ("sync", 0, "plans"),
    ("verify", 0, "2 records compared"),
    ("compact --all", 0, ""),
    (f"merge {LOG} {LOG} {LOG} {LOG}", 0, ""),
]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    """A repository whose second commit makes the store a bare repository as well."""
    made = Hostile.make(tmp_path_factory.mktemp("embedded"))
    made.commit()
    made.embed(made.store)
    made.commit()
    return made


@pytest.fixture
def clone(embedded: Hostile, tmp_path: Path) -> Path:
    """A clone of it, in which none of its scripts has run."""
    for path in embedded.witness.iterdir():
        path.unlink()
    git(tmp_path, "clone", "-q", str(embedded.path), "clone")
    assert [] == embedded.seen
    return tmp_path / "clone"


def test_the_attack_is_one(embedded: Hostile, clone: Path) -> None:
    """Git, run inside of the store, takes it for the repository and runs what that names."""
    git(clone / ".taskstore", "cat-file", "--filters", "HEAD:./plans.jsonl")
    (clone / LOG).touch()
    git(clone / ".taskstore", "ls-files", "-m")

    assert ["fsmonitor", "smudge"] == embedded.seen


@pytest.mark.parametrize(("command", "status", "text"), COMMANDS, ids=[row[0] for row in COMMANDS])
def test_no_command_runs_what_an_embedded_repository_names(
    embedded: Hostile, clone: Path, command: str, status: int, text: str
) -> None:
    """Each command does its work with the clone's own repository, and runs no script."""
    (clone / LOG).touch()

    done = taskstore(clone, *command.split(), status=status)

    assert text in done.stdout + done.stderr
    assert [] == embedded.seen


@pytest.mark.parametrize("command", ["diff HEAD~1", "git install", "doctor", "git hook pre-commit"])
def test_no_command_runs_anything_inside_of_the_store_either(
    embedded: Hostile, clone: Path, command: str
) -> None:
    """A command that is called with the store as working directory runs no script."""
    (clone / LOG).touch()

    taskstore(clone / ".taskstore", *command.split())

    assert [] == embedded.seen


def test_git_itself_works_with_all_installed(embedded: Hostile, clone: Path) -> None:
    """Commits, switches and merges at the root run our hooks and driver, and no script."""
    taskstore(clone, "git", "install", status=0)
    git(clone, "switch", "-q", "-c", "other")
    with (clone / LOG).open("a") as log:
        log.write(line(1, "Theirs", 5))
    git(clone, "commit", "-q", "-a", "-m", "theirs")
    git(clone, "switch", "-q", "main")
    with (clone / LOG).open("a") as log:
        log.write(line(2, "Ours", 6))
    git(clone, "commit", "-q", "-a", "-m", "ours")
    git(clone, "merge", "-q", "-m", "both", "other")
    git(clone, "log", "-p")

    rows = taskstore(clone, "list", "plans", status=0).stdout

    assert [True, True] == [title in rows for title in ("Theirs", "Ours")]
    assert [] == embedded.seen


def test_doctor_says_what_to_remove(clone: Path) -> None:
    """The remedy, run as it stands, leaves nothing for `doctor` to say of it."""
    said = taskstore(clone, "doctor", status=1).stdout
    (remedy,) = (row for row in said.splitlines() if "git rm" in row)
    git(clone, *remedy[remedy.index("rm -r") :].split())

    assert "repository of its own" not in taskstore(clone, "doctor").stdout


def test_a_store_below_an_embedded_repository_is_in_a_directory_of_git(
    tmp_path: Path,
) -> None:
    """Where the folder around a store is the embedded one, commands refuse and run no script."""
    hostile = Hostile.make(tmp_path)
    (hostile.path / "sub").mkdir()
    hostile.store.rename(hostile.path / "sub/.taskstore")
    hostile.embed(hostile.path / "sub")
    clone = hostile.clone(tmp_path / "clone")

    for command in ("diff", "git install", "git status"):
        taskstore(clone / "sub", *command.split(), status=3)
    taskstore(clone / "sub", "doctor", status=1)

    assert [] == hostile.seen


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(
    "command", ["diff", "log plan-001", "init", "git install", "git status", "doctor"]
)
def test_a_repository_of_another_user_is_named_as_that(tmp_path: Path, command: str) -> None:
    """The message about a store in one says how to trust it, not that there is no repository."""
    hostile = Hostile.make(tmp_path)
    clone = hostile.clone(tmp_path / "clone")
    for path in (clone, *clone.rglob("*")):
        os.chown(path, 65534, 65534)

    call = (*command.split(), "--store", ".taskstore")
    done = taskstore(clone, *call, status=1 if command == "doctor" else 3)

    said = done.stdout + done.stderr
    assert f"git config --global --add safe.directory {clone}" in said
    assert "not in a git repository" not in said
