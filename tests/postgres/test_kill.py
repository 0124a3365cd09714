"""Writers, scribes and the server are killed at any instant: nothing is lost, nothing is twice."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from taskstore._cache.schema.schema import ensure_schema
from tests.crash.killing import server as processes
from tests.crash.scene import LONG
from tests.postgres.clones import cloned
from tests.postgres.committer import NUMBERS, drain_all_the_time, write_all_the_time
from tests.postgres.server import Server

ROUNDS = 300 if LONG else 3
LONGEST = 0.15
"""How long a program lives after it has begun to work, at most, in seconds."""

pytestmark = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="no fork"
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of this module's own, which is killed."""
    # Programs start ten times as fast if their modules are already imported.
    processes.set_forkserver_preload(["tests.postgres.committer"])
    with Server() as started:
        yield started


@attrs.define
class Scene:
    """The programs, and what they have said.

    Attributes:
        server: The server.
        folder: The store directory.
        acknowledged: The pairs that were.
        tried: All pairs.
    """

    server: Server
    folder: Path
    url: str
    acknowledged: set[int] = attrs.field(factory=set)
    tried: set[int] = attrs.field(factory=set)
    _running: list[tuple[BaseProcess, Connection]] = attrs.field(factory=list)
    _writers: int = 0
    _with_records: set[int] = attrs.field(factory=set)

    def start(self, target: Any, *arguments: Any, **options: Any) -> tuple[BaseProcess, Connection]:
        """Start a program, and wait until it works."""
        ours, theirs = processes.Pipe(duplex=False)
        arguments = (self.url, self.folder, theirs, *arguments)
        process = processes.Process(target=target, args=arguments, kwargs=options)
        process.start()
        theirs.close()
        running = (process, ours)
        self._running.append(running)
        # After a crash of the server it may have to read the log first.
        assert ours.poll(300)
        return running

    def write(self, ack: str | None) -> tuple[BaseProcess, Connection]:
        """Start a writer."""
        self._writers += 1
        if ack is not None:
            self._with_records.add(self._writers)
        return self.start(write_all_the_time, self._writers * NUMBERS, ack=ack)

    def listen(self) -> None:
        """Take in what writers have said."""
        for _, told in self._running:
            self._hear(told)

    def _hear(self, told: Connection) -> None:
        try:
            while told.poll(0):
                message = told.recv()
                if isinstance(message, tuple):
                    kind, number = message
                    (self.tried if kind == "try" else self.acknowledged).add(number)
        except (EOFError, OSError):
            return

    def kill(self, running: tuple[BaseProcess, Connection]) -> None:
        """Kill a program, and take in its last words."""
        process, told = running
        process.kill()
        process.join()
        self._hear(told)
        told.close()
        self._running.remove(running)

    def kill_all(self) -> None:
        """Kill what runs."""
        for running in list(self._running):
            self.kill(running)

    def check(self) -> None:
        """What was acknowledged is in the table and, once, in the log; and the two agree."""
        with cloned_again(self.url, self.folder) as clone:
            clone.check()
            found = set(clone.told("tasks"))
            lines = (self.folder / "tasks.jsonl").read_bytes().splitlines()
            labels = (self.folder / "labels.jsonl").read_bytes().splitlines()
            notes = [line["id"] for line in clone.lines("notes")]
            counts = [line["count"] for line in clone.lines("counts")]
        pairs = {int(id[:-1]) for id in found}
        assert {f"{number}{side}" for number in pairs for side in "ab"} == found
        assert self.acknowledged <= pairs <= self.tried
        assert [] == [line for line, count in Counter(lines).items() if count > 1]
        assert len(lines) == len({json.loads(line)["id"] for line in lines})
        written = [number for number in pairs if number // NUMBERS in self._with_records]
        assert sorted(f"{number}{side}" for number in written for side in "ab") == sorted(notes)
        assert sorted(written) == sorted(counts)
        seen = Counter((found["id"], found["name"]) for found in map(json.loads, labels))
        assert [] == [one for one, count in seen.items() if count > 1]


def cloned_again(url: str, folder: Path) -> Any:
    """A clone on a database that is there."""
    from sqlalchemy import make_url

    return cloned(make_url(url), folder)


@pytest.fixture
def scene(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A new database, with an empty store."""
    name = f"kill_{abs(hash(request.node.name)) % 10**9}"
    administration = create_engine(server.url(), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with administration.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = create_engine(server.url(name), poolclass=NullPool)
    ensure_schema(engine)
    made = Scene(server, tmp_path / "store", server.url(name))
    with cloned_again(made.url, made.folder):
        pass
    yield made
    made.kill_all()


def _say(capsys: Any, scene: Scene) -> None:
    with capsys.disabled():
        print(f" [{ROUNDS} rounds, {len(scene.acknowledged)} acknowledged]", end="")


def _seeded(capsys: Any) -> random.Random:
    seed = random.randrange(2**32)
    with capsys.disabled():
        print(f" [seed {seed}]", end="")
    return random.Random(seed)


def test_scribes_are_killed(scene: Scene, capsys: Any) -> None:
    """While two applications write that have no store, one scribe after the other is killed."""
    chance = _seeded(capsys)
    for _ in range(2):
        scene.write(None)
    for _ in range(ROUNDS):
        scribe = scene.start(drain_all_the_time)
        time.sleep(chance.random() * LONGEST)
        scene.kill(scribe)
        scene.listen()
    scene.kill_all()
    scene.check()
    _say(capsys, scene)
    assert 0 < len(scene.acknowledged)


def test_writers_are_killed(scene: Scene, capsys: Any) -> None:
    """Applications with a store are killed, one at a time, while another goes on."""
    chance = _seeded(capsys)
    other = scene.write("log")
    for _ in range(ROUNDS):
        writer = scene.write(chance.choice(["database", "log"]))
        time.sleep(chance.random() * LONGEST)
        scene.listen()
        scene.kill(other if chance.random() < 0.5 else writer)
        [other] = scene._running
    scene.kill_all()
    scene.check()
    _say(capsys, scene)


def test_the_server_is_killed(scene: Scene, capsys: Any) -> None:
    """The server ends as in a crash, again and again, and the programs go on."""
    chance = _seeded(capsys)
    scene.start(drain_all_the_time)
    scene.write(None)
    scene.write("log")
    for _ in range(ROUNDS):
        time.sleep(chance.random() * LONGEST)
        scene.server.stop("immediate")
        scene.server.start()
        scene.listen()
    before = len(scene.acknowledged)
    deadline = time.monotonic() + 30
    while len(scene.acknowledged) < before + 3 and time.monotonic() < deadline:
        scene.listen()
        time.sleep(0.01)
    assert before < len(scene.acknowledged)
    scene.kill_all()
    scene.check()
    _say(capsys, scene)


def test_all_are_killed_together(scene: Scene, capsys: Any) -> None:
    """Writers, scribes and the server are killed in any combination, while two writers are live."""
    chance = _seeded(capsys)
    scene.write(None)
    roles: list[Callable[[], Any]] = [
        lambda: scene.write(chance.choice(["database", "log"])),
        lambda: scene.start(drain_all_the_time),
    ]
    live = [start() for start in roles]
    for _ in range(ROUNDS):
        time.sleep(chance.random() * LONGEST)
        chosen = [role for role in range(3) if chance.random() < 0.5]
        chance.shuffle(chosen)
        for role in chosen:
            if role < len(roles):
                scene.kill(live[role])
            else:
                scene.server.stop("immediate")
        if len(roles) in chosen:
            scene.server.start()
        for role in chosen:
            if role < len(roles):
                live[role] = roles[role]()
        scene.listen()
    scene.kill_all()
    scene.check()
    _say(capsys, scene)
    assert 0 < len(scene.acknowledged)
