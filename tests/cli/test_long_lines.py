"""A log with a line that is longer than the memory of whoever reads it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

MEMORY = 240 * 1024 * 1024
"""How much memory a command gets, in bytes: enough for all else."""

HUGE = 256 * 1024 * 1024
"""More than that, and no more, for all of it is read."""
FIRST = b'{"id":"a","updated_at":1,"x":1}\n'
LAST = b'\n{"id":"a","updated_at":2,"x":2}\n{"id":"a","updated_at":3,"x":3}\n'


def write_log(path: Path, size: int) -> None:
    """Write a log with a line of so many zeros, which take no room on the disk."""
    path.write_bytes(FIRST)
    os.truncate(path, len(FIRST) + size)
    with path.open("ab") as log:
        log.write(LAST)


def run(folder: Path, *call: str) -> subprocess.CompletedProcess[str]:
    """Run a command in little memory."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "taskstore", *call],
        cwd=folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        capture_output=True,
        check=False,
        encoding="utf-8",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a store whose log has a line that is longer than the memory."""
    (tmp_path / ".taskstore").mkdir()
    write_log(tmp_path / ".taskstore/plans.jsonl", HUGE)
    return tmp_path


@pytest.mark.parametrize(
    ("call", "status", "said"),
    [
        ("list plans", 0, "a\t3"),
        ("verify", 0, "plans.jsonl:2: longer than 16 MiB"),
        ("history plans a", 0, "4\t3\tx=3"),
        ("log a", 0, "line 4, not committed"),
        ("watch --once --since 0", 0, "problem\tplans\tlonger than 16 MiB"),
        ("watch --once", 0, f"cursor: plans:{len(FIRST) + HUGE + len(LAST)}:"),
        ("import others .taskstore/plans.jsonl", 1, "plans.jsonl:2: longer than 16 MiB"),
        ("diff --textconv .taskstore/plans.jsonl", 0, "(unusable) longer than 16 MiB"),
        ("add plans id=b", 0, "b"),
    ],
)
def test_a_line_without_end_is_a_problem_and_no_more(
    folder: Path, call: str, status: int, said: str
) -> None:
    """Whatever reads a log passes over a line longer than the memory, and serves the others."""
    done = run(folder, *call.split())
    assert status == done.returncode, done.stderr
    assert said in done.stdout + done.stderr


def test_a_merge_of_a_line_without_end_is_refused(folder: Path) -> None:
    """The merge driver names the line, and leaves the log as it was."""
    log = folder / ".taskstore/plans.jsonl"
    (folder / "base").write_bytes(FIRST)
    done = run(folder, "merge", "base", str(log), "base", ".taskstore/plans.jsonl")
    assert 2 == done.returncode
    assert "line 2 is longer than 16 MiB: shorten the line, or merge by hand" in done.stderr
    assert len(FIRST) + HUGE + len(LAST) == log.stat().st_size


def test_a_compaction_keeps_a_line_without_end(tmp_path: Path) -> None:
    """A compaction copies a line that is larger than the memory, byte for byte."""
    (tmp_path / ".taskstore").mkdir()
    log = tmp_path / ".taskstore/plans.jsonl"
    write_log(log, MEMORY)
    done = run(tmp_path, "compact", "plans")
    assert 0 == done.returncode, done.stderr
    data = log.read_bytes()
    assert bytes(MEMORY) == data[:MEMORY]
    assert b'\n{"id":"a","updated_at":3,"x":3}\n' == data[MEMORY:]
