"""A folder with the sample store, and the corpus."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli import sample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds the sample store."""
    sample.make(tmp_path)
    return tmp_path


@pytest.fixture
def corpus(repository_root: Path) -> Path:
    """A real issue log; TASKSTORE_CORPUS names its folder where it is not beside the checkout."""
    beside = repository_root.parent / "shared" / "corpus"
    path = Path(os.environ.get("TASKSTORE_CORPUS", beside)) / "issues.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path
