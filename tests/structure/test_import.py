"""What importing the package costs and does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import taskstore

pytestmark = pytest.mark.public

# What most programs that import the package do not need.
HEAVY = {"alembic", "cattrs", "click", "mako", "pytest", "rich"}

LOADED = """
import json, sys, threading
before = list(threading.enumerate())
from taskstore import *
print(json.dumps({
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    "threads": len(threading.enumerate()) - len(before),
}))
"""

LISTENERS = """
import sqlalchemy.dialects.sqlite, sqlalchemy.orm
from sqlalchemy import event
heard, listen = [], event.api.listen
def spy(target, name, *rest, **more):
    if isinstance(target, type) and target.__module__.startswith("sqlalchemy"):
        heard.append(f"{target!r} {name}")
    return listen(target, name, *rest, **more)
event.api.listen = event.listen = spy
from taskstore import *
print(heard)
"""

# In processor time, which other programs on the machine hardly change; and without the search for
# circles, which would go through all that SQLAlchemy has made, at some time or other.
COST = """
import gc, time
gc.disable()
start = time.process_time()
import sqlalchemy.orm, msgspec
between = time.process_time()
from taskstore import Store, evolve, indexed, record, where
print(between - start, time.process_time() - between)
"""
ALLOWED = 0.75


def run(code: str, folder: Path) -> str:
    """The output of a fresh interpreter in an empty folder; it keeps what it compiles."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    assert "" == done.stderr
    return done.stdout


def test_the_package_is_loaded_when_it_is_used(tmp_path: Path) -> None:
    """Importing the package alone imports no other package."""
    code = LOADED.replace("from taskstore import *", "import taskstore")
    loaded = set(json.loads(run(code, tmp_path))["modules"])
    assert set() == loaded & (HEAVY | {"attrs", "filelock", "msgspec", "sqlalchemy"})


def test_the_plugin_for_pytest_loads_nothing_but_pytest(tmp_path: Path) -> None:
    """What every run of pytest loads imports no other package, and costs next to nothing."""
    code = LOADED.replace("from taskstore import *", "import taskstore.testing")
    loaded = set(json.loads(run(code, tmp_path))["modules"])
    assert set() == loaded & ((HEAVY - {"pytest"}) | {"attrs", "filelock", "msgspec", "sqlalchemy"})


def test_every_public_name_is_found() -> None:
    """Each public name is an attribute of the package, and listed by dir()."""
    assert [] == [name for name in taskstore.__all__ if not hasattr(taskstore, name)]
    assert set(taskstore.__all__) <= set(dir(taskstore))
    with pytest.raises(AttributeError, match=r"module 'taskstore' has no attribute 'stroe'"):
        taskstore.stroe  # type: ignore[attr-defined] # noqa: B018


def test_public_modules_are_attributes_of_the_package(tmp_path: Path) -> None:
    """The errors, the models and the migrations need no import of their own."""
    names = "taskstore.errors.TaskstoreError, taskstore.models.StoredRecord, taskstore.migrations"
    assert "" == run(f"import taskstore; {names}", tmp_path)


def test_the_import_loads_only_what_every_program_needs(tmp_path: Path) -> None:
    """Importing every public name imports no Alembic, cattrs, click, pytest or rich."""
    loaded = json.loads(run(LOADED, tmp_path))["modules"]
    assert set() == HEAVY & set(loaded)


def test_the_import_starts_and_writes_nothing(tmp_path: Path) -> None:
    """Importing every public name prints nothing, starts no thread and touches no file."""
    assert 0 == json.loads(run(LOADED, tmp_path))["threads"]
    assert [] == list(tmp_path.iterdir())


def test_the_import_listens_to_nothing_of_sqlalchemy(tmp_path: Path) -> None:
    """Importing every public name attaches no listener to SQLAlchemy's own classes."""
    assert "[]" == run(LISTENERS, tmp_path).strip()


def test_the_import_is_quick(tmp_path: Path) -> None:
    """Importing what programs use costs at most three quarters of sqlalchemy.orm and msgspec."""
    runs = [[float(part) for part in run(COST, tmp_path).split()] for _ in range(9)]
    base, cost = map(min, zip(*runs, strict=True))
    assert cost <= ALLOWED * base
