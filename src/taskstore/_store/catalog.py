"""Which record types a store knows, and what the cache has been taught of them."""

from __future__ import annotations

from typing import Any

from taskstore._cache.rows import Rows
from taskstore._format.names import check_collection_name
from taskstore._mirror.registry import Mirrors
from taskstore._records.dicts import DictType
from taskstore._records.types import RecordCodec, RecordType
from taskstore.errors import InvalidDeclarationError


class Catalog:
    """The record types that this store has met.

    There is no registry beyond the store: a type is taught to the cache at `open` or when it is
    first used, and again after the cache was made anew.
    """

    def __init__(self, mirrors: Mirrors) -> None:
        self._mirrors = mirrors
        self._taught: set[type[Any]] = set()

    def codec(self, type_: Any) -> RecordCodec[Any]:
        """How records of a class, or plain dicts of a named collection, become lines.

        Raises:
            InvalidDeclarationError: the class is no record type.
            InvalidNameError: the name is no collection name.
        """
        if isinstance(type_, str):
            return DictType(check_collection_name(type_))
        mirror = self._mirrors.named(type_)
        if mirror is not None:
            return DictType(mirror.collection)
        return RecordType.of(type_)

    def codec_of(self, record: Any, collection: str | None) -> RecordCodec[Any]:
        """The same for a record that is to be written.

        Raises:
            InvalidDeclarationError: its class is no record type, or it is a dict and no
                collection is named.
        """
        if collection is not None:
            return self.codec(collection) if isinstance(record, dict) else _of(record, collection)
        return RecordType.of(type(record))

    def is_taught(self, codec: RecordCodec[Any]) -> bool:
        """Whether the cache indexes what the type asks for, as far as this store knows."""
        return not isinstance(codec, RecordType) or codec.cls in self._taught

    def wants(self, codec: RecordCodec[Any], rows: Rows) -> bool:
        """Whether the cache indexes other fields than a type asks for."""
        if not isinstance(codec, RecordType):
            return False
        return rows.index_fields(codec.collection) != {
            field.name: field for field in codec.index_fields
        }

    def teach(self, codec: RecordCodec[Any], rows: Rows) -> None:
        """Have the cache index what a type asks for; in a write transaction."""
        if self.wants(codec, rows):
            fields = {field.name: field for field in codec.index_fields}
            rows.set_index_fields(codec.collection, fields.values())
            rows.rebuild_index(codec.collection)

    def mark_taught(self, codec: RecordCodec[Any]) -> None:
        """Remember that the cache has committed what was taught."""
        if isinstance(codec, RecordType):
            self._taught.add(codec.cls)

    def forget(self) -> None:
        """The cache was made anew: it has to be taught again."""
        self._taught.clear()


def _of(record: Any, collection: str) -> RecordCodec[Any]:
    codec: RecordType[Any] = RecordType.of(type(record))
    if codec.collection != collection:
        raise InvalidDeclarationError(
            type(record).__name__,
            reason=f"belongs to collection {codec.collection!r}, not to {collection!r}",
        )
    return codec
