"""How far each log has been read: so many bytes, and their checksum."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from taskstore._format.names import check_collection_name
from taskstore.errors import InvalidNameError, TaskstoreError

__all__ = ["BEGINNING", "Cursor", "CursorError", "Place"]

BEGINNING = "0"
"""The cursor that is before everything."""

_PLACE = re.compile(r"([^:]+):([0-9]{1,18}):([0-9a-f]{8})")


class CursorError(TaskstoreError, ValueError):
    """A text that is no cursor."""

    cursor: str

    def __init__(self, cursor: str) -> None:
        super().__init__(
            f"{cursor[:80]!r} is no cursor: give one that `watch` has printed, or "
            f"{BEGINNING} for the beginning",
            cursor=cursor,
        )


@attrs.frozen
class Place:
    """A place in a log.

    Attributes:
        offset: in bytes from its beginning.
        checksum: the CRC-32 of the bytes before it.
    """

    offset: int = 0
    checksum: int = 0


@attrs.frozen
class Cursor:
    """A place in each log; logs that are not named are to be read from their beginning."""

    places: Mapping[str, Place] = attrs.field(factory=dict)

    def __str__(self) -> str:
        if not self.places:
            return BEGINNING
        return ",".join(
            f"{name}:{place.offset}:{place.checksum:08x}"
            for name, place in sorted(self.places.items())
        )

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor that a text is.

        Raises:
            CursorError: it is none.
        """
        places: dict[str, Place] = {}
        if text == BEGINNING:
            return cls()
        for part in text.split(","):
            found = _PLACE.fullmatch(part)
            if found is None:
                raise CursorError(text)
            name, offset, checksum = found.groups()
            try:
                places[check_collection_name(name)] = Place(int(offset), int(checksum, 16))
            except InvalidNameError:
                raise CursorError(text) from None
        return cls(places)
