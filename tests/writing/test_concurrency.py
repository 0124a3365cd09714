"""Threads, stores, processes and forks on one directory, and what is removed under them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from taskstore import LockTimeoutError, Store, TransactionOpenError, where
from taskstore._cache.engine.driver import ForeignCacheError
from taskstore._log.gate import Gate
from taskstore._log.layout import Layout
from taskstore._log.locks import directory_lock
from taskstore.models import StoredRecord
from tests.crash.scene import LONG
from tests.store.plans import Plan, append, ids, log_lines
from tests.store.workers import run_all
from tests.writing import racers

RACERS = 8
PATIENCE = 60
"""How long to wait for what must come, in seconds, before a test gives up."""

forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
full_size = [pytest.mark.crash, pytest.mark.skipif(not LONG, reason="only in the long run")]
sizes = pytest.mark.parametrize(
    "count", [12, pytest.param(200, marks=full_size)], ids=["few", "many"]
)


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    """An empty store that knows plans."""
    with Store.open(directory, types=[Plan]) as store:
        yield store


def in_threads(work: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Run a function in one thread for each tuple of arguments, all started from one line."""
    arguments = list(arguments)
    barrier = Barrier(len(arguments), timeout=PATIENCE)
    with ThreadPoolExecutor(len(arguments)) as pool:
        return [each.result() for each in [pool.submit(work, barrier, *a) for a in arguments]]


def check_whole(directory: Path, expected: Iterable[str]) -> None:
    """Each plan has one line, the cache is sound, and says what the log says."""
    expected = sorted(expected)
    assert expected == sorted(line["id"] for line in log_lines(directory))
    with closing(sqlite3.connect(directory / "taskstore.db")) as connection:
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
    with Store.open(directory, types=[Plan]) as store:
        assert expected == ids(store)
        assert () == store.verify().differences


def check_latencies(what: str, found: list[list[float]], capsys: Any) -> None:
    """Print the slowest commits: figures for a reader, not for a test."""
    latencies = sorted(latency for each in found for latency in each)
    p50, p99 = (latencies[int(len(latencies) * part)] for part in (0.5, 0.99))
    with capsys.disabled():
        print(f"\n{what}: {len(latencies)} commits, p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms")


def check_races(directory: Path, outcomes: list[tuple[str, str]]) -> None:
    """One has won each race, and seven were told with the error that is meant for it."""
    updates, claims = zip(*outcomes, strict=True)
    assert {"won": 1, "StaleRecordError": 7} == Counter(updates)
    assert {"won": 1, "ConditionFailedError": 7} == Counter(claims)
    assert ["a", "b", "a", "b"] == [line["id"] for line in log_lines(directory)]


@pytest.mark.parametrize("run", [in_threads, run_all], ids=["stores", "processes"])
def test_one_of_eight_wins(directory: Path, run: Callable[..., Any]) -> None:
    """Of eight that update the same version, or patch under the same condition, one wins."""
    with Store.open(directory, types=[Plan]) as store:
        plan, _ = store.create_many([Plan("a"), Plan("b", status="open")])
    outcomes = run(racers.race, [(directory, worker, plan) for worker in range(RACERS)])
    check_races(directory, outcomes)


def test_one_of_eight_threads_of_a_store_wins(store: Store) -> None:
    """Of eight threads that share a store, one updates a version, and one claims a record."""
    plan, _ = store.create_many([Plan("a"), Plan("b", status="open")])
    outcomes = in_threads(racers.race_in, [(store, worker, plan) for worker in range(RACERS)])
    check_races(store.path, outcomes)


@sizes
@pytest.mark.parametrize("run", [in_threads, run_all], ids=["stores", "processes"])
def test_eight_writers_lose_nothing(
    directory: Path, run: Callable[..., Any], count: int, capsys: Any
) -> None:
    """Eight stores in one process, or eight processes, commit at once: every record is there."""
    found = run(racers.commit_many, [(directory, worker, count) for worker in range(RACERS)])
    check_whole(directory, [f"{w}-{n}" for w in range(RACERS) for n in range(count)])
    check_latencies(f"{RACERS} x {run.__name__}", found, capsys)


@sizes
def test_eight_threads_of_a_store_lose_nothing(store: Store, count: int, capsys: Any) -> None:
    """Eight threads that share a store commit at once: every record is there once."""

    def commit(barrier: Barrier, worker: int) -> list[float]:
        barrier.wait()
        return racers.commit_in(store, worker, count)

    found = in_threads(commit, [(worker,) for worker in range(RACERS)])
    check_whole(store.path, [f"{w}-{n}" for w in range(RACERS) for n in range(count)])
    check_latencies(f"{RACERS} x one store", found, capsys)


