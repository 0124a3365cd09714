"""The fields of one attrs class as JSON: their codecs, defaults, and how an update keeps lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs

from taskstore._format.lines import MAX_LINE_BYTES, has_long_digits, join_fields, raw_fields
from taskstore._records.codec import FieldCodec, json_encode
from taskstore._records.hints import Hint, alternatives, describe, field_types
from taskstore._records.reasons import StructureError

if TYPE_CHECKING:
    from cattrs import Converter


Canonical = Callable[[str, bytes], bytes | None]
"""How the codec would write the value that a field has in a line; None if it does not fit."""


def merge_fields(
    previous: Mapping[str, bytes],
    fields: Mapping[str, bytes],
    *,
    defaults: Callable[[str], bytes | None],
    canonical: Canonical,
) -> dict[str, bytes]:
    """Return a line's fields after an update by a record that may not know all of them.

    Args:
        previous: The line's fields, in its order.
        fields: The record's fields, in the order of its class.
        defaults: What a field that the line lacks would be read as.
        canonical: See `Canonical`.
    """
    merged = dict(previous)
    for name, raw in fields.items():
        before = previous.get(name)
        if before is None:
            if raw != defaults(name):
                merged[name] = raw
        elif not _same(name, before, raw, canonical):
            merged[name] = raw
    return merged


def replace_fields(
    previous: Mapping[str, bytes], fields: Mapping[str, bytes], *, canonical: Canonical
) -> dict[str, bytes]:
    """Return a line's fields after an update by a record that is the whole of it."""
    merged = {}
    for name, before in previous.items():
        raw = fields.get(name)
        if raw is not None:
            merged[name] = before if _same(name, before, raw, canonical) else raw
    return merged | {name: raw for name, raw in fields.items() if name not in previous}


def _same(name: str, before: bytes, raw: bytes, canonical: Canonical) -> bool:
    """Return whether two JSON texts have the same value, such as 1e2 and 100.0."""
    if before == raw:
        return True
    known = canonical(name, before)
    return known is not None and (known == raw or known == canonical(name, raw))


_PURE_FACTORIES = frozenset({list, dict, set, frozenset, tuple, str, int, float, bool, bytes})


