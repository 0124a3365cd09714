"""Record types: what is known of a class, and the way from its instances to lines and back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Generic, NoReturn, TypeVar

import msgspec
from attrs.exceptions import FrozenError

from taskstore._format.lines import (
    MAX_LINE_BYTES,
    LineError,
    decode_object,
    join_fields,
    raw_fields,
)
from taskstore._format.names import check_id
from taskstore._records.codec import json_encode, native_decoder
from taskstore._records.declaration import Declaration, read_declaration
from taskstore._records.indexing import IndexField
from taskstore._records.interface import FieldInfo
from taskstore._records.reasons import StructureError, build, nearest, reason_of
from taskstore._records.shape import QuickLine, Shape
from taskstore._records.versions import Claim, VersionForm, claim_of, encode_version
from taskstore.errors import InvalidDeclarationError, InvalidRecordError, UnknownFieldError

T = TypeVar("T")

TYPE = "__taskstore_type__"
"""The attribute of a record class that holds its `RecordType`."""


class RecordType(Generic[T]):
    """A record class as the store sees it: its fields, its codec, its indexes.

    Get it by `RecordType.of`. Every attrs field is stored under its own name, also private ones,
    those with an alias and those that are `init=False`.

    Attributes:
        cls: The class.
        collection: The name of its collection.
        name: The name of the class.
        fields: What is known of each field, in the order of the class.
        index_fields: The indexed ones.
        merge_policies: The merge policy of each field that names one.
        evolutions: How lines from before changes of the class are read.
    """

    __slots__ = (
        "_native",
        "_plan",
        "_quick",
        "_shape",
        "_version",
        "cls",
        "collection",
        "evolutions",
        "fields",
        "index_fields",
        "merge_policies",
        "name",
    )

    def __init__(self, declaration: Declaration) -> None:
        cls: type[T] = declaration.cls
        self.cls = cls
        self.collection = declaration.collection
        self.name = cls.__name__
        self.evolutions = declaration.evolutions
        self.merge_policies: Mapping[str, str] = MappingProxyType(dict(declaration.merge_policies))
        try:
            self._shape = Shape(cls, declaration.hints, declaration.converter)
        except StructureError as error:
            raise InvalidDeclarationError(
                cls.__qualname__, field=error.path.removeprefix(".") or None, reason=error.reason
            ) from None
        self.fields: Mapping[str, FieldInfo] = MappingProxyType(_field_infos(self._shape))
        self.index_fields = tuple(
            IndexField(name, kind, _index_default(self._shape.defaults.get(name)))
            for name, kind in declaration.indexed.items()
        )
        version = declaration.hints.get("updated_at")
        self._version = None if version is None else VersionForm(version)
        # Its decoder is exact only where msgspec reads the version as the log does.
        exact = self._version is None or self._version.is_native
        decoder = native_decoder(cls) if exact and declaration.converter is None else None
        self._native = None if decoder is None else decoder.decode
        self._plan = [
            (name, codec.sure if name != "updated_at" else frozenset[type](), codec.encode)
            for name, codec in self._shape.codecs.items()
        ]
        self._quick = QuickLine(cls, {name: sure for name, sure, _ in self._plan})

    @classmethod
    def of(cls, record_class: type[T]) -> RecordType[T]:
        """Return the record type of a class that `record` has decorated; made once per class.

        Raises:
            InvalidDeclarationError: It is not a record class, or cannot be stored as declared.
            InvalidNameError: Its collection, or a field, has a name that is not allowed.
        """
        known = getattr(record_class, "__dict__", {}).get(TYPE)
        if known is not None:
            found: RecordType[T] = known
            return found
        try:
            return cls.make(record_class)
        except NameError as error:
            raise InvalidDeclarationError(
                record_class.__qualname__,
                reason=f"an annotation cannot be resolved ({error}): declare or import the name "
                "in the module of the class, outside `if TYPE_CHECKING`",
            ) from error

    @classmethod
    def make(cls, record_class: type[T], names: Mapping[str, Any] | None = None) -> RecordType[T]:
        """Make the record type of a class and keep it there.

        Args:
            record_class: The class.
            names: What its annotations may name beyond the globals of its module.

        Raises:
            InvalidDeclarationError: As for `of`.
            InvalidNameError: As for `of`.
            NameError: An annotation names something that does not exist (yet).
        """
        made = cls(read_declaration(record_class, names))
        setattr(record_class, TYPE, made)
        return made

    def __repr__(self) -> str:
        return f"RecordType({self.name}, collection={self.collection!r})"

    def decode(self, line: str | bytes) -> T:
        """Make a record from a line of the log; keys that the class does not have are ignored.

        Raises:
            InvalidRecordError: The line does not fit the class.
        """
        if self._native is not None:
            try:
                record: T = self._native(line)
            except Exception:  # noqa: BLE001 - validators may raise anything; below says what
                return self._decode_fields(line)
            return record
        return self._decode_fields(line)

    def _decode_fields(self, line: str | bytes) -> T:
        """Decode field by field: for classes with converters and the like, and to name a fault."""
        try:
            raws = raw_fields(line)
        except (LineError, msgspec.MsgspecError, ValueError) as error:
            raise InvalidRecordError(
                collection=self.collection, id=None, reason=f"not a line of a record: {error}"
            ) from error
        values: dict[str, Any] = {}
        name: str | None = None
        try:
            for name, codec in self._shape.codecs.items():
                raw = raws.get(name)
                if raw is None:
                    continue
                if name == "updated_at":
                    self._decode_version(raw, values)
                else:
                    values[name] = codec.decode(raw)
            name = None
            made: T = build(self.cls, values)
        except Exception as error:  # noqa: BLE001 - as above
            self._refuse(error, name, _id_in(raws))
        return made

    def _decode_version(self, raw: bytes, values: dict[str, Any]) -> None:
        assert self._version is not None
        value = msgspec.json.decode(raw)
        # A null is as good as no key at all, so the default of the class counts.
        if value is not None or self._version.optional or "updated_at" in self._shape.required:
            values["updated_at"] = self._version.decode(value)

    def _refuse(self, error: Exception, name: str | None, id: str | None) -> NoReturn:
        reason = reason_of(error)
        if name is None:
            name = _field_in(str(reason), self.fields)
        raise InvalidRecordError(
            collection=self.collection, id=id, field=name, reason=str(reason)
        ) from error

    def encode(self, record: T) -> dict[str, bytes]:
        """Return the JSON of each field of a new record, in the order of the class.

        What is returned can be decoded again. `updated_at` is left out if it is 0, None or "".

        Raises:
            InvalidIdError: Its id is not allowed.
            InvalidRecordError: A value does not fit its field's type, or JSON cannot carry it.
        """
        if record.__class__ is not self.cls:
            self._check_class(record)
        id = check_id(getattr(record, "id", None), self.collection)
        fields: dict[str, bytes] = {}
        name = ""
        try:
            for name, sure, encode in self._plan:
                value = getattr(record, name)
                if value.__class__ in sure:
                    fields[name] = raw = json_encode(value)
                    if len(raw) > 308 and value.__class__ is int:
                        encode(value)
                elif name == "updated_at":
                    version = encode_version(value)
                    if version is not None:
                        fields[name] = version
                else:
                    fields[name] = encode(value)
        except (ValueError, AttributeError) as error:
            self._refuse(error, name, id)
        check_line_size(fields, self.collection, id)
        return fields

    def quick_line(self, record: T, updated_at: int | str) -> bytes | None:
        """Return the line of a new record, as `encode` makes it, with a version; see `QuickLine`.

        Args:
            record: The record; its id has been checked.
            updated_at: What the line's `updated_at` is to say.

        Returns:
            None if `encode` has to look closer, or finds a fault.
        """
        return self._quick.of(record, updated_at)

    def _check_class(self, record: Any) -> None:
        if not isinstance(record, self.cls):
            raise InvalidRecordError(
                collection=self.collection,
                id=None,
                reason=f"expected a record of class {self.name}, got {type(record).__name__}",
            )

    def id_of(self, record: T) -> str:
        """Return the id of a record.

        Raises:
            InvalidIdError: The id is not allowed.
        """
        self._check_class(record)
        return check_id(getattr(record, "id", None), self.collection)

    def claim(self, record: T) -> Claim | None:
        """Return the version that a record carries, or None if it claims none.

        Raises:
            InvalidRecordError: Its `updated_at` is not a version.
        """
        if self._version is None:
            return None
        try:
            return claim_of(getattr(record, "updated_at", None))
        except StructureError as error:
            self._refuse(error, "updated_at", getattr(record, "id", None))

    def stamped(self, record: T, updated_at: int | str) -> T:
        """Set the version of a record, in the form that its class gives to it.

        Args:
            record: The record. It is changed in place, unless it is frozen.
            updated_at: Milliseconds since the epoch, or RFC 3339 text.

        Returns:
            The record; a copy if it is frozen. Without a field `updated_at`, as it was.
        """
        if self._version is None:
            return record
        value = self._version.stamped(updated_at, getattr(record, "updated_at", None))
        try:
            record.updated_at = value  # type: ignore[attr-defined]
        except FrozenError:
            record = copy.copy(record)
            object.__setattr__(record, "updated_at", value)
        return record

    def merge(self, previous: str | bytes | None, record: T) -> dict[str, bytes]:
        """Return the JSON of each field of a record's next line.

        The keys of the previous line stay in their order, with their bytes where the value did
        not change and also where the class does not know them; new keys follow, but none that
        equals its default. `updated_at` is left as it stands there.

        Args:
            previous: The record's last line, or None for a new record.
            record: The record.

        Raises:
            InvalidIdError: Its id is not allowed.
            InvalidRecordError: A value does not fit its field's type, or JSON cannot carry it.
        """
        fields = self.encode(record)
        if previous is None:
            return fields
        fields.pop("updated_at", None)
        merged = self._shape.merge(raw_fields(previous), fields)
        if merged.get("deleted") == b"true":
            del merged["deleted"]
        check_line_size(merged, self.collection, getattr(record, "id", None))
        return merged

    def value_of(self, record: T, name: str) -> Any:
        """Return the value of a field of a record.

        Raises:
            UnknownFieldError: The class has no such field.
        """
        self.field(name)
        return getattr(record, name)

    def field(self, name: str) -> FieldInfo:
        """Return what is known of a field.

        Raises:
            UnknownFieldError: The class has no such field; the nearest is named.
        """
        found = self.fields.get(name)
        if found is None:
            raise UnknownFieldError(
                name, type_name=self.name, nearest=nearest(name, list(self.fields))
            )
        return found


def check_line_size(fields: Mapping[str, bytes], collection: str, id: str | None) -> None:
    """Refuse a record whose line would be longer than any reader accepts.

    Raises:
        InvalidRecordError: It would be.
    """
    # The sum is a first look: a key's character takes 6 bytes at most, with its quotes and marks.
    if sum(map(len, fields.values())) + 12 * sum(map(len, fields)) < MAX_LINE_BYTES:
        return
    if len(join_fields(fields)) <= MAX_LINE_BYTES:
        return
    largest = max(fields, key=lambda name: len(fields[name]))
    raise InvalidRecordError(
        collection=collection,
        id=id,
        field=largest,
        reason=f"its line would be longer than {MAX_LINE_BYTES // 2**20} MiB "
        f"({len(fields[largest])} bytes are in this field): keep large content in a file beside "
        "the store",
    )


def _field_infos(shape: Shape) -> dict[str, FieldInfo]:
    return {
        name: FieldInfo(name, codec.hint, shape.defaults.get(name), name in shape.required)
        for name, codec in shape.codecs.items()
    }


def _index_default(default: bytes | None) -> str | None:
    return None if default is None or default == b"null" else default.decode()


def _id_in(raws: Mapping[str, bytes]) -> str | None:
    found = decode_object(b'{"id":%b}' % raws.get("id", b"null"))["id"]
    return found if isinstance(found, str) else None


def _field_in(reason: str, names: Mapping[str, Any]) -> str | None:
    """Find the field of which a validator complains: "'age' must be >= 0: -1"."""
    for quote in "'`":
        start, _, rest = reason.partition(quote)
        name = rest.partition(quote)[0]
        if not start.strip() and name in names:
            return name
    last = reason.rpartition("field ")[2]
    return last if last in names else None
