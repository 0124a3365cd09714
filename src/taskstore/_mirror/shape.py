"""What is known of a mirrored model once it is resolved: its fields, its key, its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import attrs
import msgspec
from sqlalchemy import Column, Integer, String, Table, Uuid
from sqlalchemy.orm import Mapper

from taskstore._format.instants import parse_instant
from taskstore._format.lines import encode_value
from taskstore._format.names import check_id
from taskstore._mirror.values import Codec
from taskstore._records.versions import Claim, claim_of

__all__ = ["Field", "Mirror", "Row", "Shape", "primary_names"]

_PLAIN = (String, Integer, Uuid)


def primary_names(mapper: Mapper[Any]) -> tuple[str, ...]:
    """Return the attributes of a class that are its primary key."""
    return tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)


@attrs.frozen(eq=False)
class Field:
    """A mapped attribute that travels.

    Attributes:
        name: the attribute, which is the line's key.
        columns: its column in each table that has it.
        codec: how its values travel.
    """

    name: str
    columns: tuple[Column[Any], ...]
    codec: Codec

    @property
    def column(self) -> Column[Any]:
        """The column that is read."""
        return self.columns[0]

    def default(self) -> bytes | None:
        """Return the JSON of what a row gets where its line lacks the key, if that can be told."""
        default: Any = self.column.default
        if default is not None and default.is_scalar:
            return self.codec.raw(default.arg)
        server: Any = self.column.server_default
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
        mapper: of the class; None for a table.
        identity: the discriminator's value; None where there is none.
        tables: its tables, parents first.
        source: what its rows are selected from.
        fields: what travels, by attribute; the version is not among them.
    """

    mapper: Mapper[Any] | None
    identity: Any
    tables: tuple[Table, ...]
    source: Any
    fields: Mapping[str, Field]


@attrs.frozen
class Row:
    """A row of a mirrored table.

    Attributes:
        id: its id in the log.
        shape: its class.
        values: its values by attribute, without the version.
        version: the value of its version column; None where there is none.
        flaw: why it cannot be read, and has the values of its key alone; "" if it can.
    """

    id: str
    shape: Shape
    values: dict[str, Any]
    version: Any = None
    flaw: str = ""

    def encoded(self) -> dict[str, bytes]:
        """Return its values as JSON.

        Raises:
            ValueError: JSON cannot carry one. The message names the attribute.
        """
        found = {"id": encode_value(self.id)}
        for name, field in self.shape.fields.items():
            if name != "id":
                try:
                    found[name] = field.codec.raw(self.values[name])
                except ValueError as error:
                    raise ValueError(f"attribute {name!r}: {error}") from None
        return found


