"""The line that a row of `records` asks for.

A `StoredRecord` has its id and its version twice: in columns and in the line. If one of them is
written, the other follows. If both are written and differ, it is an error.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from sqlalchemy.orm import InstanceState
from sqlalchemy.orm.attributes import instance_state

from taskstore._cache.rows.records import Stored
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
from taskstore._unit.changes import Key
from taskstore._unit.versions import Version, next_version
from taskstore.errors import InvalidRecordError

_decode = msgspec.json.Decoder().decode


class Draft(NamedTuple):
    """The line that a row asks for.

    Attributes:
        key: Its collection and id after the flush.
        old_key: Its collection and id before; None for a new row.
        fields: The keys of the line with the JSON bytes of their values; without a version.
        claim: The version that the row carries.
    """

    key: Key
    old_key: Key | None
    fields: dict[str, bytes]
    claim: Claim | None


def draft_of(row: Any) -> Draft:
    """Read a new or changed ORM row.

    Raises:
        InvalidRecordError: Its data is not a record, or differs from its columns.
        InvalidIdError, InvalidNameError: Its key cannot be stored.
    """
    state: InstanceState[Any] = instance_state(row)
    old_key: Key | None = state.identity if state.key is not None and state.persistent else None
    written, loaded = state.dict.get("updated_at"), None
    if old_key is not None:
        before = state.committed_state.get("updated_at", written)
        written, loaded = (written, before) if before != written else (None, None)
    return _draft(row.collection, row.id, row.data_json, old_key, written, loaded)


def draft_of_stored(
    key: Key, line: str, updated_at: Any, before: Stored | None, old_key: Key | None
) -> Draft:
    """Read a row as the database has it.

    Args:
        key: Its collection and id.
        line: Its line.
        updated_at: What its column says.
        before: What was stored of it; None for nothing.
        old_key: The key that it had then; None for a new row.

    Raises:
        InvalidRecordError, InvalidIdError, InvalidNameError: As `draft_of` does.
    """
    known = None if before is None else before.order_us // 1000
    # 0 is what a row has that was given no version.
    written = updated_at if updated_at not in (known, 0) else None
    return _draft(*key, line, old_key, written, known)


def _draft(
    collection: Any, id: Any, data_json: Any, old_key: Key | None, written: Any, loaded: Any
) -> Draft:
    collection = check_collection_name(collection)
    fields = _fields(data_json, collection, id)
    id = _id(id, collection, fields, old_key)
    if "id" not in fields:
        fields = {"id": encode_value(id), **fields}
    elif b"\\" in fields["id"] or _decode(fields["id"]) != id:
        fields["id"] = encode_value(id)
    claim = _claim(collection, id, fields, written, loaded)
    fields.pop("updated_at", None)
    return Draft((collection, id), old_key, fields, claim)


class Decision(NamedTuple):
    """The decision about a row.

    Attributes:
        line: Its line; None if it changes nothing.
        version: The version of that line.
    """

    line: bytes | None
    version: Version


def decide(
    draft: Draft,
    before: Stored | None,
    origin: Stored | None,
    now_ms: int,
    *,
    anyway: bool = False,
) -> Decision:
    """Decide on the line and the version of a row.

    Args:
        draft: What the row asks for.
        before: What was stored under its key, live or deleted.
        origin: What was stored of the row, also under another key.
        now_ms: The clock, in milliseconds since the epoch.
        anyway: Whether it gets a line even if it is unchanged.

    Raises:
        InvalidRecordError: It would not be a record.
        StaleRecordError: It carries an older version than what is stored.
    """
    like = origin.line if origin is not None else None
    previous = raw_fields(like) if like else None
    fields = draft.fields if previous is None else aligned(draft.fields, previous)
    version = _version(draft, before, origin, _shown(origin, previous), now_ms)
    in_place = draft.old_key == draft.key
    if previous is not None and in_place and not version.kept and not anyway:
        known = previous.copy()
        known.pop("updated_at", None)
        if fields == known:
            return Decision(None, version)
    return Decision(checked_line(_line(fields, version, like, previous), *draft.key), version)


def _shown(origin: Stored | None, fields: dict[str, bytes] | None) -> int | str | None:
    """The version as the previous line has it, whose fields are at hand."""
    if origin is None or fields is None:
        return origin.updated_at if origin is not None else None
    found: int | str | None = _decode(fields.get("updated_at", b"null"))
    return found


def _version(
    draft: Draft,
    before: Stored | None,
    origin: Stored | None,
    previous: int | str | None,
    now_ms: int,
) -> Version:
    collection, id = draft.key
    claim = draft.claim
    if draft.old_key not in (None, draft.key):
        # A moved row carries the version that it had under its old key.
        stored_us = origin.order_us if origin is not None else None
        carried = next_version(claim, stored_us, previous, now_ms, collection=collection, id=id)
        claim = claim if carried.kept else None
    stored_us = before.order_us if before is not None else None
    return next_version(claim, stored_us, previous, now_ms, collection=collection, id=id)


def line_of(fields: dict[str, bytes], version: Version, like: str | None) -> bytes:
    """The line of some fields and a version, without newline.

    Args:
        fields: Keys and JSON bytes, without `updated_at`.
        version: What `updated_at` is to say.
        like: The previous line, whose keys keep their order and spelling where they stay.
    """
    return _line(fields, version, like, None if like is None else raw_fields(like))


def _line(
    fields: dict[str, bytes], version: Version, like: str | None, previous: dict[str, bytes] | None
) -> bytes:
    stamped = {**fields, "updated_at": encode_value(version.value)}
    if previous is not None and [*stamped] != [*previous]:
        stamped = {key: stamped[key] for key in previous if key in stamped} | stamped
    if like is None or "\\" not in like:
        return join_fields(stamped)
    return join_fields(stamped, key_spellings(like))


def checked_line(line: bytes, collection: str, id: str) -> bytes:
    """Return the line, if every reader of the log will read it as this record.

    Raises:
        InvalidRecordError: It would be a problem line, or a tombstone.
    """
    try:
        _, _, deleted, _, _ = decode_key(line)
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
    """Return the fields, with the previous bytes of every unchanged JSON value."""
    return {
        key: before
        if (before := previous.get(key)) is not None and (value == before or _same(value, before))
        else value
        for key, value in fields.items()
    }


def _same(one: bytes, other: bytes) -> bool:
    return encode_value(_decode(one)) == encode_value(_decode(other))


def _fields(data_json: Any, collection: str, id: Any) -> dict[str, bytes]:
    if data_json is None:
        return {}
    try:
        return raw_fields(data_json)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidRecordError(
            collection=collection,
            id=id,
            field="data_json",
            reason=f"not a JSON object: {error}",
        ) from None


def _id(column: Any, collection: str, fields: dict[str, bytes], old_key: Key | None) -> str:
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


def _claim(
    collection: str, id: str, fields: dict[str, bytes], written: Any, loaded: Any
) -> Claim | None:
    """The version that the row carries, in its column or in its data."""
    value = _decode(fields["updated_at"]) if "updated_at" in fields else None
    try:
        data = parse_instant(value)
        column = parse_instant(written)
    except ValueError as error:
        raise InvalidRecordError(
            collection=collection, id=id, field="updated_at", reason=str(error)
        ) from None
    if written is not None and column // 1000 != data // 1000:
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
