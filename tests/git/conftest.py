"""Repositories to work on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from taskstore._git.run import PLACES
from tests.git.clones import Clone, new_clone


@pytest.fixture(autouse=True)
def _needs_git(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    # The settings of whoever runs the tests are not those under test.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A repository with a store of two records, all installed, in an awkward place."""
    return new_clone(tmp_path / 'the shop\'s "$HOME"')
