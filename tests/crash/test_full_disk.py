"""A file system that is really full, or only for reading: typed errors, and life afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from taskstore import Store
from taskstore.errors import LogWriteError, StoreAccessError, TaskstoreError
from tests.crash.scene import TYPES, Plan, Task, check_cache, check_released, logs

SIZE = 4 * 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    mount = shutil.which("mount")
    if mount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only the superuser can mount a file system")
    place = tmp_path / "disk"
    place.mkdir()
    options = [mount, "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    if subprocess.run(options, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, left: int = 0) -> Path:
    """Fill a disk but for some bytes, and return the file that does it."""
    ballast = disk / "ballast"
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        with contextlib.suppress(OSError):
            while os.write(fd, bytes(4096)):
                pass
        os.ftruncate(fd, max(0, os.fstat(fd).st_size - left))
    finally:
        os.close(fd)
    return ballast


def write_all_ways(store: Store) -> None:
    """A transaction over two collections that needs a few pages."""
    with store.transaction():
        store.save_many([Plan(f"p{n}", "x" * 4000) for n in range(20)])
        store.save(Task("t", "x" * 4000))


@pytest.mark.parametrize("left", [0, 4096, 16384, 65536])
def test_a_full_disk_under_log_and_cache(disk: Path, left: int) -> None:
    """Whatever space is left: the transaction fails whole, and succeeds when there is space."""
    with Store.open(disk / ".taskstore", types=TYPES.values()) as store:
        store.create(Plan("first"))
        store.create(Task("first"))
        before = logs(store.path)
        ballast = fill(disk, left)
        with pytest.raises(TaskstoreError):
            write_all_ways(store)
        assert before == logs(store.path)
        check_released(store)
        ballast.unlink()
        write_all_ways(store)
        assert 21 == store.count(Plan)
        check_cache(store)


@pytest.mark.parametrize("left", [0, 4096, 16384])
def test_a_full_disk_under_the_log_alone(disk: Path, tmp_path: Path, left: int) -> None:
    """The cache has space, the log has not: LogWriteError, and neither has anything."""
    engine = create_engine(f"sqlite:///{tmp_path / 'cache.db'}")
    path = disk / ".taskstore"
    with Store.open(path, types=TYPES.values(), engine=engine, migrate=True) as store:
        store.create(Plan("first"))
        before = logs(path)
        ballast = fill(disk, left)
        with pytest.raises(LogWriteError):
            write_all_ways(store)
        assert before == logs(path)
        assert 1 == store.count(Plan)
        ballast.unlink()
        write_all_ways(store)
        check_cache(store)
    engine.dispose()


def test_a_full_disk_under_the_cache_alone(disk: Path, tmp_path: Path) -> None:
    """The log has space, the cache has not: nothing is acknowledged, and the log is as it was."""
    engine = create_engine(f"sqlite:///{disk / 'cache.db'}")
    path = tmp_path / ".taskstore"
    with Store.open(path, types=TYPES.values(), engine=engine, migrate=True) as store:
        store.create(Plan("first"))
        before = logs(path)
        ballast = fill(disk)
        with pytest.raises(TaskstoreError):
            write_all_ways(store)
        assert before == logs(path)
        ballast.unlink()
        write_all_ways(store)
        check_cache(store)
    engine.dispose()


def test_a_compaction_on_a_full_disk_keeps_the_old_log(disk: Path) -> None:
    """A compaction that finds no space raises and leaves everything as it was."""
    with Store.open(disk / ".taskstore", types=TYPES.values()) as store:
        write_all_ways(store)
        before = logs(store.path)
        ballast = fill(disk)
        with pytest.raises(TaskstoreError):
            store.compact(Plan)
        assert before == logs(store.path)
        assert [] == list(store.path.glob("*.tmp"))
        check_released(store)
        ballast.unlink()
        store.compact(Plan)
        check_cache(store)


def test_a_file_system_that_may_only_be_read(disk: Path) -> None:
    """A store opens on it for reading, refuses to be opened for writing, and recovers."""
    path = disk / ".taskstore"
    with Store.open(path, types=TYPES.values()) as store:
        write_all_ways(store)
    remount(disk, "ro")
    before: Any = logs(path)
    with pytest.raises((StoreAccessError, LogWriteError)), Store.open(path) as store:
        store.create(Plan("new"))
    with Store.open(path, types=TYPES.values(), read_only=True) as store:
        assert 20 == store.count(Plan)
        assert store.verify().ok
    remount(disk, "rw")
    assert before == logs(path)
    with Store.open(path, types=TYPES.values()) as store:
        store.create(Plan("new"))
        check_cache(store)


def remount(disk: Path, mode: str) -> None:
    """Make a file system one for reading, or one for writing again."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)


def test_a_folder_that_may_only_be_read(tmp_path: Path) -> None:
    """Without the right to write, a store is refused for writing and served for reading."""
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("modes do not bind the superuser")
    path = tmp_path / ".taskstore"
    with Store.open(path, types=TYPES.values()) as store:
        store.create(Plan("a"))
    path.chmod(0o500)
    try:
        with pytest.raises(TaskstoreError), Store.open(path) as store:
            store.create_many([Plan("b"), Plan("c")])
        with Store.open(path, types=TYPES.values(), read_only=True) as store:
            assert 1 == store.count(Plan)
    finally:
        path.chmod(0o700)
    with Store.open(path, types=TYPES.values()) as store:
        store.create(Plan("b"))
        check_cache(store)
