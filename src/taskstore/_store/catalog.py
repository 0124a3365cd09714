"""The record types that a store knows, and which of them the cache indexes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from taskstore._cache.evolution.fingerprint_rows import NO_EVOLUTIONS, State
from taskstore._cache.rows.rows import Rows
from taskstore._evolution.decoding import COLLECTION, encode_evolution
from taskstore._format.names import check_collection_name
from taskstore._log.evolutions import read_names
from taskstore._records.dicts import DictType
from taskstore._records.evolutions import stated_names
from taskstore._records.indexing import IndexField, index_rows
from taskstore._records.interface import RecordCodec
from taskstore._records.types import RecordType
from taskstore._store.log_context import LogContext
from taskstore._store.settings import read_settings
from taskstore._store.wanted_indexes import (
    INDEX_FAULTS,
    is_untyped,
    settings_want,
    with_untyped,
)
from taskstore.errors import InvalidDeclarationError, InvalidRecordError, RecordSkippedWarning


class Catalog:
    """The record types that this store has seen, and the indexes that its settings name.

    There is no registry outside the store. The cache learns a type at `open` or when it is first
    used, and again after the cache was rebuilt. The same applies to the settings.
    """

    def __init__(self, context: LogContext) -> None:
        self._context = context
        self._layout = context.layout
        self._mirrors = context.mirrors
        self._taught: set[type[Any]] = set()
        self._evolutions: dict[str, dict[str, str]] = {}

    def codec(self, type_: Any) -> RecordCodec[Any]:
        """Return the codec for a record class, or for plain dicts of a named collection.

        Raises:
            InvalidDeclarationError: The class is not a record type.
            InvalidNameError: The name is not a collection name.
        """
        if isinstance(type_, str):
            return DictType(self._log_of(check_collection_name(type_)))
        mirror = self._mirrors.named(type_)
        if mirror is not None:
            return DictType(mirror.collection)
        return self._record_type(type_)

    def check_mirrors(self) -> None:
        """Refuse mirrored models that name a renamed collection without its former name.

        Raises:
            InvalidDeclarationError: One does.
        """
        for collection in self._mirrors.by_collection:
            self._check_name(f"the mirrored model of {collection!r}", "mirrored", collection)

    def _record_type(self, cls: type[Any]) -> RecordType[Any]:
        found: RecordType[Any] = RecordType.of(cls)
        if len(stated_names(cls)) < 2:
            self._check_name(cls.__qualname__, "record", found.collection)
        return found

    def _log_of(self, name: str) -> str:
        """Return the name of the log of a collection, which may have been renamed."""
        log = self._context.shapes.names.log_of(name)
        if log == name and not os.path.lexists(self._layout.log_name(name)):
            # The cache may not know yet what was pulled.
            log = read_names(self._layout).log_of(name)
        return log

    def _check_new_names(self, codec: RecordType[Any]) -> None:
        """Refuse a new name that another collection has; once it is stated, it is reported."""
        known = {codec.collection, *self._context.shapes.names.logs}
        for name in stated_names(codec.cls):
            if name not in known and os.path.lexists(self._layout.log_name(name)):
                raise InvalidDeclarationError(
                    codec.cls.__qualname__,
                    reason=f"the collection {codec.collection!r} cannot be called {name!r}, which "
                    f"is another one: choose another name, or append the lines of {name}.jsonl to "
                    f"{codec.collection}.jsonl and delete {name}.jsonl",
                )

    def _check_name(self, what: str, call: str, collection: str) -> None:
        names = self._context.shapes.names
        if names.is_taken(collection):
            was = names.log_of(collection)
            raise InvalidDeclarationError(
                what,
                reason=f"{collection!r} is the new name of the collection {was!r}: declare "
                f"{call}({collection!r}, was={was!r})",
            )

    def codec_of(self, record: Any, collection: str | None) -> RecordCodec[Any]:
        """Return the codec for a record to write.

        Raises:
            InvalidDeclarationError: Its class is not a record type, or it is a dict and no
                collection is named.
        """
        if collection is None:
            return self._record_type(type(record))
        codec = self.codec(collection)
        return codec if isinstance(record, dict) else _of(record, codec.collection)

    def is_taught(self, codec: RecordCodec[Any]) -> bool:
        """Return whether the cache indexes the fields of the type, as far as this store knows."""
        return not isinstance(codec, RecordType) or codec.cls in self._taught

    def wants(self, codec: RecordCodec[Any], rows: Rows) -> bool:
        """Return whether the cache indexes other fields than the type, or has another shape."""
        if not isinstance(codec, RecordType):
            return False
        if rows.index_fields(codec.collection) != self._fields(codec, rows):
            return True
        return rows.evolutions().get(codec.collection) != self._states(codec)

    def teach(self, codec: RecordCodec[Any], rows: Rows) -> None:
        """Make the cache index the fields of a type, in a write transaction.

        Raises:
            InvalidDeclarationError: The type gives its collection the name of another one.
        """
        if isinstance(codec, RecordType) and self.wants(codec, rows):
            self._check_new_names(codec)
            rows.set_evolutions(codec.collection, self._states(codec))
            rows.set_index_fields(codec.collection, self._fields(codec, rows).values())
            rows.rebuild_index(codec.collection)

    def settings_want(self, rows: Rows) -> dict[str, list[IndexField]]:
        """Return the fields to index, for collections whose settings differ from the cache."""
        return settings_want(self._layout, rows)

    def teach_settings(self, rows: Rows) -> None:
        """Make the cache index the fields in the settings, in a write transaction."""
        for collection, fields in self.settings_want(rows).items():
            rows.set_index_fields(collection, fields)
            rows.rebuild_index(collection)

    def is_evolved(self, codec: RecordCodec[Any], rows: Rows) -> bool:
        """Return whether lines of the collection may need another shape."""
        if not isinstance(codec, RecordType):
            return False
        return bool(self._evolutions.get(codec.collection)) or rows.has_records(COLLECTION)

    def _states(self, codec: RecordType[Any]) -> list[State]:
        """Return what the known classes of a collection state of its evolutions."""
        found = self._evolutions.setdefault(codec.collection, {})
        found |= {one.revision: encode_evolution(one).decode() for one in codec.evolutions}
        states = [State(name, line, applied=True) for name, line in sorted(found.items())]
        return states or [NO_EVOLUTIONS]

    def _fields(self, codec: RecordCodec[Any], rows: Rows) -> dict[str, IndexField]:
        """Return the index fields of a type and of the settings."""
        settings = read_settings(self._layout)
        names: Iterable[str] = settings.indexes.get(codec.collection, ())
        if INDEX_FAULTS & settings.faults.keys():
            now = rows.index_fields(codec.collection)
            names = [name for name, field in now.items() if is_untyped(field)]
        return with_untyped(codec.index_fields, names)

    def mark_taught(self, codec: RecordCodec[Any]) -> None:
        """Remember that the cache has committed the indexes of a type."""
        if isinstance(codec, RecordType):
            self._taught.add(codec.cls)

    def forget(self) -> None:
        """Forget all, because the cache was rebuilt."""
        self._taught.clear()


def _of(record: Any, collection: str) -> RecordCodec[Any]:
    codec: RecordType[Any] = RecordType.of(type(record))
    if codec.collection != collection:
        raise InvalidDeclarationError(
            type(record).__name__,
            reason=f"belongs to collection {codec.collection!r}, not to {collection!r}",
        )
    return codec


_NAMED = 3
"""How many rows the warning names."""


def rebuild_indexes(codec: RecordCodec[Any], rows: Rows) -> int:
    """Structure every row with its class, and rewrite the index rows of the collection.

    If all index rows are right, nothing is written.

    Args:
        codec: The record type.
        rows: In a write transaction.

    Returns:
        How many rows fit the class.
    """
    walk = _Walk(codec, rows)
    if not rows.has_index(codec.collection, walk.index_rows()):
        rows.rebuild_index(codec.collection)
    if walk.misfits:
        named = "; ".join(str(error) for error in walk.misfits)
        total = walk.indexed + walk.skipped
        warnings.warn(
            f"{walk.skipped} of {total} rows of {codec.collection!r} do not fit "
            f"{codec.name} and were skipped: {named}{'; ...' if walk.skipped > _NAMED else ''}",
            RecordSkippedWarning,
            stacklevel=3,
        )
    return walk.indexed


@attrs.define
class _Walk:
    """Goes through the rows of a collection once.

    Attributes:
        codec: The record type.
        rows: Of the cache.
        indexed: How many rows fit the class.
        skipped: How many do not.
        misfits: What is wrong with the first of these.
    """

    codec: RecordCodec[Any]
    rows: Rows
    indexed: int = 0
    skipped: int = 0
    misfits: list[InvalidRecordError] = attrs.field(factory=list)

    def index_rows(self) -> Iterator[tuple[Any, ...]]:
        """Structure each row, and yield the index rows that its line should have."""
        collection = self.codec.collection
        indexed = self.rows.index_fields(collection)
        fields = [indexed[name] for name in sorted(indexed)]
        for id, line in self.rows.lines(collection):
            try:
                self.codec.decode(line)
            except InvalidRecordError as error:
                self._skip(error)
            else:
                self.indexed += 1
            for name, value in index_rows(fields, line):
                yield (id, name, *value)

    def _skip(self, error: InvalidRecordError) -> None:
        self.skipped += 1
        if len(self.misfits) < _NAMED:
            self.misfits.append(error)