@attrs.define(eq=False, slots=False)
class Mirror:
    """A mirrored model with its subclasses, or an association table.

    Attributes:
        target: the class or table that was given.
        name: how messages call it.
        collection: the collection of its lines.
        shapes: of the base first, then of its subclasses.
        key: the attributes whose values make the id.
        version: the attribute that holds the version; None where only the log has it.
        discriminator: the attribute that tells the subclasses apart; None where none are.
    """

    target: Any
    name: str
    collection: str
    shapes: tuple[Shape, ...]
    key: tuple[str, ...]
    version: Field | None
    discriminator: str | None = None
    merge: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def base(self) -> Shape:
        """The shape of the class itself."""
        return self.shapes[0]

    @property
    def table(self) -> Table:
        """The table that every row is in."""
        return self.base.tables[0]

    @cached_property
    def key_fields(self) -> tuple[Field, ...]:
        """The fields of the key."""
        return tuple(self.base.fields[name] for name in self.key)

    @cached_property
    def reads_key_as_bound(self) -> bool:
        """Whether a key reads back as it was given; dates and numbers may lose a part."""
        return all(isinstance(field.column.type, _PLAIN) for field in self.key_fields)

    @property
    def is_association(self) -> bool:
        """Whether it is a table without a class."""
        return self.base.mapper is None

    def id_of(self, values: Iterable[Any]) -> str:
        """Return the id of a row by the values of its key.

        Raises:
            InvalidIdError: they make none.
            ValueError: JSON cannot carry one of them.
        """
        raws = [
            field.codec.raw(value) for field, value in zip(self.key_fields, values, strict=True)
        ]
        if len(raws) > 1:
            text = b"[%b]" % b",".join(raws)
        elif raws[0].startswith(b'"'):
            return check_id(msgspec.json.decode(raws[0]), self.collection)
        else:
            text = raws[0]
        return check_id(text.decode(), self.collection)

    def settled_id(self, values: Iterable[Any]) -> str | None:
        """Return the id of a row by a key that was not read; None if it may read back otherwise.

        Raises:
            InvalidIdError, ValueError: as `id_of`.
        """
        id = self.id_of(values)
        try:
            self.key_of(id)
        except ValueError:
            return None
        return id

    def key_of(self, id: str) -> tuple[Any, ...]:
        """Return the values of the key that an id is made of.

        Raises:
            ValueError: it is no id of these rows. The message is the reason alone.
        """
        fields = self.key_fields
        try:
            if len(fields) > 1:
                parts = msgspec.json.decode(id)
            elif fields[0].codec.kind == "str":
                parts = [id]
            else:
                parts = [msgspec.json.decode(id)]
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise ValueError(f"the id {id!r} is no key: {error}") from None
        if not isinstance(parts, list) or len(parts) != len(fields) or None in parts:
            raise ValueError(f"the id {id!r} is no key of {len(fields)} columns")
        values = tuple(f.codec.from_json(part) for f, part in zip(fields, parts, strict=True))
        if self.id_of(values) != id:
            raise ValueError(f"the id {id!r} is not how the key {values!r} is written")
        return values

    def decoded(self, id: str, line: Mapping[str, bytes]) -> Row:
        """Return the row that a line asks for.

        Raises:
            ValueError: it does not fit. The message is the reason alone.
        """
        shape = self._shape_for(line)
        values = dict(zip(self.key, self.key_of(id), strict=True))
        for name, field in shape.fields.items():
            if name == "id" or name not in line:
                continue
            try:
                value = field.codec.value(line[name])
            except ValueError as error:
                raise ValueError(f"{name!r}: {error}") from None
            if name in values and values[name] != value:
                raise ValueError(f"{name!r} is {value!r}, and the id says {values[name]!r}")
            values[name] = value
        if self.discriminator is not None:
            values.setdefault(self.discriminator, shape.identity)
        return Row(id, shape, values, self._version_of(line))

    def _shape_for(self, line: Mapping[str, bytes]) -> Shape:
        if self.discriminator is None:
            return self.base
        raw = line.get(self.discriminator)
        found = None
        if raw is not None:
            found = self.base.fields[self.discriminator].codec.value(raw)
        return self.shape_of(found)

    def shape_of(self, identity: Any) -> Shape:
        """Return the shape of a discriminator's value.

        Raises:
            ValueError: there is no such class. The message is the reason alone.
        """
        for shape in self.shapes:
            if shape.identity == identity:
                return shape
        raise ValueError(f"no class of {self.name} has the identity {identity!r}")

    def _version_of(self, line: Mapping[str, bytes]) -> Any:
        if self.version is None:
            return None
        raw = line.get("updated_at")
        return self.version_value(None if raw is None else msgspec.json.decode(raw))

    def version_value(self, stamp: int | str | None) -> Any:
        """Return a line's `updated_at` as the version column holds it."""
        assert self.version is not None
        codec = self.version.codec
        order_us = parse_instant(stamp)
        if codec.python == "int":
            return codec.decode(order_us // 1000)
        if codec.python == "str" and isinstance(stamp, str):
            return codec.decode(stamp)
        return codec.decode(rfc3339(order_us))

    def claim(self, version: Any) -> Claim | None:
        """Return what a version claims that a row carries or has; None for nothing.

        Raises:
            StructureError: it is no version.
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


def rfc3339(order_us: int) -> str:
    """Return an instant as text, with as many digits as it needs."""
    from datetime import UTC, datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=order_us)
    digits = "microseconds" if order_us % 1000 else "milliseconds"
    return moment.isoformat(timespec=digits).replace("+00:00", "Z")
