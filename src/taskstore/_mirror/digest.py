"""What a mirrored model looks like, in a few characters: whether it is still what it was."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from taskstore._format.lines import encode_value

if TYPE_CHECKING:
    from taskstore._mirror.shape import Mirror

__all__ = ["digest_of"]


def digest_of(mirror: Mirror) -> str:
    """Return a digest of the attributes of a mirrored model, and of how their values travel."""
    shapes = [
        [
            repr(shape.identity),
            [table.name for table in shape.tables],
            sorted(
                [
                    field.name,
                    field.column.name,
                    type(field.column.type).__qualname__,
                    field.codec.kind,
                    field.codec.python,
                ]
                for field in shape.fields.values()
            ),
        ]
        for shape in mirror.shapes
    ]
    version = mirror.version.name if mirror.version is not None else ""
    told = encode_value([list(mirror.key), version, sorted(shapes)])
    return hashlib.sha256(told).hexdigest()[:32]
