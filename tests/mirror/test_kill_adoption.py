"""An adoption is killed at any of its steps: a second try ends well, and gives each row one id."""

from __future__ import annotations

import multiprocessing
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.crash.killing import server
from tests.crash.scene import LONG
from tests.mirror.adoption import ROWS, adopt_until, filled, ids
from tests.mirror.clones import cloned
from tests.mirror.graphs import MIRRORS, Graph, graph, numbers, synced

LOGS = ("persons", "books", "tags", "loans", "covers", "book_tags")
STRIDE = 1 if LONG else 40
MOST = 2000
"""More steps than an adoption has."""


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_killed_at_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No row is lost, none is logged under two ids, and the ids are those of any other try."""
    first = random.randrange(STRIDE) + 1
    with capsys.disabled():
        print(f"\nadoption is killed at step {first} and each {STRIDE} steps from there")
    server.set_forkserver_preload(["tests.mirror.adoption"])
    before = filled(tmp_path / "before")
    with cloned(shutil.copytree(before, tmp_path / "whole"), MIRRORS, Graph) as whole:
        held, known, numbered = graph(whole), set[tuple[str, str]](), numbers(whole)
        assert ROWS == whole.store.export()
        known = ids(whole)
    assert ROWS == len(known)
    for step in range(first, MOST, STRIDE):
        folder = shutil.copytree(before, tmp_path / f"step {step}")
        process = server.Process(target=adopt_until, args=(folder, step))
        process.start()
        process.join()
        with cloned(folder, MIRRORS, Graph) as again:
            again.store.export()
            synced(again)
            assert known == ids(again), f"step {step}"
            assert (held, numbered) == (graph(again), numbers(again)), f"step {step}"
            lines = Counter((name, line["id"]) for name in LOGS for line in again.lines(name))
            assert {1} == set(lines.values()), f"step {step}"
        shutil.rmtree(folder)
        if process.exitcode == 0:
            return
    raise AssertionError("the adoption never came to its end")
