"""Output that is longer than the screen, shown in a pager."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

from taskstore.cli._output import to_terminal
from taskstore.cli._programs import Pager, start_pager
from taskstore.cli._streams import SafeStream, Stream


@contextmanager
def paged() -> Iterator[None]:
    """Show what a block writes to stdout in a pager, if it is longer than the screen.

    In a pipe, or if there is no pager, it is written as usual.
    """
    stdout = sys.stdout
    if not isinstance(stdout, SafeStream) or not to_terminal():
        yield
        return
    stream = _PagedStream(stdout.inner)
    sys.stdout = cast("TextIO", SafeStream(cast("TextIO", stream)))
    try:
        yield
    finally:
        sys.stdout = stdout
        stream.finish()


class _PagedStream(Stream):
    """A terminal that holds back text until it is known whether it fits on the screen."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        size = shutil.get_terminal_size()
        self._width, self._room = max(size.columns, 1), size.lines - 1
        self._held: list[str] = []
        self._is_held = True
        self._pager: Pager | None = None

    def write(self, text: str) -> int:
        """Write text, and return its length."""
        if self._is_held:
            self._held.append(text)
            self._room -= sum(1 + len(line) // self._width for line in text.split("\n")[:-1])
            if self._room < 0:
                self._release(start_pager())
        elif self._pager is not None:
            self._pager.write(text)
        else:
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the text that is not held back."""
        if not self._is_held and self._pager is None:
            super().flush()

    def finish(self) -> None:
        """Write the held-back text, or wait until the pager has ended."""
        if self._is_held:
            self._release(None)
        elif self._pager is not None:
            self._pager.finish()
        with suppress(BrokenPipeError):
            self.inner.flush()

    def _release(self, pager: Pager | None) -> None:
        self._pager, self._is_held = pager, False
        held, self._held = "".join(self._held), []
        if held:
            self.write(held)
