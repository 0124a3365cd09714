"""Links, pipes and endless files in the place of those that git and the installation use."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.git.hostile import LOG, Hostile, git, line, taskstore

pytestmark = pytest.mark.usefixtures("cold_hooks")

COMMANDS = ["git install", "git status", "git uninstall", "doctor", "diff", "log plan-001", "init"]
AS_ROOT = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give files away"
)


@pytest.fixture
def hostile(tmp_path: Path) -> Hostile:
    """A repository with a store of one record."""
    return Hostile.make(tmp_path)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A directory outside of the repository, with a file that must stay as it is."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "precious").write_bytes(b"# mine\n")
    return folder


def untouched(folder: Path) -> bool:
    """Whether a directory has the one file, and that its bytes."""
    return [(folder / "precious", b"# mine\n")] == [(p, p.read_bytes()) for p in folder.iterdir()]


@pytest.mark.parametrize("target", ["precious", "new"])
def test_attributes_are_not_written_through_a_link(
    hostile: Hostile, tmp_path: Path, precious: Path, target: str
) -> None:
    """A link for the store's attributes is named with its remedy, and what it leads to stays."""
    (hostile.store / ".gitattributes").symlink_to(precious / target)
    clone = hostile.clone(tmp_path / "clone")

    for call in ("git install", "init", "git status"):
        done = taskstore(clone, *call.split(), status=3)
        assert "symbolic link: replace it with the file that it points to" in done.stderr
    for call in ("doctor", "doctor --fix"):
        assert "symbolic link" in taskstore(clone, *call.split(), status=1).stdout
    taskstore(clone, "git", "uninstall")

    assert untouched(precious)


@pytest.mark.parametrize("part", ["info", "info/attributes", "taskstore", "taskstore/run"])
def test_the_directory_of_git_is_not_written_through_a_link(
    hostile: Hostile, tmp_path: Path, precious: Path, part: str
) -> None:
    """An archive can bring links inside of .git: nothing is installed beyond one."""
    clone = hostile.clone(tmp_path / "clone")
    place = clone / ".git" / part
    place.parent.mkdir(exist_ok=True)
    if place.is_dir():
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
    place.unlink(missing_ok=True)
    place.symlink_to(precious if "/" not in part else precious / "precious")

    done = taskstore(clone, "git", "install", "--store", ".taskstore", status=3)

    assert "symbolic link" in done.stderr
    assert untouched(precious)


def test_hooks_in_the_work_tree_are_not_written_through_links(
    hostile: Hostile, tmp_path: Path, precious: Path
) -> None:
    """Where hooks are tracked files, a link among them leads neither a hook nor a copy outside."""
    hooks = hostile.path / ".githooks"
    hooks.mkdir()
    (hooks / "pre-commit").symlink_to(precious / "precious")
    (hooks / "pre-commit.tmp").symlink_to(precious / "precious")
    (hooks / "post-merge").symlink_to(precious / "new")
    clone = hostile.clone(tmp_path / "clone")
    git(clone, "config", "core.hooksPath", ".githooks")

    taskstore(clone, "git", "install", status=0)
    git(clone, "commit", "-q", "--allow-empty", "-m", "hooked")
    taskstore(clone, "git", "uninstall", status=0)

    assert untouched(precious)
    assert str(precious / "new") == os.readlink(clone / ".githooks/post-merge")


def test_hooks_are_not_put_aside_through_a_link(
    hostile: Hostile, tmp_path: Path, precious: Path
) -> None:
    """A link in the place of the folder for hooks that are put aside makes them stay."""
    hooks = hostile.path / ".githooks"
    hooks.mkdir()
    (hooks / "pre-commit").write_text("#!/usr/bin/perl\n")
    (hooks / "before-taskstore").symlink_to(precious)
    clone = hostile.clone(tmp_path / "clone")
    git(clone, "config", "core.hooksPath", ".githooks")

    done = taskstore(clone, "git", "install", status=0)

    assert "before-taskstore is there already, it is a symbolic link" in done.stderr
    assert untouched(precious)


def test_a_directory_of_hooks_that_leads_out_is_left_to_a_person(
    hostile: Hostile, tmp_path: Path, precious: Path
) -> None:
    """Hooks of other clones are not changed unasked, where .git/hooks is a link."""
    clone = hostile.clone(tmp_path / "clone")
    for path in (clone / ".git/hooks").iterdir():
        path.unlink()
    (clone / ".git/hooks").rmdir()
    (clone / ".git/hooks").symlink_to(precious)

    done = taskstore(clone, "git", "install", status=0)
    assert untouched(precious)
    assert f"add to {clone}/.git/hooks/pre-commit:" in done.stderr

    taskstore(clone, "git", "install", "--hooks", status=0)
    assert (precious / "pre-commit").is_file()


