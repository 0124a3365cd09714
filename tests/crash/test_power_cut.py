"""A power cut under a store: whatever is left on the disk, opening it breaks no promise.

The file operations of a run are recorded, and the cache after each of its commits is kept. For
every moment of the run, states that a file system may leave are laid out, each with one of the
caches that had been committed by then or with none, and a store is opened on them. That the test
has teeth is shown by taking each sync out.
"""

from __future__ import annotations

import errno
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from taskstore import Store, where
from taskstore._log import files
from taskstore._log.trust import Mark
from taskstore.errors import LogWriteError
from taskstore.models import StoredRecord
from tests.crash.scene import LONG, Plan, Task, check_cache, logs
from tests.log.disk import Recorder, lay
from tests.store.reader import replay

MARK = Mark.transient()
STATES = 20_000 if LONG else 700
SEARCHED = 20_000 if LONG else 3000

Part = tuple[str, str, int | None]
"""Collection, id, and the group that the record has from then on; None if it is deleted."""


Found = dict[tuple[str, str], int | None]
"""The group of each record; None for a dead one."""


DEAD = {("plans", "c")}
"""The record that the run deletes."""


@pytest.fixture(autouse=True)
def one_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut leaves is laid out in another directory, and is the same clone's."""
    monkeypatch.setattr(Mark, "of", lambda directory: MARK)


class Killed(BaseException):
    """The process ends here, as far as the recorded run goes."""


@attrs.define
class Promise:
    """What one transaction does, and the moments between which it must, or must not, be there."""

    name: str
    parts: list[Part]
    kept: float = float("inf")

    def is_there(self, found: Found, rewound: tuple[str, ...] = ()) -> set[bool]:
        """Whether each part is there, or something newer; but for what git has put back."""
        there = set()
        for collection, id, group in self.parts:
            if collection in rewound:
                continue
            now = found.get((collection, id), -1)
            if now is None:
                there.add(True)
            # Of a dead record nothing is left once its tombstone was compacted.
            elif now >= 0 or (collection, id) not in DEAD:
                there.add(group is not None and now >= group)
        return there


