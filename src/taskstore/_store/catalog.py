"""Which record types a store knows, and what the cache has been taught of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taskstore._cache.rows import Rows
from taskstore._format.names import check_collection_name
from taskstore._log.layout import Layout
from taskstore._mirror.registry import Mirrors
from taskstore._records.dicts import DictType
from taskstore._records.indexing import IndexField
from taskstore._records.types import RecordCodec, RecordType
from taskstore._store.settings import read_indexes
from taskstore.errors import InvalidDeclarationError

_UNTYPED = "any"


class Catalog:
    """The record types that this store has met, and the indexes that its settings name.

    There is no registry beyond the store: a type is taught to the cache at `open` or when it is
    first used, and again after the cache was made anew; so are the settings.
    """

    def __init__(self, layout: Layout, mirrors: Mirrors) -> None:
        self._layout = layout
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
        return rows.index_fields(codec.collection) != self._fields(codec, rows)

    def teach(self, codec: RecordCodec[Any], rows: Rows) -> None:
        """Have the cache index what a type asks for; in a write transaction."""
        if self.wants(codec, rows):
            rows.set_index_fields(codec.collection, self._fields(codec, rows).values())
            rows.rebuild_index(codec.collection)

    def settings_want(self, rows: Rows) -> dict[str, list[IndexField]]:
        """What the cache is to index, by collection, where the settings say otherwise than it."""
        settings = read_indexes(self._layout)
        known = rows.all_index_fields()
        if settings.problem is not None:
            return {}
        untyped = {name for name, fields in known.items() if any(map(_is_untyped, fields.values()))}
        wanted = {}
        for collection in sorted({*settings.fields, *untyped}):
            now = dict(known.get(collection, {}))
            typed = [field for field in now.values() if not _is_untyped(field)]
            fields = _with_untyped(typed, settings.fields.get(collection, ()))
            if fields != now:
                wanted[collection] = list(fields.values())
        return wanted

    def teach_settings(self, rows: Rows) -> None:
        """Have the cache index what the settings name; in a write transaction."""
        for collection, fields in self.settings_want(rows).items():
            rows.set_index_fields(collection, fields)
            rows.rebuild_index(collection)

    def _fields(self, codec: RecordCodec[Any], rows: Rows) -> dict[str, IndexField]:
        """What a type asks for, and the settings beside it."""
        settings = read_indexes(self._layout)
        names: Iterable[str] = settings.fields.get(codec.collection, ())
        if settings.problem is not None:
            now = rows.index_fields(codec.collection)
            names = [name for name, field in now.items() if _is_untyped(field)]
        return _with_untyped(codec.index_fields, names)

    def mark_taught(self, codec: RecordCodec[Any]) -> None:
        """Remember that the cache has committed what was taught."""
        if isinstance(codec, RecordType):
            self._taught.add(codec.cls)

    def forget(self) -> None:
        """The cache was made anew: it has to be taught again."""
        self._taught.clear()


def _is_untyped(field: IndexField) -> bool:
    return field.type == _UNTYPED


def _with_untyped(typed: Iterable[IndexField], names: Iterable[str]) -> dict[str, IndexField]:
    fields = {field.name: field for field in typed}
    for name in names:
        fields.setdefault(name, IndexField(name, _UNTYPED))
    return fields


def _of(record: Any, collection: str) -> RecordCodec[Any]:
    codec: RecordType[Any] = RecordType.of(type(record))
    if codec.collection != collection:
        raise InvalidDeclarationError(
            type(record).__name__,
            reason=f"belongs to collection {codec.collection!r}, not to {collection!r}",
        )
    return codec
