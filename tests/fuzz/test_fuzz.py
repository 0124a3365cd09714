"""Mutations of every file of a store: only errors of ours, nothing false, nothing outside."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.scene import report, run

COUNT = int(os.environ.get("TASKSTORE_FUZZ", "150"))
"""How many mutations; `nox -s fuzz` tries 20,000."""


@pytest.mark.skipif(os.name == "nt", reason="timers and pipes of POSIX")
def test_no_mutation_of_a_file_is_believed_or_followed(tmp_path: Path, capsys: Any) -> None:
    """`list` equals the log or raises an error of ours, in time, and touches nothing outside."""
    seed = int(os.environ.get("TASKSTORE_FUZZ_SEED", random.randrange(2**32)))
    with capsys.disabled():
        print(f"\nfuzz: {COUNT} mutations, seed {seed}")
    failures = list(run(tmp_path, seed, range(COUNT)))
    assert [] == failures, report(failures, seed)
