"""One measurement of one side of a row: what it may use, and what it took."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from benchmarks.data import COLLECTION, Plan, lines, write_log
from taskstore import Store

STORE = ".taskstore"
LOG = f"{COLLECTION}.jsonl"
CACHE = "taskstore.db"


@attrs.define
class Scene:
    """What one side of a row works with.

    Attributes:
        size: Lines in the log.
        templates: What was prepared once for all runs; not to be changed.
        place: An empty directory for this run.
        seconds: What the timed part took.
        cpu: The processor time of it, in seconds.
        facts: What else was found.
    """

    size: int
    templates: Path
    place: Path
    seconds: float = 0.0
    cpu: float = 0.0
    facts: dict[str, float] = attrs.field(factory=dict)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """The part that counts."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.cpu += time.process_time() - cpu
        self.seconds += time.perf_counter() - wall

    @property
    def tenth(self) -> int:
        """The size of rows that are meant for 100 k where the log has 1 M lines."""
        return max(self.size // 10, 10)

    @property
    def thousand(self) -> int:
        """1,000, or fewer in a log that is small itself."""
        return min(1000, self.size // 4)

    @property
    def log(self) -> Path:
        """The log."""
        return self.templates / LOG

    @property
    def store(self) -> Path:
        """A store with that log, in sync; only for reading."""
        return self.templates / STORE

    def new_log(self) -> Path:
        """A store directory of our own, with the log and no cache."""
        directory = self.place / STORE
        directory.mkdir()
        shutil.copyfile(self.log, directory / LOG)
        settled(directory)
        return directory

    def new_store(self) -> Path:
        """A store of our own like the prepared one, in sync."""
        directory = self.place / STORE
        shutil.copytree(self.store, directory)
        with Store.open(directory, types=[Plan]):
            pass
        settled(directory)
        return directory

    def new_cache(self) -> sqlite3.Connection:
        """A driver's connection to a cache with our tables and nothing in them."""
        directory = self.place / STORE
        with Store.open(directory, types=[Plan]):
            pass
        return connected(directory)


def connected(directory: Path) -> sqlite3.Connection:
    """A bare driver's connection to a store's cache, set up as the store's own are."""
    connection = sqlite3.connect(directory / CACHE, isolation_level=None)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def settled(directory: Path) -> None:
    """Wait until everything is on the disk, and too old to look racy."""
    for path in directory.rglob("*"):
        # A cache that is open in this process is for SQLite alone to open.
        if path.is_file() and not path.name.startswith(CACHE):
            fd = os.open(path, os.O_RDWR)
            os.fsync(fd)
            os.close(fd)
    time.sleep(0.12)


def prepare(templates: Path, size: int) -> None:
    """Write the log of a size, and a store that is in sync with it, where they are missing."""
    if (templates / STORE).exists():
        return
    templates.mkdir(parents=True, exist_ok=True)
    write_log(templates / LOG, lines(size))
    draft = templates / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    shutil.copyfile(templates / LOG, draft / LOG)
    with Store.open(draft, types=[Plan]):
        pass
    draft.rename(templates / STORE)
