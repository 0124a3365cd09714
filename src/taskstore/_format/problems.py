"""What was found in a store that cannot be served."""

from __future__ import annotations

import attrs

from taskstore._text import visible


@attrs.frozen
class Problem:
    """A line, or a whole file, that is left where it is and not served.

    Attributes:
        collection: The collection it belongs to; None for a file that is none.
        path: The file.
        line: The line's number, from 1; None when the whole file is meant.
        reason: What is wrong, without the place.
        id: The record's id, where one could be read.
    """

    collection: str | None
    path: str
    line: int | None
    reason: str
    id: str | None = None

    def __str__(self) -> str:
        """Say it on one line, with control characters as escapes."""
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return visible(f"{place}: {self.reason}")
