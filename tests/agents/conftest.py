"""The sample store, for tests that need the SDK of the Model Context Protocol."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli import sample

# Who installs the tests' requirements has it.
collect_ignore_glob = ["test_*.py"] if find_spec("mcp_types") is None else []


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The directory of the sample store."""
    return sample.make(tmp_path)
