"""Clones whose files were made to attack whoever uses the store in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.git.hostile import Hostile, git, taskstore

pytestmark = pytest.mark.usefixtures("cold_hooks")

COMMANDS = {
    "status": 0,
    "list plans": 0,
    "diff": 0,
    "log plan-001": 0,
    "git install": 0,
    "add plans id=plan-002": 0,
    "verify": 0,
    "compact --all": 0,
}


@pytest.fixture
def hostile(tmp_path: Path) -> Hostile:
    """A repository with a store of one record, for a test to add its files to."""
    return Hostile.make(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("taskstore.journal", "precious"),
        ("taskstore.gate", "new"),
        ("taskstore.turn", "new"),
        ("taskstore.db", "empty"),
        ("taskstore.db-wal", "empty"),
    ],
)
def test_a_link_in_place_of_a_state_file_is_not_followed(
    hostile: Hostile, tmp_path: Path, name: str, target: str
) -> None:
    """No command follows a committed link: the target is not touched, and every command works."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "precious").write_bytes(b"12345678 and more")
    (home / "empty").touch()
    (hostile.store / name).symlink_to(home / target)
    clone = hostile.clone(tmp_path / "clone")

    for command, status in COMMANDS.items():
        taskstore(clone, *command.split(), status=status)

        assert {"precious": b"12345678 and more", "empty": b""} == content(home), command


def test_a_pull_through_our_hooks_follows_no_link_and_runs_no_script(
    hostile: Hostile, tmp_path: Path
) -> None:
    """What a later push makes of a store in use does no harm to whoever pulls it."""
    clone = hostile.clone(tmp_path / "clone")
    for call in ("git install", "list plans"):
        taskstore(clone, *call.split(), status=0)
    home = tmp_path / "home"
    home.mkdir()
    (home / "precious").write_bytes(b"12345678 and more")
    for name in ("journal", "gate", "turn"):
        (hostile.store / f"taskstore.{name}").symlink_to(home / "precious")
    hostile.embed(hostile.store)
    hostile.commit()
    for path in (*clone.glob(".taskstore/*.[gt]*"), *hostile.witness.iterdir()):
        path.unlink()  # what git would not overwrite

    git(clone, "pull", "-q")
    rows = taskstore(clone, "list", "plans", status=0).stdout

    assert "Moor" in rows
    assert {"precious": b"12345678 and more"} == content(home)
    assert [] == hostile.seen


@pytest.mark.parametrize("name", [".version", "config.toml", ".gitignore", "taskstore.journal"])
def test_a_pipe_in_place_of_a_file_stops_nobody(
    hostile: Hostile, tmp_path: Path, name: str
) -> None:
    """A command over a store with a pipe in it ends, and shows the records but for a version."""
    clone = hostile.clone(tmp_path / "clone")
    (clone / ".taskstore" / name).unlink(missing_ok=True)
    os.mkfifo(clone / ".taskstore" / name)

    done = taskstore(clone, "list", "plans", status=3 if name == ".version" else 0)

    assert (name != ".version") == ("Ship" in done.stdout)


def test_a_pipe_in_place_of_the_map_of_names_stops_nobody(hostile: Hostile, tmp_path: Path) -> None:
    """A log of commits waits for no pipe that is called `.mailmap`."""
    clone = hostile.clone(tmp_path / "clone")
    os.mkfifo(clone / ".mailmap")

    assert "Eve" in taskstore(clone, "log", "plan-001", status=0).stdout


def test_settings_without_end_are_not_read(hostile: Hostile, tmp_path: Path) -> None:
    """Settings that are larger than a mebibyte are refused, and not taken into memory."""
    clone = hostile.clone(tmp_path / "clone")
    settings = clone / ".taskstore" / "config.toml"
    settings.touch()
    os.truncate(settings, 1 << 40)

    done = taskstore(clone, "list", "plans")

    assert "MemoryError" not in done.stderr
