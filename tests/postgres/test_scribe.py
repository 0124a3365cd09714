"""`taskstore scribe` from a shell, with applications that have no store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, text

from tests.postgres.clones import cloned

ROOT = Path(__file__).parents[2]
MODELS = "tests.postgres.models:MIRRORS"


@pytest.fixture
def url(new_database: Callable[[], URL], tmp_path: Path) -> URL:
    """A database with outbox and triggers, whose logs are in the directory `store`."""
    url = new_database()
    with cloned(url, tmp_path / "store") as clone:
        clone.store.sync()
    return url


def _command(url: URL, folder: Path, *words: str) -> list[str]:
    program = [sys.executable, "-m", "taskstore", "scribe", MODELS]
    return [*program, "--url", url.render_as_string(), "--store", str(folder), *words]


def _run(url: URL, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(url, folder, *words),
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _write(url: URL, id: str) -> None:
    """Write a task as an application would that knows nothing of us."""
    engine: Engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tasks (id, title) VALUES (:id, '')"), {"id": id})
    engine.dispose()


def _ids(folder: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (folder / "tasks.jsonl").read_text().splitlines()]


def test_once_writes_what_is_there(url: URL, tmp_path: Path) -> None:
    """With --once, what was committed is in the log when it exits; status says what waits."""
    folder = tmp_path / "store"
    _write(url, "a")
    before = _run(url, folder, "--status", "--json", "--max-lag", "0")
    assert 1 == before.returncode, before.stderr
    found = json.loads(before.stdout)
    assert (1, []) == (found["rows"], found["problems"])
    assert found["place"].endswith(str(folder))
    run = _run(url, folder, "--once")
    assert 0 == run.returncode, run.stderr
    assert ["a"] == _ids(folder)
    after = _run(url, folder, "--status")
    assert 0 == after.returncode
    assert "waiting: 0 rows" in after.stdout


@contextmanager
def _running(url: URL, folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        _command(url, folder, "--interval", "0.05"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        assert "ready" in said, said + process.stderr.read()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def _soon(is_so: Callable[[], Any]) -> None:
    """Wait until something is so."""
    import time

    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_goes_on_until_it_is_told_to_stop(url: URL, tmp_path: Path) -> None:
    """It writes what applications commit, projects what git brings, and ends on SIGTERM."""
    folder = tmp_path / "store"
    engine = create_engine(url)
    with _running(url, folder) as process:
        _write(url, "a")
        _soon(lambda: (folder / "tasks.jsonl").exists() and _ids(folder) == ["a"])
        with (folder / "tasks.jsonl").open("a") as file:
            file.write('{"id":"git","title":"pulled","updated_at":5}\n')

        def pulled() -> bool:
            with engine.connect() as connection:
                found = connection.execute(text("SELECT 1 FROM tasks WHERE id = 'git'"))
                return found.first() is not None

        _soon(pulled)
        _write(url, "last")
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(60)
    assert ["a", "git", "last"] == _ids(folder)
    engine.dispose()


def test_another_clone_takes_over(url: URL, tmp_path: Path) -> None:
    """A second directory is refused, until it is told to have the logs."""
    other = tmp_path / "other"
    other.mkdir()
    _write(url, "a")
    refused = _run(url, other, "--once")
    assert 3 == refused.returncode
    assert str(tmp_path / "store") in refused.stderr
    taken = _run(url, other, "--once", "--take-over")
    assert 0 == taken.returncode, taken.stderr
    assert ["a"] == _ids(other)
    assert 3 == _run(url, tmp_path / "store", "--once").returncode


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--once", "--status"], 2, "exclude each other"),
        (["--url", "sqlite://"], 2, "SQLite needs none"),
        (["--url", "postgresql+psycopg://nobody@/none?host=/nowhere"], 3, "cannot be used"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, words: list[str], status: int, message: str
) -> None:
    """Each wrong call ends with its exit status and a message without a traceback."""
    (tmp_path / "store").mkdir()
    run = _run(URL.create("postgresql+psycopg"), tmp_path / "store", *words)
    assert status == run.returncode
    assert message in run.stderr
    assert "Traceback" not in run.stderr
