"""One mutated store after another, used as a program would use it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import traceback
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
from click.testing import CliRunner

from taskstore import Store, TaskstoreError
from taskstore._format.lines import decode_object
from taskstore._log import files
from taskstore._log.journal import JournalEntry, write_journal
from taskstore._log.layout import Layout
from taskstore._log.recovery import virtual_limits
from taskstore._log.replay import replay
from taskstore._store.seal import CacheSeal
from taskstore.cli import main
from tests.fuzz.mutations import MUTATIONS, SPARSE

CPU_SECONDS = 5
WALL_SECONDS = 60

SETTINGS = """\
[indexes]
plans = ["status", "priority"]
"other-things" = ["tag"]

[merge.plans]
labels = "union"
"""

FILES = (
    "plans.jsonl",
    "plans.jsonl",
    "other-things.jsonl",
    "config.toml",
    ".version",
    ".gitignore",
    "taskstore.db",
    "taskstore.db",
    "taskstore.db-wal",
    "taskstore.db-shm",
    "taskstore.db-journal",
    "taskstore.journal",
    "taskstore.journal",
    "taskstore.gate",
    "taskstore.turn",
    "evolutions.jsonl",
    "new.jsonl",
)

COMMANDS = (["list", "plans"], ["status"], ["sync"], ["doctor"], ["verify"], ["log", "p-01"])


class TooSlowError(BaseException):
    """A call took longer than it may."""


@attrs.frozen
class Failure:
    """What went wrong, and with which mutation of which file."""

    number: int
    file: str
    mutation: str
    what: str


class Scene:
    """A store that is laid out anew for each mutation, and what lies outside of it."""

    def __init__(self, place: Path) -> None:
        self.directory = place / "work" / ".taskstore"
        self.outside = place / "outside"
        self._template = place / "template"
        self._before: dict[str, Any] = {}
        self._make(place)

    def _make(self, place: Path) -> None:
        self.outside.mkdir(parents=True)
        (self.outside / "precious").write_bytes(b"precious and more\n" * 50)
        (self.outside / "folder").mkdir()
        with closing(sqlite3.connect(self.outside / "precious.db")) as other:
            other.execute("CREATE TABLE theirs (x)")
        with Store.open(self.directory) as store:
            (self.directory / "config.toml").write_text(SETTINGS)
            store.create_many(
                [
                    {"id": f"p-{n:02}", "status": "ä\u2028" * n, "priority": n, "labels": [n]}
                    for n in range(25)
                ],
                collection="plans",
            )
            store.create_many(
                [{"id": f"o/{n}", "tag": "x" * n} for n in range(5)], collection="other-things"
            )
            store.delete("plans", "p-03")
            store.save({"id": "p-04", "status": "again"}, collection="plans")
        self._crash()
        shutil.copytree(self.directory, self._template)
        self._before = self._state_outside()

    def _crash(self) -> None:
        """Leave the journal of a transaction that was cut off in its second log."""
        layout = Layout(self.directory)
        entries = []
        for name in ("plans", "other-things"):
            path = layout.log_path(name)
            fd = files.open_log(path)
            size = path.stat().st_size
            line = b'{"id":"cut","updated_at":1}\n'
            entries.append(
                JournalEntry(name, size, layout.digester.read(fd, size).text(), False, line)
            )
            os.close(fd)
        write_journal(layout.journal_path, entries, layout.mark)
        with layout.log_path("plans").open("ab") as log:
            log.write(entries[0].planned)

    def _state_outside(self) -> dict[str, Any]:
        return {
            str(path.relative_to(self.outside)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.outside.rglob("*"))
        } | {"work": sorted(os.listdir(self.directory.parent))}

    def lay_out(self) -> None:
        """Restore the store, with a cache that counts as written by itself."""
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.copytree(self._template, self.directory)
        seal = CacheSeal(Layout(self.directory))
        seal.note()
        seal.close()

    def check_outside(self) -> None:
        """Nothing outside of the store has changed."""
        now = self._state_outside()
        assert self._before == now, f"outside changed: {sorted(now)}"


def run(place: Path, seed: int, numbers: range) -> Iterator[Failure]:
    """Try the mutations with these numbers; yield what went wrong."""
    scene = Scene(place)
    for number in numbers:
        chance = random.Random(f"{seed}-{number}")
        scene.lay_out()
        file = chance.choice(FILES)
        name, mutate = _chosen(chance, file)
        try:
            for _ in range(chance.choice((1, 1, 1, 2, 4))):
                mutate(scene.directory / file, chance, scene.outside)
            with _limited():
                _use(scene.directory, chance)
            scene.check_outside()
        except (Exception, TooSlowError):  # noqa: BLE001 - whatever it is, it is a finding
            yield Failure(number, file, name, traceback.format_exc(limit=-6))


def _chosen(chance: random.Random, file: str) -> tuple[str, Any]:
    small = file in ("config.toml", ".version", ".gitignore", "taskstore.journal")
    if small and chance.random() < 0.05:
        return SPARSE
    names = [(name, mutation) for name, mutation, _ in MUTATIONS]
    return chance.choices(names, [weight for *_, weight in MUTATIONS])[0]


@contextmanager
def _limited() -> Iterator[None]:
    def late(number: int, frame: Any) -> None:
        raise TooSlowError(f"signal {number}")

    for name, seconds in (("ITIMER_PROF", CPU_SECONDS), ("ITIMER_REAL", WALL_SECONDS)):
        signal.signal(signal.SIGPROF if name == "ITIMER_PROF" else signal.SIGALRM, late)
        signal.setitimer(getattr(signal, name), seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _use(directory: Path, chance: random.Random) -> None:
    """Use a store as a program or a person would; only errors of ours may come."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if chance.random() < 0.3:
            _command(directory, chance.choice(COMMANDS))
        try:
            with Store.open(directory, read_only=chance.random() < 0.2, lock_timeout=2) as store:
                _compare(store)
                if not store.read_only:
                    records: list[dict[str, Any]] = [{"id": "x"}, {"id": "y"}]
                    store.save_many(records, collection="plans")
                    _compare(store)
                store.sync(force=chance.random() < 0.3)
                assert store.verify().ok
        except TaskstoreError:
            pass
        # What one open has made of it, the next can read.
        try:
            with Store.open(directory, lock_timeout=2) as store:
                _compare(store)
        except TaskstoreError:
            pass


