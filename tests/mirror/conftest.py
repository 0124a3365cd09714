"""Clones to test with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mirror.clones import Clone, cloned


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Clone]:
    """A clone."""
    with cloned(tmp_path / "one") as clone:
        yield clone


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Clone]:
    """Another."""
    with cloned(tmp_path / "two") as clone:
        yield clone
