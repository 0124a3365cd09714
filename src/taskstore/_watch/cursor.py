"""How far each log has been read: the number of bytes, and their digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import attrs

from taskstore._format.names import check_collection_name
from taskstore.errors import CursorError, InvalidNameError

BEGINNING = "0"
"""The cursor before the first change."""

_DIGEST_DIGITS = 40
# Cursors of older versions have a checksum of 8 digits. It can be forged, so everything is read
# again from such a cursor.
_PLACE = re.compile(r"([^:]+):([0-9]{1,18}):([0-9a-f]{8}|[0-9a-f]{40})")


def digest_text(digest: hashlib._Hash) -> str:
    """Return the form of a SHA-256 in a cursor: half of it, which is still too long to forge."""
    return digest.hexdigest()[:_DIGEST_DIGITS]


@attrs.frozen
class Place:
    """A place in a log.

    Attributes:
        offset: In bytes from its beginning.
        digest: Of the bytes before it, as `digest_text` returns it.
    """

    offset: int = 0
    digest: str = digest_text(hashlib.sha256())


@attrs.frozen
class Cursor:
    """A place in each log; logs that are not named are read from the start."""

    places: Mapping[str, Place] = attrs.field(factory=dict)

    def __str__(self) -> str:
        if not self.places:
            return BEGINNING
        return ",".join(
            f"{name}:{place.offset}:{place.digest}" for name, place in sorted(self.places.items())
        )

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor in a text.

        Raises:
            CursorError: The text is not a cursor.
        """
        places: dict[str, Place] = {}
        if text == BEGINNING:
            return cls()
        if not isinstance(text, str):
            raise CursorError(text)
        for part in text.split(","):
            found = _PLACE.fullmatch(part)
            if found is None or found[1] in places:
                raise CursorError(text)
            name, offset, digest = found.groups()
            try:
                places[check_collection_name(name)] = Place(int(offset), digest)
            except InvalidNameError:
                raise CursorError(text) from None
        return cls(places)
