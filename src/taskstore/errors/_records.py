"""Errors of records, their declarations and queries."""

from __future__ import annotations

from typing import Any

from taskstore.errors._base import TaskstoreError, shown


class InvalidNameError(TaskstoreError, ValueError):
    """A name of a collection or field has characters that are not allowed, or a wrong length."""

    kind: str
    name: object
    reason: str

    def __init__(self, *, kind: str, name: object, reason: str) -> None:
        super().__init__(
            f"invalid {kind} name {shown(name)}: {reason}", kind=kind, name=name, reason=reason
        )


class InvalidIdError(TaskstoreError, ValueError):
    """A record id that is not a string, blank, or too long."""

    id: object
    collection: str | None
    reason: str

    def __init__(self, id: object, *, reason: str, collection: str | None = None) -> None:
        where = f" in collection {collection!r}" if collection else ""
        super().__init__(
            f"invalid id {shown(id)}{where}: {reason}", id=id, collection=collection, reason=reason
        )


class InvalidRecordError(TaskstoreError, ValueError):
    """A record or a stored line does not fit its type or the file format."""

    collection: str
    id: str | None
    field: str | None
    reason: str

    def __init__(
        self, *, collection: str, id: str | None, reason: str, field: str | None = None
    ) -> None:
        name = f"{collection}/{id}" if id is not None else collection
        at = f", field {field!r}" if field else ""
        super().__init__(
            f"{name}{at}: {reason}", collection=collection, id=id, field=field, reason=reason
        )


UNKNOWN_REVISION = "which this program does not know, and is kept as it is"
"""A part of the message of an UnknownRevisionError."""


class UnknownRevisionError(TaskstoreError):
    """A record whose latest line was written under a revision that this program does not know."""

    collection: str
    id: str
    revision: str

    def __init__(self, *, collection: str, id: str, revision: str) -> None:
        super().__init__(
            f"{collection}/{id}: its latest line was written under the revision "
            f"{shown(revision)}, {UNKNOWN_REVISION}: pull evolutions.jsonl, upgrade the "
            "application, then try again",
            collection=collection,
            id=id,
            revision=revision,
        )


class InvalidDeclarationError(TaskstoreError, TypeError):
    """A record class cannot be stored as it is declared."""

    type_name: str
    field: str | None
    reason: str

    def __init__(self, type_name: str, *, reason: str, field: str | None = None) -> None:
        at = f"{type_name}.{field}" if field else type_name
        super().__init__(f"{at}: {reason}", type_name=type_name, field=field, reason=reason)


class InvalidFilterError(TaskstoreError, ValueError):
    """A filter or an order that cannot be understood."""

    reason: str

    def __init__(self, reason: str, **facts: Any) -> None:
        super().__init__(reason, reason=reason, **facts)


class UnknownFieldError(InvalidFilterError):
    """A filter, order or change names a field that the record type does not have."""

    field: str
    type_name: str
    nearest: str | None

    def __init__(self, field: str, *, type_name: str, nearest: str | None = None) -> None:
        hint = f"; did you mean {nearest!r}?" if nearest else ""
        super().__init__(
            f"{type_name} has no field {field!r}{hint}",
            field=field,
            type_name=type_name,
            nearest=nearest,
        )


class RecordNotFoundError(TaskstoreError, LookupError):
    """No live record with this id."""

    collection: str
    id: str

    def __init__(self, *, collection: str, id: str) -> None:
        super().__init__(
            f"no record {id!r} in collection {collection!r}: create it, or use save() to create "
            "or update",
            collection=collection,
            id=id,
        )


class RecordExistsError(TaskstoreError):
    """A live record already has this id."""

    collection: str
    id: str

    def __init__(self, *, collection: str, id: str) -> None:
        super().__init__(
            f"record {id!r} already exists in collection {collection!r}: use update() or save() "
            "to change it",
            collection=collection,
            id=id,
        )


class StaleRecordError(TaskstoreError):
    """The record has changed since the version on which this write is based."""

    collection: str
    id: str
    carried: object
    stored: object

    def __init__(self, *, collection: str, id: str, carried: object, stored: object) -> None:
        super().__init__(
            f"{collection}/{id}: this write carries version {carried!r}, the store has {stored!r}: "
            "read the record again and repeat the change, or set updated_at to 0 to overwrite",
            collection=collection,
            id=id,
            carried=carried,
            stored=stored,
        )


class ConditionFailedError(TaskstoreError):
    """The stored record does not meet the conditions of a `patch`."""

    collection: str
    id: str
    condition: str

    def __init__(self, *, collection: str, id: str, condition: str) -> None:
        super().__init__(
            f"{collection}/{id} was left unchanged, because it does not meet {condition}: "
            "read it to see what it is now",
            collection=collection,
            id=id,
            condition=condition,
        )


class ColumnSkippedWarning(UserWarning):
    """Columns of a model stay out of the log, because a line cannot hold their values."""


class EvolutionClashWarning(UserWarning):
    """Two branches changed the shape of the same field, and no later evolution settles it."""


class EvolutionSkippedWarning(UserWarning):
    """A migration could not record its evolution, because the database has no `log_evolutions`."""


class RecordSkippedWarning(UserWarning):
    """Rows that do not fit their record class were left out of a count or an export."""


class CursorError(TaskstoreError, ValueError):
    """A text that is not a cursor."""

    cursor: str

    def __init__(self, cursor: str) -> None:
        super().__init__(
            f"{shown(cursor)} is not a cursor: pass one that `watch` has printed, or 0 for the "
            "beginning",
            cursor=cursor,
        )