@pytest.mark.parametrize("run", [in_threads, run_all], ids=["threads", "processes"])
def test_sessions_and_calls_mix(directory: Path, run: Callable[..., Any]) -> None:
    """Sessions of an application beside the store's own calls lose nothing, whoever else writes."""
    run(racers.commit_rows, [(directory, worker, 8) for worker in range(4)])
    kinds = ("row", "call")
    check_whole(directory, [f"{w}-{n}-{k}" for w in range(4) for n in range(8) for k in kinds])


def test_readers_wait_for_no_lock(store: Store) -> None:
    """While a writer holds the gate, the database and the log, every read is served at once."""
    store.create(Plan("a", status="open"))
    layout = Layout(store.path)
    with ExitStack() as held, ThreadPoolExecutor(1) as pool:
        held.enter_context(Gate(layout).hold(PATIENCE))
        writer = held.enter_context(
            closing(sqlite3.connect(layout.cache_path, isolation_level=None))
        )
        writer.execute("BEGIN IMMEDIATE")
        held.enter_context(directory_lock(layout).hold(PATIENCE))
        # As a writer leaves it between its append and its COMMIT.
        append(store.path, {"id": "b", "updated_at": 1})

        def read() -> list[Any]:
            with store.session(read_only=True) as session:
                row = session.get_one(StoredRecord, ("plans", "a"))
            return [
                store.get_one(Plan, "a").id,
                store.count(Plan),
                store.exists(Plan, where("status") == "open"),
                [plan.id for plan in store.list(Plan)],
                [plan.id for plan in store.iterate(Plan)],
                [plan.id for plan in store.page(Plan).items],
                row.data["id"],
            ]

        assert ["a", 1, True, ["a"], ["a"], ["a"], "a"] == pool.submit(read).result(PATIENCE)
        with pytest.raises(LockTimeoutError), Store.open(store.path, lock_timeout=0.01) as other:
            other.create({"id": "c"}, collection="plans")
    # The waiter of the store that gave up may hold the gate for a moment, and a read does not wait.
    store.sync()
    assert ["a", "b"] == ids(store)


def test_two_stores_in_one_thread_tell(store: Store) -> None:
    """A write by a second store within a transaction of the first is told, not waited for ever."""
    with Store.open(store.path, types=[Plan], lock_timeout=0.01) as other:
        with store.transaction():
            store.create(Plan("a"))
            with pytest.raises(LockTimeoutError):
                other.create(Plan("b"))
        other.create(Plan("b"))
    check_whole(store.path, ["a", "b"])


def cache_files(directory: Path, *endings: str) -> None:
    """Remove the files of a cache that are there."""
    for ending in endings:
        (directory / f"taskstore.db{ending}").unlink(missing_ok=True)


def all_but_logs(directory: Path) -> None:
    """Remove what can be made again."""
    for path in directory.iterdir():
        if path.suffix != ".jsonl":
            path.unlink()


REMOVALS: dict[str, Callable[[Path], None]] = {
    "the gate": lambda directory: Layout(directory).gate_path.unlink(),
    "the cache alone": lambda directory: cache_files(directory, ""),
    "the cache with -wal and -shm": lambda directory: cache_files(directory, "", "-wal", "-shm"),
    "all but the log": all_but_logs,
}


@pytest.mark.parametrize("removal", REMOVALS)
def test_what_is_removed_under_live_stores_comes_back(store: Store, removal: str) -> None:
    """Files that are removed under two live stores are rebuilt; no record is lost."""
    store.create(Plan("a"))
    with Store.open(store.path, types=[Plan]) as other:
        other.create(Plan("b"))
        REMOVALS[removal](store.path)
        store.create(Plan("c"))
        other.create(Plan("d"))
        assert ["a", "b", "c", "d"] == ids(store) == ids(other)
    check_whole(store.path, ["a", "b", "c", "d"])


def test_a_directory_that_is_removed_is_made_anew(store: Store) -> None:
    """With the whole directory gone its records are gone too, and live stores begin anew."""
    store.create(Plan("a"))
    with Store.open(store.path, types=[Plan]) as other:
        other.create(Plan("b"))
        shutil.rmtree(store.path)
        assert [] == ids(store)
        other.create(Plan("c"))
        store.create(Plan("d"))
        assert ["c", "d"] == ids(store) == ids(other)
    check_whole(store.path, ["c", "d"])


