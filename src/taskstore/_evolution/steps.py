"""The steps of an evolution: what each does to the fields of one record.

A step is total: a value that it cannot change stays what it is, so that no line becomes unreadable.
They are structs: attrs classes take longer to make, and the package imports them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar, Protocol

import msgspec

from taskstore._evolution.values import CONVERTERS, canonical, text_of
from taskstore._format.lines import encode_value

Fields = dict[str, msgspec.Raw]
"""The keys of a record with the JSON text of their values."""

_Raw = msgspec.Raw
_decode = msgspec.json.Decoder().decode
_NULL = _Raw(b"null")
_SHORT = 64
"""No text that is longer, in bytes, can be converted to another type."""


class Step(Protocol):
    """One change of a record's shape."""

    kind: ClassVar[str]

    @property
    def touched(self) -> frozenset[str]:
        """The fields that it reads or writes."""
        ...

    def apply(self, fields: Fields) -> Fields:
        """Return the fields in the new shape; the given ones may be changed on the way."""
        ...

    def inverse(self) -> tuple[Step, ...]:
        """Return the inverse steps; nothing if nothing can or need be reversed."""
        ...


class Rename(msgspec.Struct, frozen=True):
    """Fields get other names; a key that had such a name before is replaced.

    Attributes:
        names: The new name of each field.
    """

    kind: ClassVar[str] = "rename"
    names: Mapping[str, str]

    @property
    def touched(self) -> frozenset[str]:
        """Both names of each field."""
        return frozenset({*self.names, *self.names.values()})

    def apply(self, fields: Fields) -> Fields:
        """Return the fields under their new names, in their order."""
        # This runs for half a million records, so it makes no set if a list is enough.
        names = self.names
        taken = [names[old] for old in names if old in fields]
        if not taken:
            return fields
        name_of = names.get
        for new in taken:
            if new in fields:
                break
        else:
            return {name_of(key, key): value for key, value in fields.items()}
        return {
            name_of(key, key): value
            for key, value in fields.items()
            if key in names or key not in taken
        }

    def inverse(self) -> tuple[Step, ...]:
        """Return the step that gives the old names back."""
        return (Rename({new: old for old, new in self.names.items()}),)


class Drop(msgspec.Struct, frozen=True):
    """Fields are no part of the record any more. Old lines keep them.

    Attributes:
        names: Their names.
    """

    kind: ClassVar[str] = "drop"
    names: tuple[str, ...]

    @property
    def touched(self) -> frozenset[str]:
        """The fields."""
        return frozenset(self.names)

    def apply(self, fields: Fields) -> Fields:
        """Return the record without the fields."""
        for name in self.names:
            fields.pop(name, None)
        return fields

    def inverse(self) -> tuple[Step, ...]:
        """Return nothing: what a newer line does not have cannot be restored."""
        return ()


class Default(msgspec.Struct, frozen=True):
    """Fields that a record lacks get a value.

    Attributes:
        values: The JSON text of each value, by field.
    """

    kind: ClassVar[str] = "default"
    values: Mapping[str, bytes]

    @property
    def touched(self) -> frozenset[str]:
        """The fields."""
        return frozenset(self.values)

    def apply(self, fields: Fields) -> Fields:
        """Return the record with a value for each of the fields."""
        for name, value in self.values.items():
            if name not in fields:
                fields[name] = _Raw(value)
        return fields

    def inverse(self) -> tuple[Step, ...]:
        """Return nothing: an older program keeps keys that it does not know."""
        return ()


class Convert(msgspec.Struct, frozen=True):
    """The values of a field get another JSON type.

    Attributes:
        name: The field.
        to: "int", "float", "str" or "bool".
        was: The type before, where that is stated.
    """

    kind: ClassVar[str] = "convert"
    name: str
    to: str
    was: str | None = None

    @property
    def touched(self) -> frozenset[str]:
        """The field."""
        return frozenset({self.name})

    def apply(self, fields: Fields) -> Fields:
        """Return the record with the field's value converted, if it can be."""
        raw = fields.get(self.name)
        if raw is not None:
            text = bytes(raw)
            if len(text) <= _SHORT:
                fields[self.name] = _converted(self.to, text)
        return fields

    def fits(self, raw: bytes) -> bool:
        """Say whether a value, as it is after the step, has the type or is null."""
        value = _decode(raw)
        return value is None or type(value).__name__ == self.to

    def inverse(self) -> tuple[Step, ...]:
        """Return the conversion to the type before, where that is stated."""
        return () if self.was is None else (Convert(self.name, self.was, self.to),)


