"""A store directory, and file operations that can be watched, failed or cut off."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from taskstore._log import files
from taskstore._log.layout import Layout

OPERATIONS = (
    "open_file",
    "write",
    "pwrite",
    "sync",
    "sync_directory",
    "truncate",
    "replace",
    "unlink",
    "set_mtime",
)


@pytest.fixture
def layout(directory: Any) -> Any:
    """A new store directory."""
    layout = Layout(directory)
    layout.create()
    return layout


class Tap:
    """Calls `before(number, name, arguments)` ahead of every file operation."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.before: Callable[..., None] = lambda number, name, arguments: None
        for name in OPERATIONS:
            patch.setattr(files, name, self._wrap(name, getattr(files, name)))

    def _wrap(self, name: Any, real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            self.count += 1
            self.before(self.count, name, arguments)
            return real(*arguments)

        return call

    def fail(self, *numbers: Any, code: Any = errno.EIO) -> None:
        """Make the operations with these numbers fail, counted from now."""
        self.count = 0

        def before(number: Any, name: Any, arguments: Any) -> None:
            if number in numbers:
                raise OSError(code, f"injected into {name}")

        self.before = before


@pytest.fixture
def tap(monkeypatch: Any) -> Any:
    """File operations under control."""
    return Tap(monkeypatch)
