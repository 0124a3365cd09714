"""Records as tables: which fields are shown, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taskstore.cli._formats import write_rows
from taskstore.cli._output import to_terminal, with_moment

_SAMPLE = 200
_MOST = 7
_LONG = 80
"""From this number of characters on, a text is left out of a table with default columns."""


def write_records(
    records: Sequence[Mapping[str, Any]],
    columns: Sequence[str] | None,
    format: str | None = None,
    *,
    header: bool = True,
) -> None:
    """Write records to stdout as a table.

    Args:
        records: What to write.
        columns: The fields; None to choose some.
        format: "table" or "tsv"; None for the default.
        header: Whether tsv gets a line with the names.
    """
    if columns is None:
        columns = default_columns(records[:_SAMPLE])
    numbers = [
        name
        for name in columns
        if all(_is_number(record.get(name)) for record in records[:_SAMPLE])
    ]
    if format == "table" or (format is None and to_terminal()):
        records = [with_moment(record) for record in records]
    rows = ([record.get(name) for name in columns] for record in records)
    write_rows(columns, rows, format, header=header, numbers=numbers)


def default_columns(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the id and the first few short fields that most records have."""
    found: dict[str, int] = {}
    unfit = {"id", "updated_at", "created_at"}
    for record in records:
        for name, value in record.items():
            if isinstance(value, list | dict) or (isinstance(value, str) and _is_long(name, value)):
                unfit.add(name)
            elif value not in (None, ""):
                found[name] = found.get(name, 0) + 1
    common = [
        name for name, count in found.items() if name not in unfit and 2 * count >= len(records)
    ]
    return ["id", *common[: _MOST - 1]]


def _is_long(name: str, value: str) -> bool:
    # A title may be long: people look for it.
    return name not in ("title", "name") and ("\n" in value or len(value) > _LONG)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
