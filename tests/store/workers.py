"""What the tests run in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from taskstore import ConditionFailedError, StaleRecordError, Store, where
from tests.store.plans import Plan

TIMEOUT = 60
"""How long a process may take, in seconds."""

server = multiprocessing.get_context("forkserver")
"""Starts processes that share nothing with this one, and need not import the library first."""

server.set_forkserver_preload(["tests.writing.racers"])


def run_all(work: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Run a function in one process for each tuple of arguments, all started from one line.

    Each gets a barrier first, which all of them pass at the same moment.
    """
    arguments = list(arguments)
    results = server.SimpleQueue()
    barrier = server.Barrier(len(arguments), timeout=TIMEOUT)
    processes = [
        server.Process(target=_report, args=(results, work, barrier, *given)) for given in arguments
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(TIMEOUT)
        assert [0] * len(processes) == [process.exitcode for process in processes]
        return [results.get() for _ in processes]
    finally:
        for process in processes:
            process.kill()
            process.join()
            process.close()
        results.close()


def _report(results: Any, work: Callable[..., Any], barrier: Barrier, *arguments: Any) -> None:
    results.put(work(barrier, *arguments))


def create_many(barrier: Barrier, directory: Path, worker: int, count: int) -> int:
    """Open a store and create records one by one."""
    barrier.wait()
    with Store.open(directory, types=[Plan]) as store:
        for number in range(count):
            store.create(Plan(f"{worker}-{number}", status="active"))
        return store.count(Plan)


def claim(barrier: Barrier, directory: Path, worker: int, count: int) -> int:
    """Claim each of some records, and return how many this process has won."""
    with Store.open(directory, types=[Plan]) as store:
        barrier.wait()
        won = 0
        for number in range(count):
            try:
                store.patch(Plan, f"p{number}", where("status") == "open", status=f"w{worker}")
            except ConditionFailedError:
                continue
            won += 1
    return won


def update_same(barrier: Barrier, directory: Path, worker: int, plan: Plan) -> bool:
    """Update a record that was read before all of them began; say whether it was accepted."""
    with Store.open(directory, types=[Plan]) as store:
        barrier.wait()
        plan.title = f"of {worker}"
        try:
            store.update(plan)
        except StaleRecordError:
            return False
    return True


def increment(barrier: Barrier, directory: Path, worker: int, count: int) -> int:
    """Count a record's priority up by reading, changing and trying again."""
    retries = 0
    with Store.open(directory, types=[Plan]) as store:
        barrier.wait()
        for _ in range(count):
            while True:
                plan = store.get_one(Plan, "a")
                plan.priority += 1
                try:
                    store.update(plan)
                    break
                except StaleRecordError:
                    retries += 1
    return retries


def open_and_count(barrier: Barrier, directory: Path) -> int:
    """Open a store and count its records."""
    barrier.wait()
    with Store.open(directory, types=[Plan]) as store:
        return store.count(Plan, where(Plan.status) == "active")


def in_turn(barrier: Barrier, directory: Path, what: str, count: int) -> str:
    """Create, count or compact so many times."""
    with Store.open(directory, types=[Plan]) as store:
        barrier.wait()
        seen = 0
        for number in range(count):
            if what == "create":
                store.save(Plan("hot", f"{number}"))
                store.delete(Plan, "hot")
                store.create(Plan(f"{os.getpid()}-{number}"))
            elif what == "compact":
                store.compact(Plan, keep_tombstones_ms=0)
            else:
                now = store.count(Plan, where("id") != "hot")
                assert now >= seen
                seen = now
    return what
