"""Plain dicts as records of a named collection."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, MutableMapping
from typing import Any

import msgspec

from taskstore._format.lines import decode_object, encode_value, raw_fields
from taskstore._format.names import check_collection_name, check_id
from taskstore._records.builtins import to_builtins
from taskstore._records.codec import json_encode
from taskstore._records.indexing import IndexField
from taskstore._records.interface import FieldInfo
from taskstore._records.reasons import StructureError, reason_of
from taskstore._records.shape import replace_fields
from taskstore._records.types import check_line_size
from taskstore._records.versions import Claim, VersionForm, claim_of, encode_version
from taskstore.errors import InvalidRecordError

Row = dict[str, Any]

_SURE = frozenset({str, int, bool, type(None)})
_KNOWN = frozenset({"updated_at", "deleted"})
_TIMES = VersionForm(datetime.datetime)


class DictType:
    """The record type of a collection whose records are plain dicts.

    A dict is the whole record: an update removes keys that the new dict lacks. Values that are read
    are JSON builtins. Values that are written may also be others that the codec supports (datetime,
    UUID, Enum, attrs classes, ...), and are read back as JSON.

    Args:
        collection: The name of the collection.

    Raises:
        InvalidNameError: It cannot name one.
    """

    __slots__ = ("collection",)

    def __init__(self, collection: str) -> None:
        self.collection = check_collection_name(collection)

    def __repr__(self) -> str:
        return f"DictType({self.collection!r})"

    @property
    def name(self) -> str:
        """How messages call the type."""
        return f"collection {self.collection!r}"

    @property
    def index_fields(self) -> tuple[IndexField, ...]:
        """None: dicts declare no indexes (those of the collection are used all the same)."""
        return ()

    def decode(self, line: str | bytes) -> Row:
        """Return a line of the log as a dict.

        Raises:
            InvalidRecordError: It is no JSON object.
        """
        try:
            found = decode_object(line)
        except (msgspec.MsgspecError, ValueError) as error:
            raise self._refused(error, None, None) from error
        if type(found) is not dict:
            raise self._refused(StructureError("not a JSON object"), None, None)
        return found

    def encode(self, record: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the JSON of each key of a new record, in its order.

        `updated_at` is left out if it is 0, None or "".

        Raises:
            InvalidIdError: It has no usable id.
            InvalidRecordError: JSON cannot carry a value, a key is not a string, or `deleted` is
                true.
        """
        id = self.id_of(record)
        fields = {}
        for name, value in record.items():
            try:
                if not isinstance(name, str):
                    raise StructureError(f"the key {name!r} is not a string")
                json_encode(name)
                raw = _encode_item(name, value)
            except (ValueError, TypeError, RecursionError) as error:
                raise self._refused(error, id, name) from error
            if raw is not None:
                fields[str.__str__(name)] = raw
        check_line_size(fields, self.collection, id)
        return fields

    def quick_line(self, record: Any, updated_at: int | str) -> None:
        """Return None: what a dict holds is looked at key by key."""

    def id_of(self, record: Any) -> str:
        """Return the id of a record.

        Raises:
            InvalidIdError: It has no usable one.
            InvalidRecordError: The record is no mapping.
        """
        if not isinstance(record, Mapping):
            raise self._refused(
                StructureError(f"expected a dict, got {type(record).__name__}"), None, None
            )
        return check_id(record.get("id"), self.collection)

    def claim(self, record: Mapping[str, Any]) -> Claim | None:
        """Return the version that a record carries, or None if it claims none.

        Raises:
            InvalidRecordError: Its `updated_at` is not a version.
        """
        try:
            return claim_of(record.get("updated_at"))
        except StructureError as error:
            raise self._refused(error, record.get("id"), "updated_at") from None

    def stamped(self, record: Row, updated_at: int | str) -> Row:
        """Set the version of a record, in place, and return the record as it is stored.

        A datetime stays one; all others get the stamp as it is. A mapping that is read-only, or
        has values that are not of JSON, is copied.
        """
        value: Any = updated_at
        given: Any = record
        if isinstance(record.get("updated_at"), datetime.datetime):
            value = _TIMES.decode(updated_at)
        if not isinstance(given, MutableMapping):
            return _stored({**given, "updated_at": value})
        record["updated_at"] = value
        return _stored(record)

    def merge(self, previous: str | bytes | None, record: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the JSON of each key of a record's next line.

        Keys of the previous line stay in their order, with their bytes where the value did not
        change; keys that the record lacks go, new ones follow. `updated_at` is left as it stands.

        Args:
            previous: The record's last line, or None for a new record.
            record: The record, whole.

        Raises:
            InvalidIdError: It has no usable id.
            InvalidRecordError: As for `encode`.
        """
        fields = self.encode(record)
        if previous is None:
            return fields
        before = raw_fields(previous)
        fields.pop("updated_at", None)
        if "updated_at" in before:
            fields["updated_at"] = before["updated_at"]
        return replace_fields(before, fields, canonical=_canonical)

    def value_of(self, record: Mapping[str, Any], name: str) -> Any:
        """Return the value of a key; None if the record lacks it."""
        return record.get(name)

    def field(self, name: str) -> FieldInfo:
        """Return a field of any type without default: dicts may have any key."""
        return FieldInfo(name, Any, None, required=False)

    def _refused(self, error: Exception, id: Any, field: str | None) -> InvalidRecordError:
        return InvalidRecordError(
            collection=self.collection,
            id=id if isinstance(id, str) else None,
            field=field if isinstance(field, str) else None,
            reason=str(reason_of(error)),
        )


def _stored(record: Row) -> Row:
    """Return a record with the values that are read back."""
    changed = {}
    for name, value in record.items():
        if value.__class__ in _SURE or value.__class__ is float or name == "updated_at":
            continue
        plain = to_builtins(value)
        if value.__class__ not in (list, dict) or plain != value:
            changed[name] = plain
    return {**record, **changed} if changed else record


def _encode_item(name: str, value: Any) -> bytes | None:
    if value.__class__ in _SURE and name not in _KNOWN:
        raw = json_encode(value)
        return raw if len(raw) <= 308 else encode_value(value)
    if name == "updated_at":
        return encode_version(value)
    if name == "deleted" and value is True:
        raise StructureError("true marks a deleted record: delete it, or remove the key")
    return encode_value(to_builtins(value))


def _canonical(name: str, raw: bytes) -> bytes:
    return encode_value(decode_object(raw))
