"""A store directory, and file operations under control."""

from __future__ import annotations

from typing import Any

import pytest

from taskstore._log.layout import Layout
from tests.log.disk import Tap


@pytest.fixture
def layout(directory: Any) -> Any:
    """A new store directory, with a mark, as a store that is open has it."""
    layout = Layout(directory)
    layout.create()
    assert layout.mark.home
    return layout


@pytest.fixture
def tap(monkeypatch: Any) -> Any:
    """File operations under control."""
    return Tap(monkeypatch)
