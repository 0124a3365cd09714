"""An exception at any line is seen by the caller, leaves no lock held, and the next call works."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from taskstore import AsyncStore, RecordNotFoundError, Store, mirrored
from taskstore.models import StoredRecord
from tests.crash.interrupts import ROOT, Interrupt, Interrupter, Point
from tests.crash.scene import LONG, Plan, Task, told
from tests.warm import warm_program

SEED = int(os.environ.get("TASKSTORE_SEED", time.time_ns() % 1_000_000))
SAMPLE = 1000 if LONG else 20
"""How many points of each operation are tried, at most."""

PATIENCE = 1.0
"""How long a writer waits for a lock, in seconds; whoever waits longer waits for nobody."""

OTHER = """
import sys
from tests.crash.scene import Plan
from taskstore import Store
with Store.open(sys.argv[1], lock_timeout=5) as store:
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            store.create(Plan(id=line.strip()))
        except BaseException as error:
            print(repr(error), flush=True)
        else:
            print("written", flush=True)
"""

numbers = itertools.count()


class Base(DeclarativeBase):
    """The application's models."""


@mirrored("notes")
class Note(Base):
    """A mirrored one."""

    __tablename__ = "notes"
    id: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="")
    updated_at: Mapped[int]


def fresh(kind: str) -> str:
    """An id that nobody has yet."""
    return f"{kind}-{next(numbers)}"


