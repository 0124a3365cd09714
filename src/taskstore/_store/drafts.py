"""What an ORM row says its line should be.

A `StoredRecord` says some things twice: its id and its version stand in columns and in the line.
Written in one place the other follows; written differently in both is an error.
"""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
from sqlalchemy import inspect
from sqlalchemy.orm import InstanceState
from sqlalchemy.orm.base import PASSIVE_NO_INITIALIZE

from taskstore._format.instants import parse_instant
from taskstore._format.lines import (
    LineError,
    decode_key,
    encode_value,
    join_fields,
    key_spellings,
    raw_fields,
)
from taskstore._format.names import check_collection_name, check_id
from taskstore._records.versions import Claim
from taskstore._store.changes import Key
from taskstore._store.versions import Version
from taskstore.errors import InvalidRecordError

_decode = msgspec.json.Decoder().decode


@attrs.frozen
class Draft:
    """The line that an ORM row asks for.

    Attributes:
        row: the row.
        key: collection and id that it is to have.
        old_key: those that it has in the database; None for a new row.
        fields: the keys of the line with the JSON bytes of their values; without a version.
        claim: the version that the row carries.
    """

    row: Any
    key: Key
    old_key: Key | None
    fields: dict[str, bytes]
    claim: Claim | None


def draft_of(row: Any) -> Draft:
    """Read a new or changed row.

    Raises:
        InvalidRecordError: its data is no record, or says otherwise than its columns.
        InvalidIdError, InvalidNameError: its key cannot be stored.
    """
    state: InstanceState[Any] = inspect(row)
    old_key: Key | None = state.identity if state.persistent else None
    collection = check_collection_name(row.collection)
    fields = _fields(row, collection)
    id = _id(row, collection, fields, old_key)
    if "id" not in fields:
        fields = {"id": encode_value(id), **fields}
    else:
        fields["id"] = encode_value(id)
    claim = _claim(row, collection, id, fields)
    fields.pop("updated_at", None)
    return Draft(row, (collection, id), old_key, fields, claim)


def line_of(fields: dict[str, bytes], version: Version, like: str | None) -> bytes:
    """The line of some fields and a version, without newline.

    Args:
        fields: keys and JSON bytes, without `updated_at`.
        version: what `updated_at` is to say.
        like: the previous line, whose keys keep their order and spelling where they stay.
    """
    stamped = {**fields, "updated_at": encode_value(version.value)}
    if like is None:
        return join_fields(stamped)
    ordered = {key: stamped.pop(key) for key in raw_fields(like) if key in stamped}
    ordered.update(stamped)
    return join_fields(ordered, key_spellings(like))


def checked_line(line: bytes, collection: str, id: str) -> bytes:
    """The line again, if every reader of the log will take it for this record.

    Raises:
        InvalidRecordError: it would be a problem line, or a tombstone.
    """
    try:
        _, _, deleted, _ = decode_key(line)
    except LineError as error:
        raise InvalidRecordError(collection=collection, id=id, reason=error.reason) from None
    if deleted:
        raise InvalidRecordError(
            collection=collection,
            id=id,
            field="deleted",
            reason="true marks a tombstone: delete the record instead",
        )
    return line


def aligned(fields: dict[str, bytes], previous: dict[str, bytes]) -> dict[str, bytes]:
    """The fields, with the previous bytes of every value that is still the same JSON value."""
    return {
        key: previous[key] if key in previous and _same(value, previous[key]) else value
        for key, value in fields.items()
    }


def _same(one: bytes, other: bytes) -> bool:
    if one == other:
        return True
    return encode_value(_decode(one)) == encode_value(_decode(other))


def _fields(row: Any, collection: str) -> dict[str, bytes]:
    if row.data_json is None:
        return {}
    try:
        return raw_fields(row.data_json)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidRecordError(
            collection=collection,
            id=row.id,
            field="data_json",
            reason=f"not a JSON object: {error}",
        ) from None


def _id(row: Any, collection: str, fields: dict[str, bytes], old_key: Key | None) -> str:
    column = row.id
    if "id" not in fields:
        return check_id(column, collection)
    data = check_id(_decode(fields["id"]), collection)
    old = old_key[1] if old_key is not None else None
    if column in (data, old) or column is None:
        return data
    if data == old:
        return check_id(column, collection)
    raise InvalidRecordError(
        collection=collection,
        id=str(column),
        field="id",
        reason=f"the row says {column!r} and its data {data!r}: write it in one place",
    )


def _claim(row: Any, collection: str, id: str, fields: dict[str, bytes]) -> Claim | None:
    """The version that the row carries, in its column or in its data."""
    state: InstanceState[Any] = inspect(row)
    history = state.get_history("updated_at", PASSIVE_NO_INITIALIZE)
    written = row.updated_at if history.added else None
    value = _decode(fields["updated_at"]) if "updated_at" in fields else None
    try:
        data = parse_instant(value)
        column = parse_instant(written)
    except ValueError as error:
        raise InvalidRecordError(
            collection=collection, id=id, field="updated_at", reason=str(error)
        ) from None
    if written is not None and column // 1000 != data // 1000:
        loaded = history.deleted[0] if history.deleted else None
        if data and data // 1000 != loaded:
            raise InvalidRecordError(
                collection=collection,
                id=id,
                field="updated_at",
                reason=f"the row says {written!r} and its data {value!r}: write it in one place",
            )
        return Claim(written, column, 1000) if column else None
    if value is None or not data:
        return None
    return Claim(value, data, 1 if isinstance(value, str) else 1000)
