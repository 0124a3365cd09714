"""The mirrors of one store, found by class, table and collection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs
from sqlalchemy.orm import Mapper

from taskstore._format.lines import encode_value
from taskstore._mirror.model.links import Links
from taskstore._store.context import StoreContext

if TYPE_CHECKING:
    from taskstore._mirror.model.shape import Mirror, Shape


_LENGTH = 32
"""The characters of a digest without the names."""


def digest_of(mirror: Mirror) -> str:
    """Return a digest of the attributes of a mirrored model, and of how their values travel.

    Their names follow it as a JSON array, for `attributes_in`.
    """
    shapes = [
        [
            repr(shape.identity),
            [table.name for table in shape.tables],
            sorted(
                [
                    field.key,
                    field.column.name,
                    type(field.column.type).__qualname__,
                    field.codec.kind,
                    field.codec.python,
                    *([field.translated.collection] if field.translated is not None else []),
                ]
                for field in shape.fields.values()
            ),
        ]
        for shape in mirror.shapes
    ]
    version = mirror.version.name if mirror.version is not None else ""
    told = encode_value([list(mirror.key), version, sorted(shapes)])
    names = sorted({name for shape in mirror.shapes for name in shape.fields})
    return hashlib.sha256(told).hexdigest()[:_LENGTH] + encode_value(names).decode()


def attributes_in(digest: str) -> frozenset[str]:
    """Return the names of the attributes in a digest; none for one of an older version."""
    return frozenset(json.loads(digest[_LENGTH:] or "[]"))


def is_same_model(state: str, digest: str) -> bool:
    """Return whether a recorded digest is that of a model. Older versions recorded no names."""
    return bool(state) and digest.startswith(state)


@attrs.define(eq=False)
class Registry:
    """The mirrored models of one store; none for most stores.

    Attributes:
        found: All of them.
        links: The foreign keys of their database.
        by_collection: Them by collection.
        digests: What each collection's model looks like.
        tables: The names of all their tables, in lower case.
    """

    found: tuple[Mirror, ...] = ()
    links: Links = attrs.field(factory=Links)
    by_collection: dict[str, Mirror] = attrs.field(init=False)
    digests: dict[str, str] = attrs.field(init=False)
    tables: frozenset[str] = attrs.field(init=False)
    _shapes: dict[Mapper[Any], tuple[Mirror, Shape]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.by_collection = {mirror.collection: mirror for mirror in self.found}
        self.digests = {mirror.collection: digest_of(mirror) for mirror in self.found}
        self.tables = frozenset(
            table.name.lower()
            for mirror in self.found
            for shape in mirror.shapes
            for table in shape.tables
        )
        self._shapes = {
            mapper: (mirror, shape)
            for mirror in self.found
            for shape in mirror.shapes
            for mapper in shape.mappers
        }

    def __bool__(self) -> bool:
        return bool(self.found)

    def __iter__(self) -> Iterator[Mirror]:
        return iter(self.found)

    def of(self, mapper: Mapper[Any]) -> tuple[Mirror, Shape] | None:
        """Return the mirror of a mapper, and the shape of its rows."""
        return self._shapes.get(mapper)

    def named(self, target: Any) -> Mirror | None:
        """Return the mirror of a class, a subclass of one, or a table; None if there is none."""
        if not self.found:
            return None
        # A concrete subclass has a collection of its own.
        line = target.__mro__ if isinstance(target, type) else (target,)
        found = {mirror.target: mirror for mirror in self.found}
        return next((found[one] for one in line if one in found), None)


def registry(context: StoreContext) -> Registry:
    """Return the mirrored models of a store."""
    assert isinstance(context.mirrors, Registry)
    return context.mirrors
