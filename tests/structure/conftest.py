"""The source tree as the structure tests read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.structure.modules import Module, modules_under


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    """Every module of the package, parsed."""
    return modules_under(Path(__file__).resolve().parents[2] / "src")