class Map(msgspec.Struct, frozen=True):
    """The values of a field are replaced by way of a table; others stay.

    Attributes:
        name: The field.
        table: The JSON text of each new value, by that of the old one.
    """

    kind: ClassVar[str] = "map"
    name: str
    table: Mapping[bytes, bytes]

    @property
    def touched(self) -> frozenset[str]:
        """The field."""
        return frozenset({self.name})

    def apply(self, fields: Fields) -> Fields:
        """Return the record with the field's value replaced, if the table has it."""
        raw = fields.get(self.name)
        if raw is not None:
            text = bytes(raw)
            found = self.table.get(text)
            if found is None:
                found = self.table.get(canonical(text))
            if found is not None:
                fields[self.name] = _Raw(found)
        return fields

    def inverse(self) -> tuple[Step, ...]:
        """Return the table read backwards; nothing where two values became one."""
        back = {new: old for old, new in self.table.items()}
        return (Map(self.name, back),) if len(back) == len(self.table) else ()


class Split(msgspec.Struct, frozen=True):
    """The text of a field is cut at a separator into several fields.

    Attributes:
        name: The field, which is gone afterwards.
        into: The fields; the last one gets all that is left, and those without a part are empty.
        separator: Where to cut.
    """

    kind: ClassVar[str] = "split"
    name: str
    into: tuple[str, ...]
    separator: str

    @property
    def touched(self) -> frozenset[str]:
        """The field and its parts."""
        return frozenset({self.name, *self.into})

    def apply(self, fields: Fields) -> Fields:
        """Return the record with the parts, if the field is a text or null."""
        raw = fields.get(self.name)
        if raw is None:
            return fields
        text = text_of(bytes(raw))
        if text is None:
            if bytes(raw) != b"null":
                return fields
            values = [_NULL] * len(self.into)
        else:
            parts = text.split(self.separator, len(self.into) - 1)
            parts += [""] * (len(self.into) - len(parts))
            values = [_Raw(encode_value(part)) for part in parts]
        del fields[self.name]
        fields.update(zip(self.into, values, strict=True))
        return fields

    def inverse(self) -> tuple[Step, ...]:
        """Return the step that joins the parts."""
        return (Join(self.into, self.name, self.separator),)


class Join(msgspec.Struct, frozen=True):
    """Several texts become one field; empty ones at the end are left out.

    Attributes:
        names: The fields, which are gone afterwards.
        into: The field that has them all.
        separator: What stands between them.
    """

    kind: ClassVar[str] = "join"
    names: tuple[str, ...]
    into: str
    separator: str

    @property
    def touched(self) -> frozenset[str]:
        """The field and its parts."""
        return frozenset({self.into, *self.names})

    def apply(self, fields: Fields) -> Fields:
        """Return the record with the field, if its parts are texts or null."""
        present = [bytes(fields[name]) for name in self.names if name in fields]
        if not present:
            return fields
        values = [None if raw == b"null" else text_of(raw) for raw in present]
        if any(text is None and raw != b"null" for text, raw in zip(values, present, strict=True)):
            return fields
        for name in self.names:
            fields.pop(name, None)
        if all(text is None for text in values):
            fields[self.into] = _NULL
            return fields
        parts = [text or "" for text in values]
        while len(parts) > 1 and not parts[-1]:
            parts.pop()
        fields[self.into] = _Raw(encode_value(self.separator.join(parts)))
        return fields

    def inverse(self) -> tuple[Step, ...]:
        """Return the step that cuts the field into its parts."""
        return (Split(self.into, self.names, self.separator),)


@lru_cache(4096)
def _converted(type_: str, text: bytes) -> msgspec.Raw:
    """Return the JSON text of a value of a type; of one that cannot have it, as it was."""
    value = _decode(text)
    if value is None or isinstance(value, (list, dict)):
        return _Raw(text)
    found = CONVERTERS[type_](value)
    return _Raw(text if found is value else encode_value(found))


class RenameCollection(msgspec.Struct, frozen=True):
    """The collection gets another name. Its log keeps the first one, and records stay as they are.

    Attributes:
        was: The name before.
        to: The new name.
    """

    kind: ClassVar[str] = "collection"
    was: str
    to: str

    @property
    def touched(self) -> frozenset[str]:
        """A pseudo-field for the name, so that two new names on different branches clash."""
        return frozenset({"the name of the collection"})

    def apply(self, fields: Fields) -> Fields:
        """Return the fields as they are."""
        return fields

    def inverse(self) -> tuple[Step, ...]:
        """Return the step that gives the old name back."""
        return (RenameCollection(self.to, self.was),)


def inverse_of(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the inverse of some steps, as far as they can be reversed."""
    return tuple(back for step in reversed(steps) for back in step.inverse())
