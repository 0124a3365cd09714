"""`compact --rewrite` writes records in today's shape."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskstore import Store
from taskstore._log.evolutions import newest_shapes
from taskstore._log.layout import Layout
from tests.evolution.test_store import NEW, OLD, append, evolve, folder, records

__all__ = ["folder"]

NEWER = {"id": "t-9", "label": "Ship it", "updated_at": 9000, "$revision": "r9"}
KILLED = """
import os, signal, sys
from taskstore import Store
from taskstore._log import compaction, files

def die(*values):
    os.kill(os.getpid(), signal.SIGKILL)

{point}
with Store.open(sys.argv[1]) as store:
    store.compact("tasks", rewrite=True)
"""
POINTS = {
    "while the new log is written": "files.write_all = die",
    "before it has the name": "files.exchange = files.replace = die",
    "after it has the name": "compaction._Rewrite._settle = die",
}


def lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log."""
    return list(map(json.loads, (folder / "tasks.jsonl").read_text().splitlines()))


def test_everything_is_written_in_todays_shape(folder: Path) -> None:
    """Records say the same and name today's revision; tombstones and what is newer stay."""
    append(folder, "tasks", NEWER)
    with Store.open(folder) as store:
        before = records(store)
        store.compact("tasks", rewrite=True, keep_tombstones_ms=10**15)
        assert [*({**NEW[id], "$revision": "r1"} for id in NEW), OLD[-1], NEWER] == lines(folder)
        assert before == records(store)
        assert store.verify().ok
        # "noted" where a log was written within the same tick of the clock as it was read.
        assert all(found.action in ("fresh", "noted") for found in store.sync())
        written = (folder / "tasks.jsonl").read_bytes()
        store.compact("tasks", rewrite=True, keep_tombstones_ms=10**15)
        assert written == (folder / "tasks.jsonl").read_bytes()
        evolve(folder, "r2", {"rename": {"name": "label"}}, after="r1")
        assert {"Ship it", "Sail it"} == {record["label"] for record in records(store).values()}
        assert store.verify().ok


def test_a_log_without_evolutions_keeps_its_bytes(tmp_path: Path) -> None:
    """Where nothing has evolved, a rewrite is a compaction."""
    (tmp_path / ".taskstore").mkdir()
    append(tmp_path / ".taskstore", "tasks", *OLD[:2])
    before = (tmp_path / ".taskstore" / "tasks.jsonl").read_bytes()
    with Store.open(tmp_path / ".taskstore") as store:
        store.compact("tasks", rewrite=True)
    assert before == (tmp_path / ".taskstore" / "tasks.jsonl").read_bytes()


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_leaves_one_log_or_the_other(folder: Path, point: str) -> None:
    """Wherever the process dies, the log is the old one or the new one, and says the same."""
    with Store.open(folder):
        before = lines(folder)
    program = KILLED.format(point=POINTS[point])
    done = subprocess.run([sys.executable, "-c", program, str(folder)], check=False)
    assert -signal.SIGKILL == done.returncode
    shape = newest_shapes(Layout(folder))["tasks"]
    after = [json.loads(shape.rewritten(json.dumps(line).encode())) for line in before[:2]]
    assert lines(folder) in (before, after)
    with Store.open(folder) as store:
        assert NEW == records(store)
        assert store.verify().ok
        store.compact("tasks", rewrite=True)
    assert after == lines(folder)
    assert [] == list(folder.glob("tasks.jsonl.*"))
