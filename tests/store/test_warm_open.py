"""What an open costs when nothing has changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taskstore import Store
from tests.store.plans import Plan, listing

pytestmark = pytest.mark.public

WARM = """
import json, sys
from taskstore import Store, indexed, record, where

@record("plans")
class Plan:
    id: str
    title: str = ""
    status: str = indexed(default="draft")
    priority: int = indexed(default=0)
    updated_at: int = 0

with Store.open(sys.argv[1], types=[Plan], read_only="--read-only" in sys.argv) as store:
    count = store.count(Plan, where(Plan.status) == "draft")
    if "--read-only" not in sys.argv:
        store.create(Plan("by another process"))
print(json.dumps([count, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def run(directory: Path, *options: str) -> tuple[int, set[str]]:
    """Open a store in a fresh interpreter; return a count, and the packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", WARM, directory, *options],
        cwd=directory.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=True,
        text=True,
    )
    count, modules = json.loads(done.stdout)
    return count, set(modules)


def test_a_first_open_imports_no_alembic(directory: Path) -> None:
    """Nor does a process that makes a new store import Alembic."""
    count, modules = run(directory)
    assert 0 == count
    assert set() == modules & {"alembic", "mako"}
    with Store.open(directory, types=[Plan]) as store:
        assert 1 == store.count(Plan)


def test_a_warm_open_imports_no_alembic(directory: Path) -> None:
    """A process that opens, reads and writes a store that is current imports no Alembic."""
    with Store.open(directory, types=[Plan]) as store:
        store.create(Plan("a"))
    count, modules = run(directory)
    assert 1 == count
    assert set() == modules & {"alembic", "mako", "cattrs", "click", "rich"}
    with Store.open(directory, types=[Plan]) as store:
        assert 2 == store.count(Plan)


def test_a_warm_open_writes_nothing(directory: Path) -> None:
    """Opening, reading and closing a store that is current changes none of its tracked files."""
    with Store.open(directory, types=[Plan]) as store:
        store.create(Plan("a"))
    names = (".version", ".gitignore", "plans.jsonl")
    before = {name: listing(directory)[str(directory / name)] for name in names}
    with Store.open(directory, types=[Plan]) as store:
        assert 1 == store.count(Plan)
    after = {name: listing(directory)[str(directory / name)] for name in names}
    assert before == after
