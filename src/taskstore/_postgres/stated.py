"""Reads evolutions.jsonl, again whenever the file has changed."""

from __future__ import annotations

import time

import attrs

from taskstore._format.names import EVOLUTIONS
from taskstore._log.evolutions import read_stated
from taskstore._log.layout import Layout

_SETTLED_NS = 2_000_000_000
"""The age of a file, in nanoseconds, from which on its times tell whether it has changed."""


@attrs.define
class StatedEvolutions:
    """The evolutions of one directory.

    Args:
        layout: The directory.
    """

    layout: Layout
    _facts: tuple[int, ...] | None = attrs.field(default=None, init=False)
    _lines: dict[str, str] = attrs.field(factory=dict, init=False)

    def lines(self) -> dict[str, str]:
        """Return the lines of the evolutions, by id.

        Raises:
            StoreAccessError: They cannot be read.
        """
        found = self.layout.stat_log(EVOLUTIONS)
        if found is None:
            return {}
        facts = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if facts != self._facts or time.time_ns() - found.st_mtime_ns < _SETTLED_NS:
            stated = read_stated(self.layout)
            self._facts, self._lines = facts, {id: raw.decode() for id, raw in stated.items()}
        return self._lines
