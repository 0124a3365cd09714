"""The next lines of rows in the usual case, with few steps for each row.

Most rows have values that are as plain as SQLite stores them, and most lines were written by this
library. Such a row is compared with its last line at once. For all others the caller takes the
general way, which has the same outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from taskstore._mirror.model.shape import Field, Shape
from taskstore._mirror.tables.encoding import changed_value, new_value, own_fields

_SAME = object()


class _Part(NamedTuple):
    """A value that is more than plain."""

    place: int
    name: str
    key: str
    reader: Callable[[Any], Any] | None
    field: Field


class UsualLines:
    """Makes the fields of next lines.

    Args:
        shape: The shape of the rows.
        readers: What reads each of its columns; None for nothing.
    """

    def __init__(self, shape: Shape, readers: Sequence[Callable[[Any], Any] | None]) -> None:
        places = {name: place for place, name in enumerate(shape.fields)}
        self._order: list[str] = []
        self._odd: list[_Part] = []
        plain: list[tuple[int, str, type]] = []
        for name, key, kind, field in shape.parts:
            place = places[name]
            reader = readers[place]
            self._order.append(key)
            if kind in (str, int) and reader is None:
                assert kind is not None
                plain.append((place, key, kind))
            else:
                self._odd.append(_Part(place, name, key, reader, field))
        self._kinds = [kind for _, _, kind in plain]
        self._keys = [key for _, key, _ in plain]
        self._values = _getter([place for place, _, _ in plain])
        self._before = _getter(self._keys)
        self._known: dict[tuple[type, ...], bool] = {}

    def next(self, id: str, values: Sequence[Any], line: str) -> dict[str, Any] | None:
        """Return the fields of the next line, with the version as it was.

        Args:
            id: Of the record.
            values: Of the columns of the shape.
            line: The last line.

        Returns:
            None if this is not the usual case; that is so if nothing has changed.
        """
        previous = own_fields(line)
        if previous is None or previous.get("id") != id:
            return None
        try:
            before = self._before(previous)
            now = self._values(values)
            if not (self._are_plain(now) and self._are_plain(before)):
                return None
            changed = {} if now == before else dict(zip(self._keys, now, strict=True))
            for place, name, key, reader, field in self._odd:
                value = values[place] if reader is None else reader(values[place])
                given = changed_value(name, field, value, previous[key], _SAME)
                if given is not _SAME:
                    changed[key] = given
        except Exception:  # noqa: BLE001 - the general way says what is wrong
            return None
        return {**previous, **changed} if changed else None

    def new(self, id: str, values: Sequence[Any]) -> dict[str, Any] | None:
        """Return the fields of a first line, without the version; None as `next` does."""
        now = self._values(values)
        if not self._are_plain(now):
            return None
        found = dict(zip(self._keys, now, strict=True))
        if not self._odd:
            return {"id": id, **found}
        try:
            for place, name, key, reader, field in self._odd:
                value = values[place] if reader is None else reader(values[place])
                found[key] = new_value(name, field, value)
        except Exception:  # noqa: BLE001 - the general way says what is wrong
            return None
        return {"id": id, **{key: found[key] for key in self._order}}

    def _are_plain(self, values: tuple[Any, ...]) -> bool:
        kinds = tuple(map(type, values))
        known = self._known.get(kinds)
        if known is None:
            pairs = zip(kinds, self._kinds, strict=True)
            known = self._known[kinds] = all(one in (kind, type(None)) for one, kind in pairs)
        return known


def _getter(places: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    if len(places) > 1:
        return itemgetter(*places)
    if not places:
        return lambda _: ()
    [only] = places
    return lambda values: (values[only],)
