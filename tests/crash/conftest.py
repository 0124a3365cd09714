"""Fixtures of the crash tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskstore import Store
from tests.crash.scene import Plan, Task
from tests.log.disk import OPERATIONS, Tap


@pytest.fixture
def tap(monkeypatch: Any) -> Tap:
    """File operations under control, those that only read too."""
    return Tap(monkeypatch, (*OPERATIONS, "read_at"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: Any) -> Path:
    """A closed store with two collections, to be copied."""
    path: Path = tmp_path_factory.mktemp("template") / ".taskstore"
    with Store.open(path, types=[Plan, Task]) as store:
        store.create_many([Plan("p1", "one"), Plan("p2", "two"), Plan("p3", "three")])
        store.create(Task("t1", "one"))
        store.update(Plan("p2", "again"))
        store.delete(Plan, "p3")
    return path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where a store may be whose syncs do not matter: in memory, where there is such a place."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path)
    yield Path(folder) / ".taskstore"
    shutil.rmtree(folder)