class Other:
    """Another process that writes when it is asked to."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            warm_program(OTHER, str(directory)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert "ready" == self._answer()

    def write(self) -> str:
        """Write a record, and return what became of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(fresh("other") + "\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class World:
    """A store and its calls; `act` gives the one that is interrupted, made ready."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / ".taskstore"
        self.open()

    def open(self) -> None:
        """Open the store."""
        self.store = Store.open(self.directory, types=[Plan, Task], lock_timeout=PATIENCE)

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def write(self) -> None:
        """Write as usual."""
        self.store.create(Plan(id=fresh("next")))

    def records(self) -> dict[tuple[str, str], Any]:
        """Return the records that the store lists."""
        return {
            (name, row["id"]): dict(row)
            for name in ("plans", "tasks", "notes")
            for row in self.store.list(name)
        }

    def create(self) -> Callable[[], Any]:
        """Create a record."""
        plan = Plan(id=fresh("a"))
        return lambda: self.store.create(plan)

    def update(self) -> Callable[[], Any]:
        """Update a record."""
        plan = self.store.create(Plan(id=fresh("a")))
        plan.title = "new"
        return lambda: self.store.update(plan)

    def delete(self) -> Callable[[], Any]:
        """Delete a record."""
        plan = self.store.create(Plan(id=fresh("a")))
        return lambda: self.store.delete(Plan, plan.id)

    def create_many(self) -> Callable[[], Any]:
        """Create several records, which takes the journal."""
        plans = [Plan(id=fresh("a")) for _ in range(3)]
        return lambda: self.store.create_many(plans)

    def read(self) -> Callable[[], Any]:
        """Read, after somebody has changed the log."""
        self.append()
        return lambda: self.store.list(Plan)

    def transaction(self) -> Callable[[], Any]:
        """Write to two collections in a transaction."""

        def act() -> None:
            with self.store.transaction():
                self.store.create(Plan(id=fresh("a")))
                self.store.create(Task(id=fresh("a")))

        return act

    def session(self) -> Callable[[], Any]:
        """Commit a session that is attached."""

        def act() -> None:
            with Session(self.store.engine) as session:
                self.store.attach(session)
                session.add(StoredRecord(collection="plans", data={"id": fresh("a")}))
                session.commit()

        return act

    def sync(self) -> Callable[[], Any]:
        """Sync, after somebody has changed the log."""
        self.append()
        return self.store.sync

    def compact(self) -> Callable[[], Any]:
        """Compact a log."""
        self.store.update(self.store.create(Plan(id=fresh("a"))))
        return lambda: self.store.compact(Plan)

    def opening(self) -> Callable[[], Any]:
        """Open a store for the first time."""
        self.store.close()
        for path in self.directory.glob("taskstore.*"):
            path.unlink()
        return self.open

    def reopening(self) -> Callable[[], Any]:
        """Open a store once more, beside the one that is open, and close it."""

        def act() -> None:
            # What is raised where the garbage collector closes it reaches nobody.
            Store.open(self.directory, types=[Plan], lock_timeout=PATIENCE).close()

        return act

    def closing(self) -> Callable[[], Any]:
        """Close a store."""
        return self.store.close

    def append(self) -> None:
        """Write to the log as another program would."""
        line = json.dumps({"id": fresh("theirs"), "updated_at": 1})
        with (self.directory / "plans.jsonl").open("a") as log:
            log.write(line + "\n")


class Mirrored(World):
    """A store on an application's engine, whose models it mirrors."""

    def __init__(self, folder: Path) -> None:
        # SQLAlchemy loses a place in the pool each time that its reset of a connection is
        # interrupted.
        self.engine: Engine = create_engine(
            f"sqlite:///{folder / 'app.db'}", connect_args={"timeout": PATIENCE}, max_overflow=-1
        )
        Base.metadata.create_all(self.engine)
        super().__init__(folder)

    def open(self) -> None:
        """Open the store."""
        self.store = Store.open(
            self.directory,
            engine=self.engine,
            mirrors=[Note],
            migrate=True,
            types=[Plan],
            lock_timeout=PATIENCE,
        )

    def write(self) -> None:
        """Write a mirrored row, and a record."""
        with Session(self.engine) as session:
            self.store.attach(session)
            session.add(Note(id=fresh("next")))
            session.commit()
        self.store.create(Plan(id=fresh("next")))

    def records(self) -> dict[tuple[str, str], Any]:
        """Return the records that the store lists, having compared them with the rows."""
        found = super().records()
        with Session(self.engine) as session:
            ids = {("notes", note.id) for note in session.query(Note)}
        assert ids == {key for key in found if key[0] == "notes"}
        return found

    def flush(self) -> Callable[[], Any]:
        """Flush and commit mirrored rows, one new and one changed."""
        with Session(self.engine) as session:
            self.store.attach(session)
            session.add(Note(id=(old := fresh("a"))))
            session.commit()

        def act() -> None:
            with Session(self.engine) as session:
                self.store.attach(session)
                session.add(Note(id=fresh("a")))
                note = session.get(Note, old)
                assert note is not None
                note.text = "new"
                session.commit()

        return act


OPERATIONS = [
    (World, "create"),
    (World, "update"),
    (World, "delete"),
    (World, "create_many"),
    (World, "read"),
    (World, "transaction"),
    (World, "session"),
    (World, "sync"),
    (World, "compact"),
    (World, "opening"),
    (World, "reopening"),
    (World, "closing"),
    (Mirrored, "flush"),
    (Mirrored, "create"),
    (Mirrored, "sync"),
    (Mirrored, "closing"),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, where there is one: every point costs some fsyncs."""
    memory = Path("/dev/shm")
    made = tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None)
    yield Path(made)
    shutil.rmtree(made)


@contextmanager
def another(directory: Path) -> Iterator[Other]:
    """Another process on a store."""
    other = Other(directory)
    try:
        yield other
    finally:
        other.end()


def chosen(points: list[Point], name: str) -> list[Point]:
    """The points that this run tries."""
    if len(points) <= SAMPLE:
        return points
    return random.Random(f"{SEED} {name}").sample(points, SAMPLE)


def check(world: World, other: Other, error: BaseException | None, raised: Any) -> None:
    """Check all that is promised, while the exception lives on with the frames it came through."""
    assert error is raised or error is None, f"instead came {error!r}"
    if world.store._context.closed:
        world.open()
    world.write()
    assert "written" == other.write()
    assert told(world.directory) == world.records()


@pytest.mark.parametrize(
    ("kind", "name"), OPERATIONS, ids=[f"{k.__name__}-{n}".lower() for k, n in OPERATIONS]
)
def test_an_exception_at_any_line(kind: type[World], name: str, folder: Path) -> None:
    """Each line of log, cache and store: others can write, and the cache is what the log says."""
    world = kind(folder)
    world.write()
    interrupter = Interrupter()
    found = interrupter.points(getattr(world, name)())
    if world.store._context.closed:
        world.open()
    print(f"TASKSTORE_SEED={SEED}, {len(found)} points")
    bad: dict[str, str] = {}
    with another(world.directory) as other:
        for point in chosen(found, name):
            act = getattr(world, name)()
            error = interrupter.run(act, point)
            try:
                check(world, other, error, interrupter.raised)
            except Exception as wrong:
                if not LONG:
                    raise AssertionError(f"after an exception at {point}") from wrong
                bad[str(point)] = repr(wrong)[:300]
                world.close()
                world = kind(folder)
            error = None
    world.close()
    assert {} == bad


@pytest.fixture
def traced_threads() -> Iterator[Interrupter]:
    """An interrupter of the threads that begin meanwhile."""
    interrupter = Interrupter()
    threading.settrace(interrupter.trace)
    yield interrupter
    threading.settrace(None)


def test_an_exception_in_a_thread_of_asyncio(folder: Path, traced_threads: Interrupter) -> None:
    """What is raised at any line in the thread of a call reaches the task that awaits it."""
    world = World(folder)
    world.write()
    asyncio.run(interrupt_asyncio(world, traced_threads))
    world.close()


async def interrupt_asyncio(world: World, interrupter: Interrupter) -> None:
    """Interrupt `AsyncStore.create` at its lines."""
    async with AsyncStore.open(world.directory, types=[Plan], lock_timeout=PATIENCE) as store:
        await store.create(Plan(id=fresh("a")))
        with interrupter.armed(None):
            await store.create(Plan(id=fresh("a")))
        with another(world.directory) as other:
            for point in chosen(interrupter.seen(), "asyncio"):
                # Python ends the tracing of a thread whose tracer has raised.
                await store._threads.run(lambda: sys.settrace(interrupter.trace))
                error = None
                try:
                    with interrupter.armed(point):
                        await store.create(Plan(id=fresh("a")))
                except BaseException as raised:  # noqa: BLE001 - it is looked at
                    error = raised
                await store.create(Plan(id=fresh("next")))
                check(world, other, error, interrupter.raised)


@pytest.fixture
def alarm() -> Iterator[list[Interrupt]]:
    """What the handler of SIGALRM has raised."""
    raised: list[Interrupt] = []

    def interrupt(number: int, frame: object) -> None:
        raised.append(Interrupt())
        raise raised[-1]

    before = signal.signal(signal.SIGALRM, interrupt)
    yield raised
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", [World, Mirrored])
def test_a_signal_at_any_moment(
    kind: type[World], folder: Path, alarm: list[Interrupt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler raises at a random moment: the caller sees that, and the next call works."""
    chance = random.Random(f"{SEED} {kind.__name__}")
    world = kind(folder)
    world.write()
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: unraisable.append(found.exc_value))
    names = ("create", "update", "delete", "create_many", "read", "transaction", "session", "sync")
    print(f"TASKSTORE_SEED={SEED}")
    with another(world.directory) as other:
        for _ in range(1000 if LONG else 30):
            name, error = interrupted_at_random(world, chance, names, alarm)
            error = seen(name, error, alarm[-1])
            if not came_in_our_code(alarm[-1]):
                # The code there holds what it has not given back yet until its frames are gone.
                assert error in (None, alarm[-1]), f"instead came {error!r}"
                let_go(error, alarm[-1])
            check(world, other, error, alarm[-1])
            error = None
    world.close()


def came_in_our_code(raised: BaseException) -> bool:
    """Whether the interrupt hit the library, or a C function that it called."""
    frames = [frame.filename for frame in traceback.extract_tb(raised.__traceback__)]
    # The last is the handler.
    return len(frames) > 1 and frames[-2].startswith(str(ROOT))


def let_go(*errors: BaseException | None) -> None:
    """Free the frames that exceptions came through, and what these hold."""
    for error in errors:
        while error is not None:
            traceback.clear_frames(error.__traceback__)
            error = error.__context__
    gc.collect()


def interrupted_at_random(
    world: World, chance: random.Random, names: Sequence[str], alarm: list[Interrupt]
) -> tuple[str, BaseException | None]:
    """Make calls until an alarm comes; the last one, and what came out of it."""
    alarm.clear()
    name = ""
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.03))
        while not alarm:
            name = chance.choice(names)
            getattr(world, name)()()
    except BaseException as error:
        if not alarm:
            raise AssertionError(f"{name} failed without an alarm") from error
        return name, error
    return name, None


def seen(name: str, error: BaseException | None, raised: Interrupt) -> BaseException | None:
    """What the caller has seen, without what is beyond us."""
    if isinstance(error, KeyboardInterrupt) and "while a statement was checked" in str(error):
        # SQLite's module has dropped what the handler raised.
        return None
    if isinstance(error, OperationalError) and "not authorized" in str(error):
        # The same, before the first line of the function that checks.
        return None
    if name == "session" and isinstance(error, Exception):
        # SQLAlchemy was interrupted in the application's own session, and then failed to clean up.
        cause: BaseException | None = error
        while cause is not None and cause is not raised:
            cause = cause.__context__
        return cause or error
    return error


def test_an_error_after_an_interrupt_stays_what_it_is(directory: Path) -> None:
    """A call that fails while its caller deals with an interrupt raises its own error."""
    with Store.open(directory) as store:
        try:
            raise Interrupt
        except Interrupt:
            with pytest.raises(RecordNotFoundError):
                store.update({"id": "a"}, collection="plans")
            with pytest.raises(RecordNotFoundError), store.transaction():
                store.update({"id": "a"}, collection="plans")
