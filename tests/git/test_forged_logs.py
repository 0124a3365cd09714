"""Pulls that bring other content under a log's size and CRC-32."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from taskstore import Store
from tests.merge.repositories import LOG, Repository

LINE = '{"id":"a","title":"%s","x":"%s","updated_at":1}\n'
GENUINE = LINE % ("genuine", "aaa8ty")
FORGED = LINE % ("forged!", "b8zbaa")
MORE = '{"id":"b","title":"more","updated_at":2}\n'


@pytest.fixture
def theirs(tmp_path: Path) -> Repository:
    """A repository with one record, which somebody else pushes to."""
    repository = Repository(tmp_path / "theirs")
    repository.path.mkdir()
    repository.git("init", "-q", "-b", "main")
    push(repository, GENUINE)
    return repository


@pytest.fixture
def ours(theirs: Repository, tmp_path: Path) -> Repository:
    """A clone of it."""
    theirs.git("clone", "-q", ".", str(tmp_path / "ours"))
    return Repository(tmp_path / "ours")


@pytest.fixture
def store(ours: Repository) -> Iterator[Store]:
    """A store in the clone, whose cache has read the log, and which looks at it when told to."""
    with Store.open(ours.path / ".taskstore", refresh=False) as store:
        store.sync()
        assert ["genuine"] == titles(store)
        yield store


def push(repository: Repository, log: str) -> None:
    """Commit a log."""
    repository.write(log)
    repository.git("add", "-f", ".")
    repository.git("commit", "-q", "-m", "log")


def titles(store: Store) -> list[str]:
    """What a read finds, in the order of the ids."""
    return [str(row["title"]) for row in store.list("plans", order_by="id")]


def forge_times(log: Path, *, racy: bool) -> None:
    """Give the cache's record of a log the log's times, as if they were the same by chance."""
    stat = log.stat()
    with closing(sqlite3.connect(log.with_name("taskstore.db"))) as connection, connection:
        connection.execute(
            "UPDATE sync_metadata SET mtime_ns = ?, ctime_ns = ?, inode = ?, racy = ?",
            (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, racy),
        )


def test_the_logs_have_the_same_checksum() -> None:
    """What these tests rest on: two logs that a CRC-32 does not tell apart."""
    one, other = GENUINE.encode(), FORGED.encode()
    assert one != other
    assert (len(one), zlib.crc32(one)) == (len(other), zlib.crc32(other))


@pytest.mark.parametrize("times", ["as git leaves them", "mtime", "all, racy"])
def test_a_pull_of_the_same_checksum_is_noticed(
    theirs: Repository, ours: Repository, store: Store, times: str
) -> None:
    """The new content is served, also where the times of the old file were forged."""
    before = (ours.path / LOG).stat()
    push(theirs, FORGED)
    ours.git("pull", "-q")
    if times == "mtime":
        os.utime(ours.path / LOG, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif times == "all, racy":
        forge_times(ours.path / LOG, racy=True)
    assert store.is_stale()
    assert "replayed" == store.sync().collections["plans"].action
    assert ["forged!"] == titles(store)
    assert store.verify().ok


def test_a_beginning_of_the_same_checksum_is_noticed(
    theirs: Repository, ours: Repository, store: Store
) -> None:
    """A log that seems to have grown only, and has another beginning, is replayed whole."""
    push(theirs, FORGED + MORE)
    ours.git("pull", "-q")
    assert "replayed" == store.sync().collections["plans"].action
    assert ["forged!", "more"] == titles(store)


def test_a_write_does_not_cover_it_up(theirs: Repository, ours: Repository, store: Store) -> None:
    """Forged bytes under the very stat that was recorded are found by the next write at last."""
    push(theirs, FORGED)
    ours.git("pull", "-q")
    forge_times(ours.path / LOG, racy=False)
    store.create({"id": "b", "title": "own"}, collection="plans")
    assert "replayed" == store.sync().collections["plans"].action
    assert ["forged!", "own"] == titles(store)
    assert store.verify().ok
