"""Find the version that last changed each field of a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from taskstore._diff.changes import MISSING, same_value

_OWN = ("id", "updated_at", "deleted")


@attrs.frozen
class Fields:
    """The fields of a version, and what it was made from.

    Attributes:
        data: The fields; None for a tombstone.
        sources: The positions of the versions that it was made from.
    """

    data: dict[str, Any] | None
    sources: tuple[int, ...]


def blame_fields(versions: Sequence[Fields]) -> dict[str, int]:
    """Return for each field of the last version the version that gave it its value.

    A value that a merge took from one of its sides comes from that side. Each field counts as a
    whole, also lists and objects.

    Args:
        versions: In the order of a replay; the last one is the record.
    """
    if not versions or versions[-1].data is None:
        return {}
    last = len(versions) - 1
    names = [name for name in versions[-1].data if name not in _OWN]
    return {name: _origin(versions, last, name) for name in names}


def _origin(versions: Sequence[Fields], position: int, name: str) -> int:
    value = _value(versions[position], name)
    while True:
        for source in versions[position].sources:
            if same_value(_value(versions[source], name), value):
                position = source
                break
        else:
            return position


def _value(version: Fields, name: str) -> Any:
    return MISSING if version.data is None else version.data.get(name, MISSING)
