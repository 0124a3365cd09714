"""A resolved mirrored model: its fields, its key, its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import attrs
import msgspec
from sqlalchemy import Column, Table, type_coerce
from sqlalchemy.orm import Mapper

from taskstore._format.instants import parse_instant
from taskstore._format.lines import decode_object, encode_value
from taskstore._format.names import check_id
from taskstore._mirror.model.counted_keys import Translated
from taskstore._mirror.model.values import Codec
from taskstore._records.versions import Claim, claim_of

NUMBER = "_number"
"""The key of a line that says which number the creator of a row has used."""

_NUMBERS = 2**53


# Asked for every row of a flush.
_primary_names: WeakKeyDictionary[Mapper[Any], tuple[str, ...]] = WeakKeyDictionary()


def primary_names(mapper: Mapper[Any]) -> tuple[str, ...]:
    """Return the attributes of a class that are its primary key."""
    found = _primary_names.get(mapper)
    if found is None:
        found = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
        _primary_names[mapper] = found
    return found


@attrs.frozen(eq=False)
class Field:
    """A mapped attribute that travels.

    Attributes:
        name: The attribute.
        columns: Its column in each table that has it.
        codec: How its values travel.
        key: The line's key, which is the attribute's name unless lines use that for something else.
        translated: How numbers of this database become ids, where they are such.
    """

    name: str
    columns: tuple[Column[Any], ...]
    codec: Codec
    key: str = attrs.field()
    translated: Translated | None = None

    @key.default
    def _key(self) -> str:
        return self.name

    @property
    def column(self) -> Column[Any]:
        """The column that is read."""
        return self.columns[0]

    @property
    def is_own(self) -> bool:
        """Whether it is the number of the row itself, which the line has as its id."""
        return self.translated is not None and self.translated.own

    def typed(self, column: Column[Any]) -> Any:
        """Return one of its columns as it is read, and as values are bound for it."""
        return column if self.translated is None else type_coerce(column, self.translated)

    def default(self) -> bytes | None:
        """Return the JSON of the value that a row gets if its line lacks the key, if known."""
        default: Any = self.column.default
        if default is not None and default.is_scalar and self.translated is None:
            return self.codec.raw(default.arg)
        server: Any = self.column.server_default
        if self.translated is not None and server is not None:
            return None
        if default is not None or server is None:
            return b"null" if default is None and self.column.nullable else None
        literal = getattr(server, "arg", None)
        if not isinstance(literal, str):
            return None
        return self.codec.canonical(encode_value(literal)) or self.codec.canonical(literal.encode())


@attrs.frozen(eq=False)
class Shape:
    """One class of a mirrored hierarchy, or a table.

    Attributes:
        mapper: Of the class; None for a table.
        identity: The discriminator's value; None if there is none.
        tables: Its tables, parents first.
        source: What its rows are selected from.
        fields: What travels, by attribute; the version is not among them.
        below: The classes below that nothing in a row tells apart from this one.
        references: Those of them that refer to counted rows.
        parts: What its lines have besides the id and the version: the attribute, the line's key,
            the type of plain values, and the field.
    """

    mapper: Mapper[Any] | None
    identity: Any
    tables: tuple[Table, ...]
    source: Any
    fields: Mapping[str, Field]
    below: tuple[Mapper[Any], ...] = ()
    references: tuple[Field, ...] = attrs.field(init=False)
    parts: tuple[tuple[str, str, type | None, Field], ...] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        found = [f for f in self.fields.values() if f.translated is not None and not f.is_own]
        object.__setattr__(self, "references", tuple(found))
        parts = [
            (name, f.key, f.codec.plain, f)
            for name, f in self.fields.items()
            if f.key != "id" and not f.is_own
        ]
        object.__setattr__(self, "parts", tuple(parts))

    def columns_in(self, table: Table) -> list[tuple[Column[Any], Field]]:
        """Return the columns of one of its tables that travel, with their fields."""
        return [
            (column, field)
            for field in self.fields.values()
            for column in field.columns
            if column.table is table
        ]

    @property
    def mappers(self) -> tuple[Mapper[Any], ...]:
        """The classes whose instances are such rows; none for a table."""
        return () if self.mapper is None else (self.mapper, *self.below)


@attrs.define
class Row:
    """A row of a mirrored table.

    Attributes:
        id: Its id in the log.
        shape: Its class.
        values: Its values by attribute, without the version.
        version: The value of its version column; None if there is none.
        number: The key that its database counted, or that of its first one; None if none does.
        flaw: Why it cannot be read, and has the values of its key alone; "" if it can.
    """

    id: str
    shape: Shape
    values: dict[str, Any]
    version: Any = None
    number: int | None = None
    flaw: str = ""

    def encoded(self) -> dict[str, bytes]:
        """Return its values as JSON.

        Raises:
            ValueError: JSON cannot carry one. The message names the attribute.
        """
        found = {"id": encode_value(self.id)}
        for name, field in self.shape.fields.items():
            if field.key != "id" and not field.is_own:
                try:
                    found[field.key] = field.codec.raw(self.values[name])
                except ValueError as error:
                    raise ValueError(f"attribute {name!r}: {error}") from None
        return found


@attrs.define(eq=False, slots=False)
class Mirror:
    """A mirrored model with its subclasses, or an association table.

    Attributes:
        target: The class or table that was given.
        name: How messages call it.
        collection: The collection of its lines.
        shapes: Of the base first, then of its subclasses.
        key: The attributes whose values make the id.
        version: The attribute that holds the version; None if only the log has it.
        discriminator: The attribute that tells the subclasses apart; None if none are.
        number: The counted key that stays out of its lines, where other rows refer to it.
        merge: Merge policies by attribute.
        local: The attributes whose foreign keys may lead out of the log.
    """

    target: Any
    name: str
    collection: str
    shapes: tuple[Shape, ...]
    key: tuple[str, ...]
    version: Field | None
    discriminator: str | None = None
    merge: Mapping[str, str] = attrs.field(factory=dict)
    local: frozenset[str] = frozenset()
    number: Field | None = None

    @property
    def base(self) -> Shape:
        """The shape of the class itself."""
        return self.shapes[0]

    @property
    def table(self) -> Table:
        """The table that every row is in."""
        return self.base.tables[0]

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """All tables of its classes, each after those that its rows inherit from."""
        return tuple(dict.fromkeys(table for shape in self.shapes for table in shape.tables))

    @property
    def is_joined(self) -> bool:
        """Whether some classes have rows in more than one table."""
        return len(self.tables) > 1

    @property
    def counted(self) -> Column[Any] | None:
        """The column of its table that each database counts, and whose numbers have ids."""
        if self.number is not None:
            return self.number.column
        return self.key_fields[0].columns[-1] if self.is_counted else None

    @cached_property
    def is_counted(self) -> bool:
        """Whether its key is counted by each database for itself."""
        return any(field.is_own for field in self.key_fields)

    @cached_property
    def is_translated(self) -> bool:
        """Whether its key has numbers of this database."""
        return any(field.translated is not None for field in self.key_fields)

    def typed(self, column: Column[Any]) -> Any:
        """Return a column of its tables as it is read, and as values are bound for it."""
        translated = self.translated(column)
        return column if translated is None else type_coerce(column, translated)

    def translated(self, column: Column[Any]) -> Translated | None:
        """Return how the numbers in a column of its tables become ids; None if it has none."""
        return self._translated.get(column)

    @cached_property
    def _translated(self) -> dict[Column[Any], Translated]:
        found = {
            column: field.translated
            for shape in self.shapes
            for field in (*shape.fields.values(), self.number)
            if field is not None and field.translated is not None
            for column in field.columns
        }
        for shape in self.shapes:
            for table in shape.tables:
                for column in table.primary_key.columns:
                    # A subclass may call its key otherwise, and only refer to that of its base.
                    for known in list(found):
                        if column not in found and column.references(known):
                            found[column] = found[known]
        return found

    @cached_property
    def key_fields(self) -> tuple[Field, ...]:
        """The fields of the key."""
        return tuple(self.base.fields[name] for name in self.key)

    def listens(self, mapper: Mapper[Any], name: str) -> bool:
        """Return whether something listens to changes of an attribute of a class."""
        return bool(mapper.class_manager[name].dispatch.set)

    def id_of(self, values: Iterable[Any]) -> str:
        """Return the id of a row by the values of its key.

        Raises:
            InvalidIdError: They make none.
            ValueError: JSON cannot carry one of them.
        """
        fields = self.key_fields
        if len(fields) == 1:
            [value] = values
            if type(value) is str and fields[0].codec.plain is str:
                return check_id(value, self.collection)
            raws = [fields[0].codec.raw(value)]
        else:
            raws = [field.codec.raw(value) for field, value in zip(fields, values, strict=True)]
        if len(raws) > 1:
            text = b"[%b]" % b",".join(raws)
        elif raws[0].startswith(b'"'):
            return check_id(msgspec.json.decode(raws[0]), self.collection)
        elif fields[0].codec.kind == "str":
            raise ValueError(f"{value!r} is not a key: expected str")
        else:
            text = raws[0]
        return check_id(text.decode(), self.collection)

    def key_of(self, id: str) -> tuple[Any, ...]:
        """Return the values of the key that an id is made of.

        Raises:
            ValueError: It is not an id of these rows. The message is the reason alone.
        """
        fields = self.key_fields
        if len(fields) == 1 and fields[0].codec.plain is str:
            # Such an id is the value itself, as `id_of` would write it.
            return (fields[0].codec.from_json(check_id(id, self.collection)),)
        try:
            if len(fields) > 1:
                parts = msgspec.json.decode(id)
            elif fields[0].codec.kind == "str":
                parts = [id]
            else:
                parts = [msgspec.json.decode(id)]
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise ValueError(f"the id {id!r} is not a key: {error}") from None
        if not isinstance(parts, list) or len(parts) != len(fields) or None in parts:
            raise ValueError(f"the id {id!r} is not a key of {len(fields)} columns")
        values = tuple(f.codec.from_json(part) for f, part in zip(fields, parts, strict=True))
        if self.id_of(values) != id:
            raise ValueError(f"the id {id!r} is not how the key {values!r} is written")
        return values

    def decoded(self, id: str, raw: bytes | str) -> Row:
        """Return the row that a good line asks for.

        Raises:
            ValueError: It does not fit. The message is the reason alone.
        """
        line = decode_object(raw)
        shape = self._shape_for(line)
        values = dict(zip(self.key, self.key_of(id), strict=True))
        for name, key, plain, field in shape.parts:
            if key not in line:
                continue
            value = line[key]
            # A text that is a plain one is what its column holds.
            if not (plain is str and type(value) is str):
                try:
                    value = field.codec.from_json(value)
                except ValueError as error:
                    raise ValueError(f"{name!r}: {error}") from None
            if name in values and values[name] != value:
                raise ValueError(f"{name!r} is {value!r}, and the id says {values[name]!r}")
            values[name] = value
        if self.discriminator is not None:
            values.setdefault(self.discriminator, shape.identity)
        number = _number_of(line) if self.is_counted else None
        return Row(id, shape, values, self._version_of(line), number)

    def _shape_for(self, line: Mapping[str, Any]) -> Shape:
        if self.discriminator is None:
            return self.base
        field = self.base.fields[self.discriminator]
        return self.shape_of(field.codec.from_json(line.get(field.key)))

    def shape_of(self, identity: Any) -> Shape:
        """Return the shape of a discriminator's value.

        Raises:
            ValueError: There is no such class. The message is the reason alone.
        """
        for shape in self.shapes:
            if shape.identity == identity:
                return shape
        raise ValueError(
            f"no class of {self.name} has the identity {identity!r}: give the row that of a class"
        )

    def _version_of(self, line: Mapping[str, Any]) -> Any:
        return None if self.version is None else self.version_value(line.get("updated_at"))

    def version_value(self, stamp: int | str | None) -> Any:
        """Return a line's `updated_at` as the version column holds it."""
        assert self.version is not None
        codec = self.version.codec
        if codec.plain is int and type(stamp) is int:
            return stamp
        order_us = parse_instant(stamp)
        if codec.instant is not None:
            return codec.instant(order_us)
        if codec.python == "int":
            return codec.decode(order_us // 1000)
        if codec.python == "str" and isinstance(stamp, str):
            return codec.decode(stamp)
        return codec.decode(rfc3339(order_us))

    def claim(self, version: Any) -> Claim | None:
        """Return what a version claims that a row carries or has; None for nothing.

        Raises:
            StructureError: It is not a version.
        """
        assert self.version is not None
        codec = self.version.codec
        if version is not None and codec.python != "datetime" and type(version) not in (int, str):
            try:
                # As it is stored, with the precision of that.
                version = codec.encode(version)
            except Exception:  # noqa: BLE001 - a type of the application's own raises anything
                return claim_of(version)
        return claim_of(version)

    def order_of(self, version: Any) -> int | None:
        """Return the order, in microseconds, of what a version column holds; None for nothing."""
        claim = self.claim(version)
        return None if claim is None else claim.order_us


def _number_of(line: Mapping[str, Any]) -> int | None:
    """The number that the creator of a row has used, if it is one that SQLite counts on from."""
    found = line.get(NUMBER)
    return found if type(found) is int and abs(found) < _NUMBERS else None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(order_us: int) -> str:
    """Return an instant as text, with as many digits as it needs."""
    moment = _EPOCH + timedelta(microseconds=order_us)
    digits = "microseconds" if order_us % 1000 else "milliseconds"
    return moment.isoformat(timespec=digits).replace("+00:00", "Z")
