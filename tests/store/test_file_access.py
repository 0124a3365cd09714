"""Which files the store opens, and how much of them it reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskstore import Store, evolve
from tests.log.disk import OPERATIONS, Tap
from tests.store.plans import Plan, append

LIVE = """
import json, os, sys
from pathlib import Path
from taskstore import Store, record

directory = Path(sys.argv[1])
touched = []

def note(event, arguments):
    if event in ("open", "os.rename", "os.remove", "os.truncate", "os.link"):
        names = [os.fspath(name) for name in arguments[:2] if isinstance(name, (str, os.PathLike))]
        # SQLite locks parts of the cache and of its -shm, and nothing of its -wal.
        touched.extend(
            f"{event} {name}"
            for name in names
            if "taskstore.db" in name and not (event == "open" and name.endswith("-wal"))
        )

@record("plans")
class Plan:
    id: str
    title: str = ""
    updated_at: int = 0

Store.open(directory).close()
sys.addaudithook(note)
with Store.open(directory, types=[Plan]) as store:
    store.create_many([Plan(str(number)) for number in range(20)])
    with (directory / "plans.jsonl").open("ab") as log:
        log.write(b'{"id":"outside"}\\n')
    assert 21 == store.count(Plan)
    store.sync(force=True)
    with Store.open(directory, types=[Plan]) as other:
        other.update(Plan("3", "three"))
        other.compact(Plan)
        assert other.verify(repair=True).ok
    assert "three" == store.get_one(Plan, "3").title
print(json.dumps(touched))
"""

BLOCK = 64 * 1024
"""What the digest of a log is carried forward by, in bytes."""


def test_a_live_cache_is_opened_by_sqlite_alone(directory: Path) -> None:
    """No call opens, replaces or removes the cache file itself: closing it would drop its locks."""
    done = subprocess.run(
        [sys.executable, "-c", LIVE, str(directory)], capture_output=True, text=True, check=True
    )
    assert [] == json.loads(done.stdout)


def cost_of_calls(directory: Path, patch: pytest.MonkeyPatch, lines: int) -> list[str]:
    """The file operations of a few calls on a log of so many lines, with the bytes they read."""
    append(directory, *({"id": f"p{n:06}", "title": "x" * 100} for n in range(lines)))
    operations: list[str] = []
    with Store.open(directory, types=[Plan]) as store:
        # The first write finds out what the log ends with.
        store.create(Plan("first"))
        with patch.context() as context:
            tap = Tap(context, (*OPERATIONS, "read_at"))

            def note(_: int, name: str, arguments: Any) -> None:
                if name == "read_at":
                    # How much of the last block there is depends on the length of the log.
                    size = arguments[1]
                    name = f"{name} {'of a block' if 1 < size < BLOCK else size}"
                operations.append(name)

            tap.before = note
            store.create(Plan("new"))
            plan = store.get_one(Plan, "p000001")
            store.update(evolve(plan, title="other"))
            store.patch(Plan, "p000002", title="patched")
            store.delete(Plan, "p000003")
            tap.before = lambda *_: None
    return operations


def test_the_cost_of_a_write_does_not_grow_with_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write into 20,000 lines makes the same file calls as one into ten, and reads a block."""
    few, many = tmp_path / "few", tmp_path / "many"
    for directory in (few, many):
        Store.open(directory).close()
    expected = cost_of_calls(few, monkeypatch, 10)
    assert expected == cost_of_calls(many, monkeypatch, 20_000)
    assert 4 <= expected.count("write")
