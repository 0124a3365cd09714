"""Progress on stderr, on a terminal, while something takes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from taskstore._text import visible
from taskstore.cli._output import to_terminal
from taskstore.cli._streams import unguarded

if TYPE_CHECKING:
    from rich.console import Console


T = TypeVar("T")

_PATIENCE = 1.0
"""How long something may take without a progress bar, in seconds."""

_TICK = 500
"""After how many items a progress bar is updated."""


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr, on a terminal, for what takes longer than a second.

    Yields:
        A function to call with the amount that is done and the total amount.
    """
    if not to_terminal(sys.stderr):
        yield lambda done, total: None
        return
    bar = _Bar(title)
    try:
        yield bar.update
    finally:
        bar.close()


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """Show on stderr, on a terminal, that work goes on whose length is unknown."""
    if not to_terminal(sys.stderr):
        yield
        return
    import threading

    shown = []

    def show() -> None:
        shown.append(_console().status(_unmarked(title)))
        shown[0].start()

    timer = threading.Timer(_PATIENCE, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        for status in shown:
            status.stop()


def ticked(items: Iterable[T], total: int, update: Callable[[int, int], None]) -> Iterator[T]:
    """Yield items, and report from time to time how many of them are done."""
    for done, item in enumerate(items, 1):
        yield item
        if done % _TICK == 0:
            update(done, total)


class _Bar:
    """A progress bar that appears after a delay."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._start = time.monotonic()
        self._bar: Any = None
        self._is_closed = False

    def update(self, done: int, total: int) -> None:
        if self._is_closed:
            # A store that stays open keeps reporting what it reads.
            return
        if self._bar is None:
            if time.monotonic() - self._start < _PATIENCE:
                return
            from rich.progress import Progress

            # Data stay on stdout while the bar is there.
            self._bar = Progress(console=_console(), transient=True, redirect_stdout=False)
            self._bar.add_task(_unmarked(self._title))
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total)

    def close(self) -> None:
        self._is_closed = True
        if self._bar is not None:
            self._bar.stop()


def _console() -> Console:
    from rich.console import Console

    return Console(file=unguarded(sys.stderr))


def _unmarked(title: str) -> str:
    """Return a title without control characters and markup of rich."""
    from rich.markup import escape

    return escape(visible(title))
