"""Several processes and threads on one directory: nothing is lost, and one of many wins."""

from __future__ import annotations

import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import pytest

from taskstore import ConditionFailedError, StaleRecordError, Store, evolve, where
from tests.store import workers
from tests.store.plans import Plan, ids, log_lines, log_path

pytestmark = pytest.mark.public


def check_cache(directory: Path) -> None:
    """The cache is sound, and says what a replay from nothing says."""
    with sqlite3.connect(directory / "taskstore.db") as connection:
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
        assert [] == connection.execute("PRAGMA foreign_key_check").fetchall()
    connection.close()
    with Store.open(directory, types=[Plan]) as store:
        before = store.list(Plan)
        store.sync(force=True)
        assert before == store.list(Plan)


def test_processes_that_open_and_create_lose_nothing(directory: Path) -> None:
    """Four processes open a new store at once and create 25 records each: all persist."""
    counts = workers.run_all(workers.create_many, [(directory, n, 25) for n in range(4)])
    assert 100 == max(counts)
    lines = log_lines(directory)
    assert 100 == len(lines) == len({line["id"] for line in lines})
    check_cache(directory)


def test_the_first_open_of_several_processes_makes_one_cache(directory: Path) -> None:
    """Processes that open a log without a cache at once all find every record in it."""
    with Store.open(directory, types=[Plan]) as store:
        store.create_many([Plan(f"p{number}", status="active") for number in range(50)])
    for path in directory.glob("taskstore.*"):
        path.unlink()
    assert [50] * 4 == workers.run_all(workers.open_and_count, [(directory,)] * 4)
    check_cache(directory)


def test_one_of_many_processes_wins_each_claim(directory: Path) -> None:
    """Of four processes that claim the same records, exactly one gets each."""
    with Store.open(directory, types=[Plan]) as store:
        store.create_many([Plan(f"p{number}", status="open") for number in range(20)])
    won = workers.run_all(workers.claim, [(directory, n, 20) for n in range(4)])
    assert 20 == sum(won)
    assert 40 == len(log_lines(directory))


def test_one_of_many_processes_updates_a_version(directory: Path) -> None:
    """Of four processes that update the same version one is accepted, the others are told."""
    with Store.open(directory, types=[Plan]) as store:
        plan = store.create(Plan("a"))
    accepted = workers.run_all(workers.update_same, [(directory, n, plan) for n in range(4)])
    assert [False, False, False, True] == sorted(accepted)
    assert 2 == len(log_lines(directory))


def test_no_increment_of_several_processes_is_lost(directory: Path) -> None:
    """Processes that read, add one and retry when they were overtaken count right."""
    with Store.open(directory, types=[Plan]) as store:
        store.create(Plan("a"))
    workers.run_all(workers.increment, [(directory, n, 15) for n in range(3)])
    with Store.open(directory, types=[Plan]) as store:
        assert 45 == store.get_one(Plan, "a").priority
    stamps = [line["updated_at"] for line in log_lines(directory)]
    assert sorted(set(stamps)) == stamps


def test_one_of_many_threads_wins(store: Store) -> None:
    """Of eight threads that patch or update the same version, one wins each time."""
    barrier = Barrier(8)
    plan = store.create(Plan("a", status="open"))

    def patch(number: int) -> bool:
        barrier.wait()
        try:
            store.patch(Plan, "a", where("status") == "open", status="taken")
        except ConditionFailedError as error:
            assert ("plans", "a") == (error.collection, error.id)
            return False
        return True

    def update(number: int) -> bool:
        barrier.wait()
        try:
            store.update(evolve(plan, title=f"{number}"))
        except StaleRecordError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert 1 == sum(pool.map(patch, range(8)))
        plan = store.get_one(Plan, "a")
        assert 1 == sum(pool.map(update, range(8)))
    assert 3 == len(log_lines(store.path))


def test_threads_share_one_store(store: Store) -> None:
    """Threads that write and read through one store at once lose and mix up nothing."""

    def work(number: int) -> None:
        for round in range(10):
            with store.transaction():
                store.create(Plan(f"t{number}-{round}-a"))
                store.create(Plan(f"t{number}-{round}-b"))
            assert 2 * (round + 1) == store.count(Plan, where("id").contains(f"t{number}-"))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert 120 == store.count(Plan) == len(log_lines(store.path))
    check_cache(store.path)


def test_nobody_reads_half_of_a_transaction(store: Store) -> None:
    """A reader beside a writer of pairs never sees one of a pair alone."""
    done = Event()

    def read() -> int:
        looks = 0
        while not done.is_set():
            assert 0 == store.count(Plan) % 2
            assert 0 == sum(1 for _ in store.iterate(Plan)) % 2
            looks += 1
        return looks

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for number in range(40):
            with store.transaction():
                store.create(Plan(f"{number}-a"))
                store.create(Plan(f"{number}-b"))
        done.set()
        assert all(reader.result() for reader in readers)


def test_a_reader_waits_for_no_writer(store: Store) -> None:
    """While a transaction is open, another thread reads what was committed before it."""
    store.create(Plan("a"))
    with store.transaction(), ThreadPoolExecutor(1) as pool:
        store.create(Plan("b"))
        assert ["a"] == pool.submit(ids, store).result(10)
        assert pool.submit(store.get, Plan, "b").result(10) is None
    assert ["a", "b"] == ids(store)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_uses_the_store_of_its_parent(store: Store) -> None:
    """A forked child writes and reads through connections of its own; the parent sees it."""
    store.create(Plan("a"))
    with store.engine.connect() as connection:
        inherited = connection.connection.driver_connection
    child = os.fork()
    if child == 0:
        code = 1
        try:
            store.create(Plan("child"))
            with store.engine.connect() as connection:
                own = connection.connection.driver_connection is not inherited
            code = 0 if own and ids(store) == ["a", "child"] else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert 0 == os.waitstatus_to_exitcode(status)
    assert ["a", "child"] == ids(store)
    store.create(Plan("parent"))
    assert ["a", "child", "parent"] == ids(store)
    check_cache(store.path)


def test_a_store_that_was_copied_is_a_store_of_its_own(store: Store, tmp_path: Path) -> None:
    """A copied directory opens, cache included, and is fresh, though every file is another."""
    store.create(Plan("a"))
    store.close()
    shutil.copytree(store.path, tmp_path / "copy")
    with Store.open(tmp_path / "copy", types=[Plan], refresh=False) as copy:
        assert not copy.is_stale()
        copy.create(Plan("b"))
        assert ["a", "b"] == ids(copy)
    assert 1 == len(log_path(store.path).read_bytes().splitlines())
