"""Clones to test with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mirror.clones import Clone, cloned
from tests.mirror.models import MIRRORS, Base


@pytest.fixture
def application() -> tuple[list[Any], Any]:
    """What is mirrored, and the base of its models; a module may have an application of its own."""
    return MIRRORS, Base


@pytest.fixture
def one(tmp_path: Path, application: tuple[list[Any], Any]) -> Iterator[Clone]:
    """A clone of the application."""
    with cloned(tmp_path / "one", *application) as clone:
        yield clone


@pytest.fixture
def two(tmp_path: Path, application: tuple[list[Any], Any]) -> Iterator[Clone]:
    """Another."""
    with cloned(tmp_path / "two", *application) as clone:
        yield clone
