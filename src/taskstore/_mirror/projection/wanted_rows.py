"""Decides what to do with a row of a mirrored table, given its line in the log."""

from __future__ import annotations

from collections.abc import Container

import attrs

from taskstore._cache.rows.records import Stored
from taskstore._mirror.model.shape import Mirror, Row
from taskstore._mirror.projection.wanted import WantedRow

REMOVED = "a migration has removed the row, and its record is to follow"
"""Why a row is missing whose line lives, after an upgrade and before that is logged."""

DIFFERS = "differs from its line"


def wanted_row(
    mirror: Mirror,
    id: str,
    stored: Stored | None,
    current: Row | None,
    *,
    is_given_up: bool,
    is_strange: bool,
) -> WantedRow | None:
    """Return what to do with a row; None to leave it as it is.

    Args:
        mirror: Whose row it is.
        id: Its id.
        stored: What the log says of it; None for nothing.
        current: The row that is there; None for none.
        is_given_up: Whether a row of which the log says nothing goes.
        is_strange: Whether the log has never held the row that is there.

    Raises:
        ValueError: Its line does not fit the model, or the row is one that the log has never held,
            and differs. The message is the reason alone.
    """
    if stored is not None and stored.line is not None:
        row = mirror.decoded(id, stored.line)
        if current is not None:
            is_alike = current.shape is row.shape
            if is_alike and equals(mirror, row, current):
                return None
            if is_strange and not (is_alike and _is_older(mirror, row, current)):
                raise ValueError(kept(mirror, DIFFERS))
        return WantedRow(mirror, id, row, current)
    if current is None or (stored is None and (is_strange or not is_given_up)):
        return None
    if is_strange:
        raise ValueError(kept(mirror, "was deleted elsewhere"))
    return WantedRow(mirror, id, None, current)


def equals(mirror: Mirror, row: Row, current: Row) -> bool:
    """Return whether a row is what a line asks for, as far as the line says something."""
    if current.flaw or not _same_values(row, current):
        return False
    if mirror.version is None or row.version == current.version:
        return True
    try:
        return mirror.order_of(row.version) == mirror.order_of(current.version)
    except ValueError:
        return False


def what_differs(target: WantedRow) -> WantedRow:
    """Return an update that names its key and what it changes; anything else as it is."""
    row, current = target.row, target.current
    if target.kind != "update" or row is None or current is None or current.flaw:
        return target
    values = {
        name: value
        for name, value in row.values.items()
        if name in target.mirror.key or not _is_same(row, current, name)
    }
    return attrs.evolve(target, row=attrs.evolve(row, values=values))


def differs(target: WantedRow, names: Container[str]) -> bool:
    """Return whether an update would change one of some attributes."""
    row, current = target.row, target.current
    if row is None or current is None or current.flaw or row.shape is not current.shape:
        return False
    return any(name in names and not _is_same(row, current, name) for name in row.values)


def _same_values(row: Row, current: Row) -> bool:
    return all(_is_same(row, current, name) for name in row.values)


def _is_same(row: Row, current: Row, name: str) -> bool:
    try:
        return row.shape.fields[name].codec.same(row.values[name], current.values[name])
    except ValueError:
        return False


def _is_older(mirror: Mirror, row: Row, current: Row) -> bool:
    """Return whether a row is what its line says, under an older version."""
    if current.flaw or not _same_values(row, current):
        return False
    try:
        asked, there = mirror.order_of(row.version), mirror.order_of(current.version)
    except ValueError:
        return False
    return there is None or (asked is not None and there < asked)


def is_newer(
    mirror: Mirror, stored: Stored | None, current: Row | None, *, or_equal: bool = False
) -> bool:
    """Return whether a row is newer than what the log says of it; with `or_equal`, or as new."""
    if stored is None or current is None or mirror.version is None:
        return False
    try:
        there = mirror.order_of(current.version)
    except ValueError:
        return True
    return there is not None and there + or_equal > stored.order_us


def kept(mirror: Mirror, what: str) -> str:
    """Return why a row is left as it is, and what to do."""
    return (
        f"the row that is there was never logged here, {what}, and is kept: "
        f"store.export({mirror.name}) writes it, store.sync(prune=True) takes what the logs say"
    )
