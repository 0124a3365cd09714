"""A row of `records` as a program sees it: an instance of a record class, or read-only data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from taskstore._cache.sql.json_fields import value as json_value
from taskstore._format.instants import parse_instant
from taskstore._format.lines import decode_envelope, decode_object, encode_value, join_fields
from taskstore.errors import InvalidRecordError

if TYPE_CHECKING:
    from typing import Self

    from sqlalchemy import ColumnElement


def _refuse(self: object, *_: object, **__: object) -> NoReturn:
    raise TypeError("row.data is read-only: replace it whole, as in row.data = {**row.data, ...}")


class _FrozenDict(dict[str, Any]):
    """A dict that compares, prints and encodes as one, and refuses every change."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {key: _thawed(value) for key, value in self.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return frozen, (self.__deepcopy__({}),)


class _FrozenList(list[Any]):
    """A list that compares, prints and encodes as one, and refuses every change."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [_thawed(value) for value in self]

    def __reduce__(self) -> tuple[Any, ...]:
        return frozen, (self.__deepcopy__({}),)


EMPTY: Mapping[str, Any] = _FrozenDict()


def frozen(value: Any) -> Any:
    """Return JSON builtins as dicts and lists that refuse every change, at every depth.

    `copy.deepcopy` of the result gives plain ones back, which can be changed.
    """
    if isinstance(value, dict):
        return _FrozenDict({key: frozen(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return _FrozenList([frozen(item) for item in value])
    return value


def _thawed(value: Any) -> Any:
    if isinstance(value, _FrozenDict | _FrozenList):
        return value.__deepcopy__({})
    return value


_COLUMNS = frozenset({"collection", "id", "data_json", "updated_at", "updated_at_us"})


class RecordFace:
    """The behaviour of `StoredRecord`; its columns are None until they are set."""

    if TYPE_CHECKING:
        collection: Any
        id: Any
        data_json: Any
        updated_at: Any
        updated_at_us: Any

    def __init__(self, *, data: Mapping[str, Any] | None = None, **columns: Any) -> None:
        unknown = columns.keys() - _COLUMNS
        if unknown:
            raise TypeError(f"{min(unknown)!r} is an invalid keyword argument for StoredRecord")
        for name, value in columns.items():
            setattr(self, name, value)
        if data is not None:
            self.data = data

    @classmethod
    def from_record(cls, record: Any) -> Self:
        """Return a new row for an instance of a record class.

        Raises:
            InvalidRecordError, InvalidIdError: The record cannot be stored.
        """
        from taskstore._records.types import RecordType

        record_type = RecordType.of(type(record))
        line = join_fields(record_type.encode(record))
        row = cls(
            collection=record_type.collection, id=record_type.id_of(record), data_json=line.decode()
        )
        order_us = decode_envelope(line).order_us
        if order_us:
            row.updated_at, row.updated_at_us = order_us // 1000, order_us
        return row

    def as_record(self, cls: Any) -> Any:
        """Return the record as an instance of the record class `cls`.

        Raises:
            InvalidRecordError: The row belongs to another collection, or does not fit the class.
        """
        from taskstore._records.types import RecordType

        record_type = RecordType.of(cls)
        self._check_collection(record_type.collection, cls)
        line = self.data_json
        return record_type.decode("{}" if line is None else line)

    def assign(self, record: Any) -> None:
        """Take over the fields of a record with the same id; keys it does not know are kept.

        The version that the record carries is taken over too, so that the flush can tell whether
        the row was changed since.

        Raises:
            InvalidRecordError: The record has another id or collection, or cannot be stored.
        """
        from taskstore._records.types import RecordType

        record_type = RecordType.of(type(record))
        self._check_collection(record_type.collection, type(record))
        id = record_type.id_of(record)
        held = self.id
        if held is not None and id != held:
            raise InvalidRecordError(
                collection=record_type.collection,
                id=held,
                field="id",
                reason=f"cannot take over the record {id!r}: add a row of its own for it",
            )
        fields = dict(record_type.merge(self.data_json, record))
        version = record_type.encode(record).get("updated_at")
        if version is not None:
            fields["updated_at"] = version
        self.id = id
        self.data_json = join_fields(fields).decode()

    @property
    def data(self) -> Mapping[str, Any]:
        """The whole record, deeply read-only; set it to replace the record.

        Setting raises InvalidRecordError for what JSON cannot carry.
        """
        line = self.data_json
        if line is None:
            return EMPTY
        cached = self.__dict__.get("_taskstore_data")
        if cached is None or cached[0] is not line:
            cached = self.__dict__["_taskstore_data"] = (line, frozen(decode_object(line)))
        data: Mapping[str, Any] = cached[1]
        return data

    @data.setter
    def data(self, data: Mapping[str, Any]) -> None:
        try:
            self.data_json = encode_value(dict(data)).decode()
            parse_instant(data.get("updated_at"))
        except ValueError as error:
            raise InvalidRecordError(
                collection=self.collection or "?", id=self.id, field="data", reason=str(error)
            ) from None

    @classmethod
    def value(cls, field: str) -> ColumnElement[Any]:
        """Return an SQL expression for a field of the record, for your own queries.

        Raises:
            InvalidNameError: `field` is no valid field name.
        """
        return json_value(cls, field)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(collection={self.collection!r}, id={self.id!r})"

    def _check_collection(self, collection: str, cls: type[Any]) -> None:
        held = self.collection
        if held is None:
            self.collection = collection
        elif held != collection:
            raise InvalidRecordError(
                collection=held,
                id=self.id,
                reason=f"the row is no {cls.__name__}, which belongs to {collection!r}",
            )
