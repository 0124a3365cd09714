"""The cache's tables as declarative models, written once for every prefix and registry.

The classes here are mixins that hold columns and behaviour; `build_models` maps them. What is
particular to SQLite (WITHOUT ROWID, partial indexes) is said in keyword arguments that other
databases ignore.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    inspect,
    text,
)
from sqlalchemy.orm import Mapped, declared_attr, mapped_column, registry

from taskstore._cache.schema.names import TableNames
from taskstore._cache.schema.record_face import RecordFace

INDEX_VALUES = ("str", "int", "bool", "real")
"""The endings of the value columns of an index row, `field_value_...`."""


class _Mapped:
    """What all models share: prefix and options of their table, and a typed constructor."""

    __abstract__ = True
    __taskstore_prefix__ = ""

    if TYPE_CHECKING:
        __table__: ClassVar[Table]

        def __init__(self, **values: Any) -> None: ...

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:
        return ({"sqlite_with_rowid": False},)


class StoredRecord(RecordFace, _Mapped):
    """The newest line of a live record.

    Id, `updated_at` and collection stand both in columns and in the line. What is written in one
    place follows in the other when the session flushes; what differs in both is an error.

    Attributes:
        collection: The collection's name.
        id: The record's id, unique within the collection.
        data_json: The whole line, as JSON text without a newline.
        updated_at: The version in milliseconds since the epoch, rounded down.
        updated_at_us: The version as replay orders it, in microseconds since the epoch.
    """

    collection: Mapped[str] = mapped_column(Text, primary_key=True)
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    data_json: Mapped[str] = mapped_column(Text)
    # 0 claims no version: the commit stamps the row.
    updated_at: Mapped[int] = mapped_column(BigInteger, default=0)
    updated_at_us: Mapped[int] = mapped_column(BigInteger, default=0)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return f"{cls.__taskstore_prefix__}records"


class RecordIndex(_Mapped):
    """The value of one indexed field of a live record; exactly one value column is filled.

    Attributes:
        field_value_str: A string; also a date or UUID in its canonical form.
        field_value_int: An integer of up to 64 bits; a datetime in microseconds since the epoch.
        field_value_bool: A boolean.
        field_value_real: Any other number, as the nearest double.
    """

    collection: Mapped[str] = mapped_column(Text, primary_key=True)
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    field_name: Mapped[str] = mapped_column(Text, primary_key=True)
    field_value_str: Mapped[str | None] = mapped_column(Text)
    field_value_int: Mapped[int | None] = mapped_column(BigInteger)
    field_value_bool: Mapped[bool | None] = mapped_column(Boolean)
    field_value_real: Mapped[float | None] = mapped_column(Double)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return f"{cls.__taskstore_prefix__}record_indexes"

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:
        records = f"{cls.__taskstore_prefix__}records"
        return (
            ForeignKeyConstraint(
                ["collection", "id"],
                [f"{records}.collection", f"{records}.id"],
                ondelete="CASCADE",
            ),
            *(_value_index(cls.__taskstore_prefix__, kind) for kind in INDEX_VALUES),
            {"sqlite_with_rowid": False},
        )


def _value_index(prefix: str, kind: str) -> Index:
    column = f"field_value_{kind}"
    where = text(f"{column} IS NOT NULL")
    return Index(
        f"ix_{prefix}record_indexes_{kind}",
        "collection",
        "field_name",
        column,
        "id",
        sqlite_where=where,
    )


class RecordIndexField(_Mapped):
    """A field that is indexed, so that a sync without the record types still indexes.

    Attributes:
        field_type: One of string, int, float, bool, datetime, date, uuid; any where no type says.
        default_json: The JSON value that an absent key counts as; None if there is none.
    """

    collection: Mapped[str] = mapped_column(Text, primary_key=True)
    field_name: Mapped[str] = mapped_column(Text, primary_key=True)
    field_type: Mapped[str] = mapped_column(Text)
    default_json: Mapped[str | None] = mapped_column(Text)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return f"{cls.__taskstore_prefix__}record_index_fields"


class SyncMetadata(_Mapped):
    """What was read of a collection's log. Unknown columns of the fingerprint are empty.

    Attributes:
        last_sync_time: When it was read, in milliseconds since the epoch.
        file_mtime: The file's mtime in whole seconds.
        size, mtime_ns, ctime_ns, inode: The file's `stat` (bytes, nanoseconds).
        digest: Of the bytes that were replayed, keyed with the clone's mark.
        lines, problems: How many lines there were, and how many were no record.
        ended: Whether the last line had its newline.
        racy: Whether the file may have changed again within the same clock tick.
        shape: The evolutions by which its lines were read; empty for none.
    """

    collection: Mapped[str] = mapped_column(Text, primary_key=True)
    last_sync_time: Mapped[int] = mapped_column(BigInteger)
    file_mtime: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int | None] = mapped_column(BigInteger)
    mtime_ns: Mapped[int | None] = mapped_column(BigInteger)
    ctime_ns: Mapped[int | None] = mapped_column(BigInteger)
    inode: Mapped[int | None] = mapped_column(BigInteger)
    digest: Mapped[str | None] = mapped_column(Text)
    lines: Mapped[int | None] = mapped_column(BigInteger)
    problems: Mapped[int | None] = mapped_column(Integer)
    ended: Mapped[bool | None] = mapped_column(Boolean)
    racy: Mapped[bool | None] = mapped_column(Boolean)
    shape: Mapped[str | None] = mapped_column(Text)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return f"{cls.__taskstore_prefix__}sync_metadata"


class Tombstone(_Mapped):
    """A record that is not served, and since when: an older line must not revive it.

    Attributes:
        updated_at: When that was said, in milliseconds since the epoch, rounded down.
        updated_at_us: The same as replay orders it, in microseconds.
        updated_at_text: The RFC 3339 text of the line, where it had one.
        revision: Of a live record, the revision of its newest line, which is not known here;
            empty for one that is deleted.
    """

    collection: Mapped[str] = mapped_column(Text, primary_key=True)
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    updated_at: Mapped[int] = mapped_column(BigInteger)
    updated_at_us: Mapped[int] = mapped_column(BigInteger)
    updated_at_text: Mapped[str | None] = mapped_column(Text)
    revision: Mapped[str | None] = mapped_column(Text)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return f"{cls.__taskstore_prefix__}tombstones"


class MirrorProblem(_Mapped):
    """A record of a mirrored collection that its table does not hold as the log has it.

    Attributes:
        collection: The collection's name.
        id: The record's id.
        reason: Why the database refused it, or why its line does not fit the model.
        never_logged: Whether a row is there that was never logged, and is kept.
    """

    collection: Mapped[str] = mapped_column(Text, primary_key=True)
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    never_logged: Mapped[bool] = mapped_column(Boolean)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return f"{cls.__taskstore_prefix__}mirror_problems"


class MirrorState(_Mapped):
    """That a mirrored table was brought to what the cache has of its collection.

    Attributes:
        collection: The collection's name.
        digest: Of the attributes that the table had then; empty where the collection was written
            since by a store that does not mirror it, or has other attributes. One of `WRITTEN`
            where migrations have written the table since.
    """

    collection: Mapped[str] = mapped_column(Text, primary_key=True)
    digest: Mapped[str] = mapped_column(Text)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return f"{cls.__taskstore_prefix__}mirror_states"


class MirrorKey(_Mapped):
    """The id of a row in a mirrored table whose key the database counts for itself.

    Attributes:
        collection: The collection's name.
        id: The record's id.
        number: The row's key in this database.
        gone: Whether there is no such row: it was deleted, or has not come yet.
        awaited: Whether a row of this database refers to the number, which none has had yet.
    """

    collection: Mapped[str] = mapped_column(Text, primary_key=True)
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    gone: Mapped[bool] = mapped_column(Boolean)
    awaited: Mapped[bool] = mapped_column(Boolean)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return f"{cls.__taskstore_prefix__}mirror_keys"

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:
        index = f"ix_{cls.__taskstore_prefix__}mirror_keys_number"
        return Index(index, "collection", "number", unique=True), {"sqlite_with_rowid": False}


class LogEvolution(_Mapped):
    """An evolution that this database has applied or reverted.

    Attributes:
        collection: The collection's name.
        revision: Its revision; empty in a row that says that the collection has no others.
        line: Its line in evolutions.jsonl.
        applied: Whether the database has it behind it.
    """

    collection: Mapped[str] = mapped_column(Text, primary_key=True)
    revision: Mapped[str] = mapped_column(Text, primary_key=True)
    line: Mapped[str] = mapped_column(Text)
    applied: Mapped[bool] = mapped_column(Boolean)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return f"{cls.__taskstore_prefix__}log_evolutions"


class Models(TableNames):
    """The mapped classes of one cache.

    Those of `DEFAULT` are mapped when one of them is first used. That takes a third of the time of
    an import, and a store needs none of them before somebody opens a session.

    Attributes:
        prefix: What the names of its tables, indexes and version table begin with.
        metadata: The MetaData that its tables are in.
    """

    StoredRecord: type[StoredRecord]
    RecordIndex: type[RecordIndex]
    RecordIndexField: type[RecordIndexField]
    SyncMetadata: type[SyncMetadata]
    Tombstone: type[Tombstone]
    MirrorProblem: type[MirrorProblem]
    MirrorState: type[MirrorState]
    MirrorKey: type[MirrorKey]
    LogEvolution: type[LogEvolution]
    metadata: MetaData

    @property
    def _is_mapped(self) -> bool:
        """Whether the classes have been mapped."""
        return "metadata" in vars(self)

    def _map(self, mapper_registry: registry, metadata: MetaData) -> None:
        """Map the classes."""
        vars(self).update(_mapped(mapper_registry, self.prefix, metadata), metadata=metadata)

    def __getattr__(self, name: str) -> Any:
        """Map the classes, and return one of them."""
        if name not in Models.__annotations__:
            raise AttributeError(name)
        with _mapping:
            if not self._is_mapped:
                self._map(registry(), MetaData())
        return vars(self)[name]


_mapping = RLock()


def build_models(
    *, mapper_registry: registry | None = None, prefix: str = "", metadata: MetaData | None = None
) -> Models:
    """Map the cache's models.

    Args:
        mapper_registry: Where they are registered, for example `Base.registry` of an application;
            one of their own by default.
        prefix: What the names of their tables begin with.
        metadata: The MetaData of their tables. One of their own by default, so that an
            application's `create_all` and autogenerate leave them to our migrations.
    """
    models = Models(prefix=prefix)
    models._map(mapper_registry or registry(), metadata if metadata is not None else MetaData())
    return models


def _mapped(mapper_registry: registry, prefix: str, metadata: MetaData) -> dict[str, Any]:
    mixins = (
        StoredRecord,
        RecordIndex,
        RecordIndexField,
        SyncMetadata,
        Tombstone,
        MirrorProblem,
        MirrorState,
        MirrorKey,
        LogEvolution,
    )
    mapped: dict[str, Any] = {}
    for mixin in mixins:
        namespace = {
            "__module__": mixin.__module__,
            "__doc__": mixin.__doc__,
            "__taskstore_prefix__": prefix,
            "metadata": metadata,
        }
        cls = type(mixin.__name__, (mixin,), namespace)
        mapped[mixin.__name__] = mapper_registry.mapped(cls)
    records = mapped["StoredRecord"].__table__.c
    # As the default order reads: newest first, then by id.
    Index(f"ix_{prefix}records_order", records.collection, records.updated_at_us.desc(), records.id)
    return mapped


def mapped_again(models: Models) -> Models:
    """Return models, or new ones with the same names where `clear_mappers` has unmapped them."""
    if not models._is_mapped or inspect(models.StoredRecord, raiseerr=False) is not None:
        return models
    return build_models(prefix=models.prefix)


DEFAULT = Models()
"""The models of a store's own cache file."""
