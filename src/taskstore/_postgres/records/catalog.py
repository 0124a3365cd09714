"""The record types of a store on PostgreSQL."""

from __future__ import annotations

from typing import Any

from taskstore._format.names import EVOLUTIONS, check_collection_name
from taskstore._mirror.model.registry import Registry
from taskstore._records.dicts import DictType
from taskstore._records.evolutions import stated_names
from taskstore._records.interface import RecordCodec
from taskstore._records.types import RecordType
from taskstore.errors import InvalidDeclarationError, InvalidNameError, UnsupportedError

_LATER = "use a store on SQLite for it"


class RecordCatalog:
    """Finds the codec of a record class, or of plain dicts.

    Args:
        mirrors: The mirrored models, whose rows are in tables of their own.
    """

    def __init__(self, mirrors: Registry) -> None:
        self._mirrors = mirrors

    def codec(self, type_: Any) -> RecordCodec[Any]:
        """Return the codec for a record class, or for plain dicts of a named collection.

        Raises:
            InvalidDeclarationError: The class is not a record type.
            InvalidNameError: The name is not a collection name.
            UnsupportedError: The collection has evolutions, or is that of a mirrored model.
        """
        if isinstance(type_, str):
            name = check_collection_name(type_)
            if name == EVOLUTIONS:
                raise InvalidNameError(
                    kind="collection", name=name, reason="it belongs to the format"
                )
            self._check(name)
            return DictType(name)
        mirror = self._mirrors.named(type_)
        if mirror is not None:
            self._check(mirror.collection)
        found: RecordType[Any] = RecordType.of(type_)
        if found.evolutions or len(stated_names(type_)) > 1:
            raise UnsupportedError(
                operation=f"the record class {found.name} with evolutions", remedy=_LATER
            )
        self._check(found.collection)
        return found

    def codec_of(self, record: Any, collection: str | None) -> RecordCodec[Any]:
        """Return the codec for a record to write; see `codec`.

        Raises:
            InvalidDeclarationError: The record is a dict and no collection is named, or its class
                belongs to another collection.
        """
        if collection is None:
            return self.codec(type(record))
        if isinstance(record, dict):
            return self.codec(collection)
        codec = self.codec(type(record))
        if codec.collection != check_collection_name(collection):
            raise InvalidDeclarationError(
                type(record).__name__,
                reason=f"belongs to collection {codec.collection!r}, not to {collection!r}",
            )
        return codec

    def _check(self, collection: str) -> None:
        mirror = self._mirrors.by_collection.get(collection)
        if mirror is not None:
            raise UnsupportedError(
                operation=f"a call of the store for {collection!r}",
                remedy=f"its rows are those of {mirror.name}: query and write them with SQLAlchemy",
            )
