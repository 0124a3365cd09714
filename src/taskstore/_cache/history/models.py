"""The models of the history: what sessions of `Store.history_session` can select from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Boolean, Integer, MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from taskstore._cache.sql.json_fields import value as json_value
from taskstore._format.lines import decode_object

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

T = TypeVar("T")


class HistoryBase(DeclarativeBase):
    """The base of the models of the history."""

    metadata = MetaData()


class CommitColumns:
    """The commit that brought something; all are NULL for what is not committed.

    Attributes:
        commit_id: Its full id.
        commit_author: Its author.
        commit_time: The author's time, in RFC 3339.
        commit_subject: The first line of its message.
    """

    commit_id: Mapped[str | None] = mapped_column(String, index=True)
    commit_author: Mapped[str | None] = mapped_column(String)
    commit_time: Mapped[str | None] = mapped_column(String)
    commit_subject: Mapped[str | None] = mapped_column(String)


class RecordVersion(CommitColumns, HistoryBase):
    """A version of a record: each line that its log has or had.

    Attributes:
        collection: The collection.
        id: The record.
        number: The place among the record's versions, from 0: the last of them counts, if the log
            still has it.
        updated_at: Its time, in milliseconds since the epoch.
        line: Its number in today's log, from 1; NULL if the log does not have it any more.
        deleted: Whether it is a tombstone.
        data_json: The line in today's shape.
    """

    __tablename__ = "record_versions"
    collection: Mapped[str] = mapped_column(String, primary_key=True)
    id: Mapped[str] = mapped_column(String, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    updated_at: Mapped[int] = mapped_column(Integer)
    line: Mapped[int | None] = mapped_column(Integer)
    deleted: Mapped[bool] = mapped_column(Boolean)
    data_json: Mapped[str] = mapped_column(String)

    @property
    def data(self) -> dict[str, Any]:
        """The line's object."""
        return decode_object(self.data_json)

    @classmethod
    def value(cls, field: str) -> ColumnElement[Any]:
        """Return an expression for a field of the record, as `StoredRecord.value` does."""
        return json_value(cls, field)

    def as_record(self, type: type[T]) -> T:
        """Return the version as an instance of a record class.

        Raises:
            InvalidRecordError: It is a tombstone, or does not fit the class.
        """
        from taskstore._records.types import RecordType

        found: T = RecordType.of(type).decode(self.data_json)
        return found


class RecordChange(CommitColumns, HistoryBase):
    """A value that a version changed; a tombstone, and a record without fields, has one row.

    Attributes:
        collection: The collection.
        id: The record.
        number: The version; see `RecordVersion`.
        position: The place among the version's changes, from 0.
        kind: "created", "changed" or "deleted".
        field: What changed, such as "status" or "meta.owner"; "" for the record as a whole.
        old_json: The value before, as JSON; NULL where there was none.
        new_json: The value after, as JSON; NULL where there is none.
        updated_at: The time of the version, in milliseconds since the epoch.
    """

    __tablename__ = "record_changes"
    collection: Mapped[str] = mapped_column(String, primary_key=True)
    id: Mapped[str] = mapped_column(String, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str] = mapped_column(String)
    field: Mapped[str] = mapped_column(String)
    old_json: Mapped[str | None] = mapped_column(String)
    new_json: Mapped[str | None] = mapped_column(String)
    updated_at: Mapped[int] = mapped_column(Integer)


class RecordBlame(CommitColumns, HistoryBase):
    """The commit that gave a field of a live record its present value.

    Attributes:
        collection: The collection.
        id: The record.
        field: The field.
        value_json: Its value, as JSON.
        number: The version that first had it; see `RecordVersion`.
        updated_at: The time of that version, in milliseconds since the epoch.
    """

    __tablename__ = "record_blame"
    collection: Mapped[str] = mapped_column(String, primary_key=True)
    id: Mapped[str] = mapped_column(String, primary_key=True)
    field: Mapped[str] = mapped_column(String, primary_key=True)
    value_json: Mapped[str] = mapped_column(String)
    number: Mapped[int] = mapped_column(Integer)
    updated_at: Mapped[int] = mapped_column(Integer)


TABLES = tuple(model.__tablename__ for model in (RecordVersion, RecordChange, RecordBlame))
"""The names of the tables."""
