"""What the tests of concurrency run in threads, in processes of their own and in forks."""

from __future__ import annotations

import os
import pickle
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.orm import sessionmaker

from taskstore import ConditionFailedError, StaleRecordError, Store, evolve, where
from taskstore.models import StoredRecord
from tests.store.plans import Plan


def race(barrier: Any, directory: Path, worker: int, plan: Plan) -> tuple[str, str]:
    """Update a version that all racers have read, and claim another plan: both outcomes."""
    with Store.open(directory, types=[Plan]) as store:
        return race_in(barrier, store, worker, plan)


def race_in(barrier: Any, store: Store, worker: int, plan: Plan) -> tuple[str, str]:
    """The same in a store that is open."""
    barrier.wait()
    updated = update_in(store, worker, plan)
    barrier.wait()
    return updated, patch_in(store, worker)


def update_in(store: Store, worker: int, plan: Plan) -> str:
    """Update a version; return the outcome."""
    try:
        store.update(evolve(plan, title=f"of {worker}"))
    except StaleRecordError as error:
        return type(error).__name__
    return "won"


def patch_in(store: Store, worker: int) -> str:
    """Claim a plan that is open; return the outcome."""
    try:
        store.patch(Plan, "b", where("status") == "open", status=f"of {worker}")
    except ConditionFailedError as error:
        return type(error).__name__
    return "won"


def commit_many(barrier: Any, directory: Path, worker: int, count: int) -> list[float]:
    """Create plans one by one; return how long each commit took, in seconds."""
    with Store.open(directory, types=[Plan]) as store:
        barrier.wait()
        return commit_in(store, worker, count)


def commit_in(store: Store, worker: int, count: int) -> list[float]:
    """The same in a store that is open."""
    latencies = []
    for number in range(count):
        start = time.perf_counter()
        store.create(Plan(f"{worker}-{number}"))
        latencies.append(time.perf_counter() - start)
    return latencies


def commit_rows(barrier: Any, directory: Path, worker: int, count: int) -> list[float]:
    """Create plans through an attached session of an application, and through the store."""
    with Store.open(directory, types=[Plan]) as store:
        sessions = sessionmaker(store.engine)
        store.attach(sessions)
        barrier.wait()
        for number in range(count):
            with sessions.begin() as session:
                session.add(StoredRecord.from_record(Plan(f"{worker}-{number}-row")))
            store.create(Plan(f"{worker}-{number}-call"))
    return []


def in_child(work: Callable[[], Any]) -> Any:
    """Run a function in a forked child, and return what it returned or raised."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            try:
                outcome: Any = work()
            except BaseException as error:  # noqa: BLE001 - the parent raises or expects it
                traceback.print_exc()
                outcome = error
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(pickle.dumps(outcome))
        finally:
            os._exit(0)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            return pickle.loads(pipe.read())
    finally:
        os.waitpid(child, 0)
