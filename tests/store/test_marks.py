"""The mark of a clone is found again by everybody who may use its store, and by nobody else."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskstore import Store, StoreAccessError
from taskstore._doctor.trust import trust_modules, trusted_modules
from taskstore._log.layout import Layout

OTHER = 54321

root_only = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root can be other users"
)


@pytest.fixture
def clone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository with a store, in a place that every user may enter."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    path = place / "clone"
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    (path / ".taskstore").mkdir()
    (path / ".taskstore" / "plans.jsonl").write_text('{"id":"one","updated_at":1}\n')
    (place / "state").mkdir(mode=0o777)
    (place / "state").chmod(0o777)
    monkeypatch.setenv("TASKSTORE_STATE_HOME", str(place / "state"))
    monkeypatch.delenv("SUDO_UID", raising=False)
    yield path
    shutil.rmtree(place)


def give(path: Path, user: int) -> None:
    """Give a tree to a user, and to the group of that number."""
    for each in (path, *path.rglob("*")):
        os.chown(each, user, user, follow_symlinks=False)


@contextmanager
def being(user: int) -> Iterator[None]:
    """Be another user for a block."""
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def opened(clone: Path) -> int:
    """Open the store; return a number in its cache, which is another one once it is rebuilt."""
    with Store.open(clone / ".taskstore") as store:
        assert 1 == store.count("plans")
        with store.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS making (number INTEGER)")
            found = connection.exec_driver_sql("SELECT number FROM making").scalar()
            if found is None:
                found = secrets.randbits(53)
                connection.exec_driver_sql("INSERT INTO making VALUES (?)", (found,))
    return int(found)


@root_only
@pytest.mark.parametrize("way", ["root", "sudo", "sudo without a repository"])
def test_root_locks_nobody_out(clone: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """After root was first in a user's store, its owner opens it, and needs no new cache."""
    if way != "root":
        monkeypatch.setenv("SUDO_UID", str(OTHER))
    if way.endswith("repository"):
        shutil.rmtree(clone / ".git")
    give(clone.parent, OTHER)
    made = opened(clone)
    monkeypatch.delenv("SUDO_UID", raising=False)
    with being(OTHER):
        assert made == opened(clone)
    if way == "root":
        assert made == opened(clone)


WORK_AS = """
import os, sys, tempfile
from taskstore import Store
# The interpreter may be where only root can read: what is needed later is loaded by now.
with tempfile.TemporaryDirectory() as other, Store.open(other + "/store") as store:
    store.save({"id": "x"}, collection="plans")
    store.count("plans")
os.setgroups([]); os.setgid(54321); os.setuid(int(sys.argv[1])); os.umask(0o002)
with Store.open(sys.argv[2]) as store:
    store.save({"id": sys.argv[1]}, collection="plans")
    print(store.count("plans"))
"""


@root_only
def test_users_who_share_a_repository_share_its_mark(clone: Path) -> None:
    """The cache that one user of a group made serves the other, and is not rebuilt."""
    subprocess.run(["git", "init", "-q", "--shared=group", str(clone)], check=True)
    give(clone, OTHER)
    for path in (clone, *clone.rglob("*")):
        path.chmod(stat.S_IMODE(path.stat().st_mode) | (0o2070 if path.is_dir() else 0o060))
    cache = clone / ".taskstore" / "taskstore.db"
    seen = []
    for user in (OTHER, OTHER + 1, OTHER):
        call = [sys.executable, "-c", WORK_AS, str(user), str(clone / ".taskstore")]
        done = subprocess.run(call, capture_output=True, text=True, check=False, cwd="/")
        assert 0 == done.returncode, done.stderr
        seen.append((int(done.stdout), cache.stat().st_ino))
    assert [2, 3, 3] == [count for count, _ in seen]
    assert 1 == len({inode for _, inode in seen})


@root_only
def test_nobody_trusts_modules_for_another_user(clone: Path) -> None:
    """What the owner of a store lets run does not run for root, who has a list of its own."""
    layout = Layout(clone / ".taskstore")
    give(clone, OTHER)
    with being(OTHER):
        trust_modules(layout, ["evil"])
        assert ["evil"] == trusted_modules(layout)
    opened(clone)
    assert [] == trusted_modules(layout)
    trust_modules(layout, ["good"])
    assert ["good"] == trusted_modules(layout)


@root_only
def test_root_follows_no_link_to_a_place_for_the_mark(clone: Path) -> None:
    """A user who puts a link there gets no file of root's written where it leads."""
    outside = clone.parent / "outside"
    outside.mkdir()
    (clone / ".git" / "taskstore").symlink_to(outside)
    give(clone, OTHER)
    made = opened(clone)
    assert [] == list(outside.iterdir())
    assert made == opened(clone)


@root_only
@pytest.mark.parametrize("marked", [False, True])
def test_a_git_directory_for_reading_only_will_do(clone: Path, marked: bool) -> None:
    """Where `.git` may not be written, the state directory takes over: nothing is made twice."""
    give(clone, OTHER)
    with being(OTHER):
        if marked:
            opened(clone)
        folders = [clone / ".git", *(clone / ".git").rglob("*")]
        for folder in (path for path in folders if path.is_dir()):
            folder.chmod(0o555)
        opened(clone)
        made = opened(clone)
        assert made == opened(clone)
        trust_modules(Layout(clone / ".taskstore"), ["plans"])
        assert ["plans"] == trusted_modules(Layout(clone / ".taskstore"))
        assert marked == (clone / ".git" / "taskstore").exists()


def test_without_a_home_nothing_is_written_elsewhere(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user without a home directory is told to name one, and none is made up."""
    shutil.rmtree(clone / ".git")
    for name in ("TASKSTORE_STATE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "a/relative/path")
    monkeypatch.chdir(clone)
    with pytest.raises(StoreAccessError, match="TASKSTORE_STATE_HOME"):
        Store.open(".taskstore")
    assert {".taskstore"} == {path.name for path in clone.iterdir()}
    with Store.open(".taskstore", read_only=True) as store:
        assert 1 == store.count("plans")


def test_a_mark_outlives_another_device_number(clone: Path) -> None:
    """The journal of a crash is still ours when the machine has started again."""
    layout = Layout(clone / ".taskstore")
    home = layout.mark.home
    assert home is not None
    *facts, _ = (home / "mark").read_text().split()
    assert ["2", str((home / "mark").stat().st_ino)] == facts


def test_what_is_private_to_a_clone_is_private(clone: Path) -> None:
    """Nobody else may read the secret."""
    opened(clone)
    home = Layout(clone / ".taskstore").mark.home
    assert home is not None
    for path in (home, *home.iterdir()):
        assert 0 == stat.S_IMODE(path.stat().st_mode) & 0o077, path