def _command(directory: Path, call: list[str]) -> None:
    store = ["--store", str(directory)]
    done = CliRunner().invoke(main, [*call, *store], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception


def _compare(store: Store) -> None:
    layout = Layout(store.path)
    names, _ = layout.collections()
    # Who may not write leaves a transaction that was cut off where it is, and does not serve it.
    limits = virtual_limits(layout) if store.read_only else {}
    for name in {*names, "plans"}:
        listed = {row["id"]: row for row in store.list(name)}
        expected = _expected(layout.log_path(name), name, limits.get(name))
        assert expected == listed, f"{name} differs from its log"


def _expected(path: Path, name: str, limit: int | None) -> dict[str, Any]:
    try:
        fd = files.open_log(path)
    except OSError:
        return {}
    try:
        found = replay(fd, collection=name, path=str(path), limit=limit)
        return {
            winner.id: decode_object(winner.line.encode())
            for winner in found.winners(fd)
            if not winner.deleted
        }
    finally:
        os.close(fd)


def report(failures: list[Failure], seed: int) -> str:
    """Say what went wrong, with what repeats it."""
    return "\n".join(
        f"seed {seed}, mutation {item.number} ({item.mutation} of {item.file}):\n{item.what}"
        for item in failures[:5]
    ) + json.dumps({"failures": len(failures)})