class Shape:
    """The stored fields of an attrs class.

    Args:
        cls: The class.
        hints: The resolved types of its fields.
        converter: The cattrs converter of the class, if it has one of its own.

    Attributes:
        codecs: The codec of each field, in the order of the class.
        defaults: The default of a field in JSON, if it is always the same.
        required: The fields without default.

    Raises:
        StructureError: A field cannot be stored, or its default is not a value of its type; the
            path is the field.
    """

    __slots__ = ("_converted", "_factories", "_nested", "codecs", "defaults", "required")

    def __init__(
        self, cls: type, hints: Mapping[str, Hint], converter: Converter | None = None
    ) -> None:
        self._converted = converter is not None
        self._nested: dict[str, Shape | None] = {}
        self._factories: dict[str, Callable[[], Any]] = {}
        self.codecs: dict[str, FieldCodec] = {}
        self.defaults: dict[str, bytes] = {}
        self.required: set[str] = set()
        for field in attrs.fields(cls):
            try:
                self.codecs[field.name] = FieldCodec(hints[field.name], converter)
                self._note_default(field)
            except StructureError as error:
                raise error.below(f".{field.name}") from None

    def _note_default(self, field: attrs.Attribute[Any]) -> None:
        default: Any = field.default
        if default is attrs.NOTHING:
            self.required.add(field.name)
        elif getattr(default, "takes_self", False) or _needs_more(field.converter):
            return
        elif hasattr(default, "takes_self"):
            if default.factory in _PURE_FACTORIES and field.converter is None:
                self.defaults[field.name] = self._encode_default(field, default.factory())
            else:
                self._factories[field.name] = _converted(field, default.factory)
        elif field.converter is not None:
            self._factories[field.name] = _converted(field, lambda: default)
        else:
            self.defaults[field.name] = self._encode_default(field, default)

    def _encode_default(self, field: attrs.Attribute[Any], default: Any) -> bytes:
        codec = self.codecs[field.name]
        try:
            return codec.encode(default)
        except StructureError as error:
            remedy = ""
            if default is None:
                remedy = f": declare it as `{describe(codec.hint)} | None`"
            raise StructureError(
                f"its default {default!r} does not fit its type ({error}){remedy}"
            ) from None

    def default(self, name: str) -> bytes | None:
        """Return what a line without the key would be read as, in JSON; None if unknown."""
        known = self.defaults.get(name)
        factory = self._factories.get(name)
        if known is not None or factory is None:
            return known
        try:
            return self.codecs[name].encode(factory())
        except Exception:  # noqa: BLE001 - a default that fails is none
            return None

    def merge(self, previous: Mapping[str, bytes], fields: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the fields of a line after an update; see `merge_fields`.

        Unknown keys survive also inside fields that are attrs classes themselves.
        """
        merged = merge_fields(previous, fields, defaults=self.default, canonical=self._canonical)
        for name, raw in fields.items():
            before = previous.get(name)
            if before is not None and merged[name] != before:
                merged[name] = self._merge_nested(name, before, raw)
        return merged

    def _canonical(self, name: str, raw: bytes) -> bytes | None:
        return self.codecs[name].canonical(raw)

    def _merge_nested(self, name: str, before: bytes, raw: bytes) -> bytes:
        if self._converted or not (before.startswith(b"{") and raw.startswith(b"{")):
            return raw
        if name not in self._nested:
            self._nested[name] = _shape_of(self.codecs[name].hint)
        shape = self._nested[name]
        if shape is None:
            return raw
        return join_fields(shape.merge(raw_fields(before), raw_fields(raw)))


def _shape_of(hint: Hint) -> Shape | None:
    kinds = alternatives(hint)
    if len(kinds) != 1 or not (isinstance(kinds[0], type) and attrs.has(kinds[0])):
        return None
    try:
        return Shape(kinds[0], field_types(kinds[0]))
    except (StructureError, NameError):
        # Such a class has other means of being read, but no fields that could be told apart.
        return None


def _converted(field: attrs.Attribute[Any], factory: Callable[[], Any]) -> Callable[[], Any]:
    converter: Any = field.converter
    return factory if converter is None else lambda: converter(factory())


def _needs_more(converter: Any) -> bool:
    """Return whether a converter may need the instance or the field. A default has neither."""
    return isinstance(converter, attrs.Converter)


class QuickLine:
    """Writes lines of one class: the same as its fields' codecs would, or none.

    Args:
        cls: The class.
        sure: For each field the exact classes whose values need no check.
    """

    __slots__ = ("_cls", "_kinds", "_names", "_sure", "_values")

    def __init__(self, cls: type, sure: Mapping[str, frozenset[type]]) -> None:
        self._cls = cls
        self._sure = {name: kinds for name, kinds in sure.items() if name != "updated_at"}
        self._names = tuple(self._sure)
        # A getter of one attribute gives no tuple.
        self._values = attrgetter(*self._names) if len(self._names) > 1 else None
        self._kinds: set[tuple[type, ...]] = set()

    def of(self, record: Any, updated_at: int | str) -> bytes | None:
        """Return the line of a record, without newline; None if it needs a closer look.

        Args:
            record: The record; its id has been checked.
            updated_at: What the line's `updated_at` is to say.
        """
        if record.__class__ is not self._cls or self._values is None:
            return None
        try:
            values = self._values(record)
            kinds = tuple(map(type, values))
            if kinds not in self._kinds and not self._are_sure(kinds):
                return None
            fields = dict(zip(self._names, values, strict=True))
            fields["updated_at"] = updated_at
            line: bytes = json_encode(fields)
        except (AttributeError, ValueError):
            return None
        if len(line) > MAX_LINE_BYTES // 2 or has_long_digits(line):
            return None
        return line

    def _are_sure(self, kinds: tuple[type, ...]) -> bool:
        """Return whether values of these classes need no check, and remember it if so."""
        pairs = zip(self._sure.values(), kinds, strict=True)
        if not all(kind in sure for sure, kind in pairs):
            return False
        self._kinds.add(kinds)
        return True
