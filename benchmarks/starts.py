"""The rows about programs that have just started: the first open, and single commands."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.data import COLLECTION, FIRST_MS, id_of, line, write_log
from benchmarks.scene import LOG, Scene, settled
from taskstore import Store

STARTS = 5
RECORDS = 2000
OPEN = "import sys; from taskstore import Store; Store.open(sys.argv[1])"


def _start(scene: Scene, *arguments: str, more: Mapping[str, str] | None = None) -> None:
    """Start Python as often as is counted, and add up the processor time of all starts."""
    command = [sys.executable, *arguments]
    env = {**os.environ, **(more or {})}
    # Programs are installed with their bytecode.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    starts = STARTS if scene.size >= RECORDS else 1
    for at in range(starts + 1):
        before = os.times()
        start = time.perf_counter()
        subprocess.run(command, env=env, cwd=scene.place, stdout=subprocess.DEVNULL, check=True)
        if at == 0:
            # It may have written the bytecode.
            continue
        scene.seconds += time.perf_counter() - start
        after = os.times()
        scene.cpu += after.children_user - before.children_user
        scene.cpu += after.children_system - before.children_system
    scene.facts["each"] = starts


def first_open(scene: Scene) -> None:
    """Import the library and open a store whose cache is in sync."""
    _start(scene, "-c", OPEN, str(_small_store(scene)))


def import_orm(scene: Scene) -> None:
    """Import what every program with an ORM imports."""
    _start(scene, "-c", "import sqlalchemy.orm")


def get_command(scene: Scene) -> None:
    """Print a record."""
    _small_store(scene)
    _start(scene, "-m", "taskstore", "get", COLLECTION, id_of(5))


def count_command(scene: Scene) -> None:
    """Count the records that pass a filter."""
    _small_store(scene)
    _start(scene, "-m", "taskstore", "list", COLLECTION, "--where", "status=active", "--count")


def status_command(scene: Scene) -> None:
    """Print what a store has."""
    _small_store(scene)
    _start(scene, "-m", "taskstore", "status")


def complete_command(scene: Scene) -> None:
    """Complete an id."""
    _small_store(scene)
    words = f"taskstore get {COLLECTION} {id_of(5)[:-2]}"
    more = {"_TASKSTORE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "3"}
    _start(scene, "-m", "taskstore", more=more)


def import_few(scene: Scene) -> None:
    """Import what such a command needs at the least."""
    _start(scene, "-c", "import click, sqlite3, msgspec")


def _small_store(scene: Scene) -> Path:
    """A store of a few records that is in sync."""
    directory = scene.place / ".taskstore"
    directory.mkdir()
    write_log(directory / LOG, (line(at, 0, FIRST_MS + at) + "\n" for at in range(RECORDS)))
    settled(directory)
    with Store.open(directory):
        pass
    return directory