@pytest.mark.parametrize(
    ("name", "stopped"),
    [
        (".gitattributes", COMMANDS),
        (".gitignore", COMMANDS),
        (".taskstore/.gitattributes", COMMANDS),
        (".taskstore/.gitignore", COMMANDS),
        (".git/info/attributes", COMMANDS),
        (".git/info/exclude", COMMANDS),
        (".git/hooks/pre-commit", []),
        (".husky/pre-commit", []),
        (LOG, ["doctor", "diff"]),
    ],
)
def test_a_pipe_stops_no_command(
    hostile: Hostile, tmp_path: Path, name: str, stopped: list[str]
) -> None:
    """Each command ends where a file that git or we read is a pipe; what cannot go on says why."""
    clone = hostile.clone(tmp_path / "clone")
    pipe = clone / name
    pipe.parent.mkdir(exist_ok=True)
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)

    said = {call: taskstore(clone, *call.split()) for call in COMMANDS}

    wanted = f"{pipe}: it is not a regular file, but a pipe"
    found = [call for call, done in said.items() if wanted in done.stdout + done.stderr]
    assert stopped == found


def test_a_hook_meets_no_pipe(hostile: Hostile, tmp_path: Path) -> None:
    """The check before a commit ends where the attributes of one of many stores are a pipe."""
    (hostile.path / "sub/.taskstore").mkdir(parents=True)
    (hostile.path / "sub/.taskstore/plans.jsonl").write_text(line(1, "Deep"))
    clone = hostile.clone(tmp_path / "clone")
    with (clone / "sub/.taskstore/plans.jsonl").open("a") as log:
        log.write(line(2, "More"))
    git(clone, "add", ".")
    os.mkfifo(clone / "sub/.gitattributes")

    done = taskstore(clone, "git", "hook", "pre-commit", status=3)

    assert "sub/.gitattributes: it is not a regular file, but a pipe" in done.stderr


@pytest.mark.parametrize("name", [".taskstore/.gitattributes", ".git/info/attributes"])
def test_attributes_without_end_are_not_read(hostile: Hostile, tmp_path: Path, name: str) -> None:
    """A file of attributes that is too large is refused, and not taken into memory."""
    clone = hostile.clone(tmp_path / "clone")
    (clone / name).parent.mkdir(exist_ok=True)
    (clone / name).touch()
    os.truncate(clone / name, 1 << 34)

    done = taskstore(clone, "git", "install", status=3)

    assert "larger than 16 MiB: shorten it" in done.stderr


@AS_ROOT
def test_a_rewritten_file_keeps_its_permissions_owner_and_group(
    hostile: Hostile, tmp_path: Path
) -> None:
    """What root installs in the clone of another user stays that user's."""
    (hostile.store / ".gitattributes").write_text("# theirs\n")
    clone = hostile.clone(tmp_path / "clone")
    for path in (clone, *clone.rglob("*")):
        os.chown(path, 65534, 65533)
    attributes = clone / ".taskstore/.gitattributes"
    attributes.chmod(0o640)
    trust = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory"}

    taskstore(
        clone, "git", "install", "--store", ".taskstore", status=0,
        **trust, GIT_CONFIG_VALUE_0=str(clone),
    )  # fmt: skip

    found = attributes.stat()
    assert (65534, 65533, 0o640) == (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))
    assert 65534 == (clone / ".git/taskstore/run").stat().st_uid


@AS_ROOT
def test_the_merge_driver_keeps_permissions_owner_and_group(
    hostile: Hostile, tmp_path: Path
) -> None:
    """The merged log is as private as ours was, and belongs to whom it belonged."""
    names = [tmp_path / name for name in ("base", "ours", "theirs")]
    for n, path in enumerate(names):
        path.write_text(line(1, "Ship") + (line(n + 1, f"By {n}", 5) if n else ""))
    os.chown(names[1], 65534, 65533)
    names[1].chmod(0o600)

    taskstore(hostile.path, "merge", *map(str, names), LOG, status=0)

    found = names[1].stat()
    assert b"By 2" in names[1].read_bytes()
    assert (65534, 65533, 0o600) == (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))


def test_the_merge_driver_does_not_write_through_a_link(
    hostile: Hostile, tmp_path: Path, precious: Path
) -> None:
    """A link in the place of our version is refused: the driver failed, and nothing changed."""
    names = [tmp_path / name for name in ("base", "theirs")]
    for path in names:
        path.write_text(line(1, "Ship") + line(2, path.name))
    (hostile.path / "ours").symlink_to(precious / "precious")

    base, theirs = map(str, names)
    for name in (LOG, "other.txt"):
        done = taskstore(hostile.path, "merge", base, "ours", theirs, name, status=2)
        assert "symbolic link" in done.stderr

    assert untouched(precious)
