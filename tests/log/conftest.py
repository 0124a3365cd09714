"""A store directory, and file operations under control."""

from __future__ import annotations

from typing import Any

import pytest

from taskstore._log.layout import Layout
from tests.log.disk import Tap


@pytest.fixture
def layout(directory: Any) -> Any:
    """A new store directory."""
    layout = Layout(directory)
    layout.create()
    return layout


@pytest.fixture
def tap(monkeypatch: Any) -> Any:
    """File operations under control."""
    return Tap(monkeypatch)