@pytest.mark.parametrize("removal", ["the gate", "the cache with -wal and -shm"])
def test_removals_while_threads_write(store: Store, removal: str) -> None:
    """What is removed while eight threads write costs no acknowledged record."""
    halfway = Barrier(RACERS + 1, timeout=PATIENCE)

    def write(barrier: Barrier, worker: int) -> None:
        barrier.wait()
        racers.commit_in(store, worker, 5)
        halfway.wait()
        for number in range(5, 10):
            store.create(Plan(f"{worker}-{number}"))

    def remove(barrier: Barrier, worker: int) -> None:
        barrier.wait()
        halfway.wait()
        REMOVALS[removal](store.path)

    with ThreadPoolExecutor(RACERS + 1) as pool:
        barrier = Barrier(RACERS + 1, timeout=PATIENCE)
        done = [pool.submit(write, barrier, worker) for worker in range(RACERS)]
        done.append(pool.submit(remove, barrier, RACERS))
        for each in done:
            each.result()
    check_whole(store.path, [f"{w}-{n}" for w in range(RACERS) for n in range(10)])


def test_a_late_failure_leaves_the_new_cache_alone(store: Store) -> None:
    """A call that fails on a cache that another thread replaced tries again on the new one."""
    cache, link = store.path / "taskstore.db", store.path.parent / "link"

    def count() -> int:
        if not link.exists():
            cache_files(store.path, "", "-wal", "-shm")
            with ThreadPoolExecutor(1) as pool:
                pool.submit(store.count, Plan).result(PATIENCE)
            link.hardlink_to(cache)
            raise ForeignCacheError
        return store.count(Plan)

    store.create(Plan("a"))
    assert 1 == store._cache.retried(count)
    assert cache.samefile(link)


@forking
def test_a_child_uses_the_store_of_its_parent(store: Store) -> None:
    """A forked child reads and writes with its parent's store and sessions; both go on."""
    store.create(Plan("a"))
    sessions = sessionmaker(store.engine)
    store.attach(sessions)

    def work() -> list[str]:
        store.create(Plan("b"))
        with sessions.begin() as session:
            session.add(StoredRecord.from_record(Plan("c")))
        found = ids(store)
        store.close()
        return found

    assert ["a", "b", "c"] == racers.in_child(work)
    store.create(Plan("d"))
    assert ["a", "b", "c", "d"] == ids(store)
    check_whole(store.path, ["a", "b", "c", "d"])


def add_row(session: Session) -> None:
    """Add a row and flush it."""
    session.add(StoredRecord.from_record(Plan("child")))
    session.flush()


@forking
def test_a_child_of_a_transaction_is_told(store: Store) -> None:
    """A child that was forked within a transaction gets an error, and leaves its parent alone."""
    store.create(Plan("a"))
    with store.transaction() as session:
        store.create(Plan("b"))
        for work in (
            lambda: store.create(Plan("child")),
            lambda: store.list(Plan),
            session.flush,
            session.commit,
            partial(add_row, session),
        ):
            outcome = racers.in_child(work)
            assert outcome is None or isinstance(outcome, TransactionOpenError)
        for work in (session.rollback, session.close, store.close):
            assert racers.in_child(work) is None
        store.create(Plan("c"))
    check_whole(store.path, ["a", "b", "c"])


@forking
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_of_a_busy_parent_is_told(store: Store) -> None:
    """A child that was forked while another thread was writing gets an error, not its locks."""
    begun, over = Event(), Event()

    def write() -> None:
        with store.transaction():
            store.create(Plan("a"))
            begun.set()
            over.wait(PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        assert begun.wait(PATIENCE)
        outcome = racers.in_child(lambda: store.create(Plan("child")))
        over.set()
        writing.result()
    assert isinstance(outcome, TransactionOpenError)
    assert racers.in_child(lambda: store.create(Plan("b")).id) == "b"
    check_whole(store.path, ["a", "b"])


@forking
def test_a_child_does_not_hold_its_parents_locks(store: Store) -> None:
    """What the parent has locked when it forks is free again when the parent lets it go."""
    layout = Layout(store.path)
    reader, writer = os.pipe()
    with Gate(layout).hold(PATIENCE), directory_lock(layout).hold(PATIENCE):
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
    try:
        # The child still runs.
        store.create(Plan("a"))
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(child, 0)
    check_whole(store.path, ["a"])


@forking
def test_a_child_reads_with_a_store_for_reading(store: Store) -> None:
    """A store that was opened for reading reads on in a forked child, what is new included."""
    store.create(Plan("a"))
    with Store.open(store.path, types=[Plan], read_only=True) as readonly:
        assert ["a"] == ids(readonly)
        store.create(Plan("b"))
        assert ["a", "b"] == racers.in_child(lambda: ids(readonly))
        assert ["a", "b"] == ids(readonly)