class Machine(Recorder):
    """A recorder that keeps the caches too, and can kill the process ahead of an operation."""

    def __init__(self, patch: Any, directory: Path, ignored: Any = None) -> None:
        self.caches: list[tuple[int, bytes]] = []
        self.kill_at: Callable[[str, Any], bool] | None = None
        self.fail_at: str | None = None
        self._dead = False
        super().__init__(patch, directory, ignored)
        for name in ("write", "sync", "pwrite", "truncate", "replace", "exchange", "unlink"):
            patch.setattr(files, name, self._mortal(name, getattr(files, name)))

    def _mortal(self, name: str, real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if self._dead or (self.kill_at is not None and self.kill_at(name, arguments)):
                self._dead = True
                raise Killed
            if name == "sync" and self._inodes[self._key(arguments[0])] == self.fail_at:
                self.fail_at = None
                self._lose(self._key(arguments[0]))
                raise OSError(errno.EIO, "injected into fsync")
            return real(*arguments)

        return call

    def _lose(self, key: Any) -> None:
        """An fsync failed: the system takes the pages for clean, and will not try them again."""
        for operation in self.operations:
            if operation.target == key and operation.synced == float("inf"):
                operation.lost = True

    def revive(self) -> None:
        """Start the next process."""
        self._dead, self.kill_at = False, None

    def keep_cache(self) -> None:
        """Keep the cache as it is committed by now."""
        path = self.directory / "taskstore.db"
        with closing(sqlite3.connect(path)) as connection:
            self.caches.append((len(self.operations), connection.serialize()))


@attrs.define
class Run:
    """A run of stores on one directory, recorded."""

    machine: Machine
    promises: list[Promise] = attrs.field(factory=list)
    rewound: float = float("inf")

    def commit(self, store: Store, name: str, *parts: Part) -> None:
        """Commit a transaction, and keep the cache before its journal is retired."""
        promise = Promise(name, list(parts))
        self.promises.append(promise)
        self._write(store, parts)
        promise.kept = len(self.machine.operations)
        self.machine.keep_cache()

    def fail(self, store: Store, name: str, *parts: Part) -> None:
        """Make the COMMIT fail, so that the lines are taken back."""
        with pytest.MonkeyPatch.context() as patch:

            def full(*_: Any) -> None:
                raise sqlite3.OperationalError("injected: database or disk is full")

            patch.setattr("taskstore._cache.engine.guard.GuardedConnection.commit", full)
            with pytest.raises(Exception, match="injected"):
                self._write(store, parts)
        self._undone(name, parts)

    def fail_fsync(self, store: Store, file: str, name: str, *parts: Part) -> None:
        """Make an fsync fail. Its bytes may be lost, whatever a second fsync returns."""
        self.machine.fail_at = file
        with pytest.raises(LogWriteError, match="fsync|journal"):
            self._write(store, parts)
        self._undone(name, parts)

    def _undone(self, name: str, parts: tuple[Part, ...]) -> None:
        undone = Promise(name, [(collection, id, 0) for collection, id, _ in parts])
        self.promises.append(undone)
        undone.kept = -len(self.machine.operations)

    def kill(self, at: Callable[[str, Any], bool], name: str, *parts: Part) -> None:
        """Kill a process in the middle of a transaction, and let the next one recover."""
        promise = Promise(name, list(parts))
        self.promises.append(promise)
        store = self.open()
        self.machine.kill_at = at
        with pytest.raises(Killed):
            self._write(store, parts)
        self.machine.revive()
        store.close()
        with self.open():
            found = lines_of(self.machine.directory)
            # Once it has been seen, it stays.
            if True in promise.is_there(found):
                promise.kept = len(self.machine.operations)
            self.machine.keep_cache()

    def open(self) -> Store:
        """Open the store."""
        return Store.open(self.machine.directory, types=[Plan, Task])

    def _write(self, store: Store, parts: tuple[Part, ...]) -> None:
        with store.transaction() as session:
            for number, (collection, id, group) in enumerate(parts):
                type_: Any = Plan if collection == "plans" else Task
                if group is None:
                    store.delete(type_, id)
                elif number % 2 and not store.exists(type_, where("id") == id):
                    session.add(StoredRecord.from_record(type_(id, "orm", group)))
                else:
                    store.save(type_(id, "y" * 30, group))


def lines_of(directory: Path) -> Found:
    """What the logs say of each record."""
    return {
        (collection, id): None if line.deleted else line.record.get("group", 0)
        for collection, data in logs(directory).items()
        for id, line in replay(data).items()
    }


def appends_to(name: str, calls: int) -> Callable[[str, Any], bool]:
    """Choose the moment before the so-and-so-many-th operation of a kind."""
    left = [calls]

    def at(operation: str, arguments: Any) -> bool:
        left[0] -= operation == name
        return left[0] < 0

    return at


def perform(run: Run) -> None:
    """Commit in all ways, kill, compact, let git replace a file, and go on."""
    with run.open() as store:
        run.machine.keep_cache()
        run.commit(store, "first", ("plans", "a", 1))
        run.commit(store, "second collection", ("tasks", "b", 2))
        run.commit(store, "pair", ("plans", "c", 3), ("tasks", "d", 3))
        run.commit(store, "hot", ("plans", "a", 4))
        run.commit(store, "delete", ("plans", "c", None), ("tasks", "e", 5))
        run.fail(store, "failed", ("plans", "f", 6), ("tasks", "g", 6), ("tasks", "h", 6))
        for number, file in enumerate(("plans.jsonl", "tasks.jsonl", "taskstore.journal")):
            parts: list[Part] = [("plans", f"u{number}", 6), ("tasks", f"v{number}", 6)]
            run.fail_fsync(store, file, f"failed at {file}", *parts)
            run.commit(
                store, f"after {file}", ("plans", f"w{number}", 6), ("tasks", f"x{number}", 6)
            )
        run.fail_fsync(store, "plans.jsonl", "single failed", ("plans", "u3", 6))
        run.commit(store, "several", *[("plans", f"s{n}", 7) for n in range(4)])
    run.kill(appends_to("write", 1), "killed half-way", ("plans", "i", 8), ("tasks", "j", 8))
    # The logs are written, and nothing but the journal is synced.
    run.kill(appends_to("sync", 1), "killed unsynced", ("plans", "k", 9), ("tasks", "l", 9))
    with run.open() as store:
        run.commit(store, "after", ("plans", "a", 10), ("tasks", "m", 10))
        store.compact(Plan, keep_tombstones_ms=0)
        run.machine.keep_cache()
        run.commit(store, "after a compaction", ("plans", "n", 11))
        before = (run.machine.directory / "plans.jsonl").read_bytes()
        checkout(run.machine, "plans", before + b'{"id":"git","group":0}\n')
        run.commit(store, "after a checkout", ("plans", "o", 12))
        run.commit(store, "last", ("plans", "p", 13), ("tasks", "q", 13))
    # A retired journal that came back would now take the other half out too.
    run.rewound = len(run.machine.operations) + 1
    checkout(run.machine, "plans", before)


def checkout(machine: Machine, collection: str, data: bytes) -> None:
    """Replace a log by another one, as git does; it syncs no names."""
    path = machine.directory / f"{collection}.jsonl"
    draft = machine.directory / "git"
    draft.write_bytes(data)
    inode = machine.number_anew(draft)
    machine.add("write", inode, 0, data)
    machine._cover(("write",), inode)
    machine.add("name", "git", inode)
    machine.add("name", path.name, inode)
    machine.add("gone", "git")
    machine._inodes[inode] = path.name
    draft.replace(path)


def record(tmp_path: Path, ignored: Any = None) -> Run:
    """Record a run, with a kind of sync ignored."""
    directory = tmp_path / "store" / ".taskstore"
    with pytest.MonkeyPatch.context() as patch:
        Store.open(directory, types=[Plan, Task]).close()
        run = Run(Machine(patch, directory, ignored))
        perform(run)
    return run


def violations(place: Path, run: Run, moment: int) -> list[str]:
    """Open a store on a state, and return what is not as it must be."""
    with Store.open(place, types=[Plan, Task]) as store:
        check_cache(store)
        found = lines_of(place)
        store.create(Plan("after the cut"))
        store.create_many([Task("after the cut"), Task("too")])
        check_cache(store)
    wrong = []
    for promise in run.promises:
        there = promise.is_there(found, ("plans",) if moment >= run.rewound else ())
        if promise.kept < 0:
            if moment >= -promise.kept and True in there:
                wrong.append(f"{promise.name} was taken back and is there")
            continue
        if moment >= promise.kept and False in there:
            wrong.append(f"{promise.name} was acknowledged and is lost")
        if len(there) > 1:
            wrong.append(f"{promise.name} is there by half")
    return wrong


def cut_power(tmp_path: Path, place: Path, ignored: Any, states: int, seed: int) -> list[str]:
    """Return the violations found in so many states of a run; the first ones, with teeth."""
    run = record(tmp_path, ignored)
    operations = run.machine.operations
    chance = random.Random(seed)
    wrong: list[str] = []
    for number in range(states):
        moment = number % (len(operations) + 1)
        if ignored is not None:
            moment = chance.randrange(len(operations) + 1)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        shutil.copy(run.machine.directory / ".version", place)
        shutil.copy(run.machine.directory / ".gitignore", place)
        lay(place, {}, operations, moment, chance)
        caches = [data for at, data in run.machine.caches if at <= moment]
        if caches and chance.random() < 0.97:
            newest = chance.random() < 0.5
            data = caches[-1] if newest else chance.choice(caches)
            (place / "taskstore.db").write_bytes(data)
        found = violations(place, run, moment)
        wrong += [f"state {number}, moment {moment}: {text}" for text in found]
        if wrong and ignored is not None:
            break
    return wrong


def test_no_power_cut_breaks_a_promise(tmp_path: Path, place: Path, capsys: Any) -> None:
    """Acknowledged is there, taken back is not, nothing is there by half, cache is replay."""
    seed = random.randrange(2**32)
    with capsys.disabled():
        print(f"\npower cut: {STATES} states, seed {seed}")
    assert [] == cut_power(tmp_path, place, None, STATES, seed)


@pytest.mark.parametrize(
    "ignored",
    [
        "plans.jsonl",
        "tasks.jsonl",
        "draft",
        ("taskstore.journal", "live"),
        ("taskstore.journal", "blank"),
        ("directory", "log"),
        ("directory", "journal"),
        ("directory", "draft"),
        ("directory", "git"),
    ],
    ids=str,
)
def test_every_sync_is_needed(tmp_path: Path, place: Path, ignored: Any) -> None:
    """With any one kind of sync taken out, a promise is broken."""
    # With this seed each is found within a hundred states.
    assert cut_power(tmp_path, place, ignored, SEARCHED, seed=2)
