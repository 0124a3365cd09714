"""The rows that several processes measure together."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from multiprocessing.context import SpawnContext
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.data import Plan, id_of, plan
from benchmarks.scene import Scene
from taskstore import Store, where

WRITERS = 8
HELD_S = 0.2
"""How long the writer beside the readers keeps each of its transactions open."""

_READS = 2000
_WAIT_S = 120.0


def eight_writers(scene: Scene) -> None:
    """Create records in eight processes at once."""
    _write_in(scene, WRITERS)


def many_writers(scene: Scene) -> None:
    """Create records in four times as many processes."""
    _write_in(scene, 4 * WRITERS)


def one_writer(scene: Scene) -> None:
    """Create as many records in one process."""
    _write_in(scene, 1)


def _write_in(scene: Scene, processes: int) -> None:
    directory = scene.new_store()
    each = 2 * scene.thousand // processes
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(processes + 1), spawn.Queue()
    workers = [
        _started(spawn, _write, directory, scene.size * (2 + at), each, barrier, answers)
        for at in range(processes)
    ]
    barrier.wait(_WAIT_S)
    with scene.timed():
        waits = [wait for _ in workers for wait in answers.get(timeout=_WAIT_S)]
    for worker in workers:
        worker.join()
    scene.facts["each"] = each * processes
    scene.facts["p50_ms"] = median(waits) * 1000
    scene.facts["p99_ms"] = quantiles(waits, n=100)[98] * 1000


def _write(directory: Path, first: int, count: int, barrier: Any, answers: Any) -> None:
    waits = []
    with Store.open(directory, types=[Plan]) as store:
        store.create(plan(first))
        barrier.wait(_WAIT_S)
        for at in range(count):
            start = time.perf_counter()
            store.create(plan(first + 1 + at))
            waits.append(time.perf_counter() - start)
        answers.put(waits)


def read_beside_a_writer(scene: Scene) -> None:
    """Read while another process keeps write transactions open, one after the other."""
    directory = scene.new_store()
    spawn = multiprocessing.get_context("spawn")
    ready, done = spawn.Event(), spawn.Event()
    writer = _started(spawn, _hold, directory, scene.size * 2, ready, done)
    assert ready.wait(_WAIT_S)
    try:
        _read(scene, directory)
    finally:
        done.set()
        writer.join()


def read_alone(scene: Scene) -> None:
    """Read the same alone."""
    _read(scene, scene.new_store())


def _hold(directory: Path, first: int, ready: Any, done: Any) -> None:
    with Store.open(directory, types=[Plan]) as store:
        while not done.is_set():
            first += 1
            with store.transaction():
                store.create(plan(first))
                ready.set()
                done.wait(HELD_S)


def _read(scene: Scene, directory: Path) -> None:
    """Get and list by turns, for five transactions of the writer at least."""
    chance = random.Random(scene.size)
    waits: list[float] = []
    count = min(_READS, scene.size)
    with Store.open(directory, types=[Plan]) as store:
        store.get(Plan, id_of(0))
        with scene.timed():
            while len(waits) < count or sum(waits) < HELD_S * 5:
                start = time.perf_counter()
                if len(waits) % 2:
                    store.get(Plan, id_of(chance.randrange(scene.size // 2)))
                else:
                    store.list(Plan, where(Plan.priority) > 5, limit=10)
                waits.append(time.perf_counter() - start)
    scene.facts["each"] = len(waits)
    scene.facts["p50_ms"] = median(waits) * 1000
    scene.facts["p99_ms"] = quantiles(waits, n=100)[98] * 1000
    scene.facts["longest_ms"] = max(waits) * 1000


def _started(spawn: SpawnContext, work: Callable[..., None], *arguments: Any) -> Any:
    process = spawn.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process
