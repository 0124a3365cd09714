"""The statements for a whole collection, as text: `statements` makes the same of no filters.

Commands run them without SQLAlchemy, on a cache whose tables have no prefix.
"""

from __future__ import annotations

COUNT = "SELECT count(*) AS count_1 \nFROM records \nWHERE records.collection = ?"
"""How many records a collection has."""

_ROWS = (
    "SELECT records.data_json \nFROM records \nWHERE records.collection = ? "
    "ORDER BY records.updated_at_us DESC, records.id ASC"
)
_WINDOW = "\n LIMIT ? OFFSET ?"


def rows_sql(limit: int | None, offset: int | None) -> tuple[str, tuple[int, ...]]:
    """Return the statement for the lines of a collection, newest first.

    Args:
        limit: At most so many.
        offset: How many to skip first.

    Returns:
        The text, and the parameters that follow the collection's name.
    """
    if limit is None and offset is None:
        return _ROWS, ()
    return _ROWS + _WINDOW, (-1 if limit is None else limit, offset or 0)
