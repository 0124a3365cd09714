"""Problems: lines and files of a store that cannot be used."""

from __future__ import annotations

import attrs

from taskstore._text import visible


@attrs.frozen
class Problem:
    """A line, a record or a whole file that cannot be used. It is kept and not served.

    Attributes:
        collection: Its collection; None for a file that is not a log.
        path: The file.
        line: The number of the line, from 1; None for a whole file, or a record of it.
        reason: The reason, without the place.
        id: The record's id, if it could be read.
    """

    collection: str | None
    path: str
    line: int | None
    reason: str
    id: str | None = None

    def __str__(self) -> str:
        """Return the problem on one line, with control characters as escapes."""
        if self.line is not None:
            place = f"{self.path}:{self.line}"
        elif self.id is not None:
            place = f"{self.path}: {self.id}"
        else:
            place = self.path
        return visible(f"{place}: {self.reason}")
