"""Declaring record classes: `record`, `indexed` and `evolve`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform, overload

import attrs

from taskstore._records.declaration import (
    COLLECTION,
    CONVERTER,
    INDEXED,
    MERGE,
    check_fields,
    check_merge_policy,
)
from taskstore._records.evolutions import EVOLUTIONS, NAMES, WAS, DeclaredEvolution, names_of
from taskstore._records.foreign import why_foreign
from taskstore._records.reasons import nearest
from taskstore._records.types import RecordType
from taskstore.errors import InvalidDeclarationError, UnknownFieldError

if TYPE_CHECKING:
    from cattrs import Converter


C = TypeVar("C")
T = TypeVar("T")


@overload
def indexed(
    *,
    default: T,
    merge: str | None = None,
    was: str | Sequence[str] = (),
    validator: Any = None,
    alias: str | None = None,
    kw_only: bool = False,
    metadata: Mapping[Any, Any] | None = None,
) -> T: ...
@overload
def indexed(
    *,
    factory: Callable[[], T],
    merge: str | None = None,
    was: str | Sequence[str] = (),
    validator: Any = None,
    alias: str | None = None,
    kw_only: bool = False,
    metadata: Mapping[Any, Any] | None = None,
) -> T: ...
@overload
def indexed(
    *,
    merge: str | None = None,
    was: str | Sequence[str] = (),
    validator: Any = None,
    alias: str | None = None,
    kw_only: bool = False,
    metadata: Mapping[Any, Any] | None = None,
) -> Any: ...
def indexed(
    *,
    default: Any = attrs.NOTHING,
    factory: Callable[[], Any] | None = None,
    merge: str | None = None,
    was: str | Sequence[str] = (),
    validator: Any = None,
    alias: str | None = None,
    kw_only: bool = False,
    metadata: Mapping[Any, Any] | None = None,
) -> Any:
    """Declare a field whose values are indexed, so that filters and orders by it are fast.

    The field must be str, int, float, bool, datetime, date, UUID or an Enum of these, with or
    without `| None`.

    Args:
        default: Its default. Lines without the key count as having it, in filters too.
        factory: Makes its default. Unless it is a built-in type, filters cannot know the result,
            and treat a line without the key as None.
        merge: How a merge decides between two changes of the field: "newest", "union", "max",
            "min", "text" or "fail". (Other fields have it in their metadata, under
            "taskstore.merge".)
        was: Its former name, or all of them, oldest first: lines that have one are read under the
            new name. (Other fields have it in their metadata, under "taskstore.was".)
        validator: As for `attrs.field`.
        alias: As for `attrs.field`. The key in the line is still the field's name.
        kw_only: As for `attrs.field`.
        metadata: As for `attrs.field`.

    Raises:
        InvalidDeclarationError: There is no such merge policy, or both a default and a factory.
    """
    facts = {**(metadata or {}), INDEXED: True}
    if merge is not None:
        facts[MERGE] = check_merge_policy(merge)
    if was:
        facts[WAS] = was
    if factory is not None:
        if default is not attrs.NOTHING:
            raise InvalidDeclarationError(
                "indexed()", reason="takes a default or a factory, not both"
            )
        default = attrs.Factory(factory)
    # attrs before 25.4 does not accept None for kw_only, and False would override the class.
    keywords: dict[str, Any] = {"kw_only": True} if kw_only else {}
    return attrs.field(
        default=default, validator=validator, alias=alias, metadata=facts, **keywords
    )


@dataclass_transform(field_specifiers=(attrs.field, indexed))
def record(
    collection: str,
    /,
    *,
    frozen: bool = False,
    kw_only: bool = False,
    converter: Converter | None = None,
    evolutions: Iterable[DeclaredEvolution] = (),
    was: str | Sequence[str] = (),
) -> Callable[[type[C]], type[C]]:
    """Declare a class as the record type of a collection.

    The class becomes a slotted attrs class; an attrs class is left as it is. It must
    have a field `id: str`. A field `updated_at`, an int (milliseconds since the epoch), str
    (RFC 3339) or datetime, is its version, and is stamped when a record is written. `deleted` is
    reserved. Every other field is stored under its name.

    Args:
        collection: The name of the collection: 1 to 64 of letters, digits, `_` and `-`.
        frozen: Whether instances are immutable; writes then return a new instance.
        kw_only: Whether all fields are keyword-only arguments.
        converter: A cattrs converter from `make_converter` with hooks for types that the codec
            does not know. It is asked for every field of the class and of its subclasses.
        evolutions: How to read lines from before changes of the class, oldest first, each made
            with `evolution`. All classes of a collection must state the same ones.
        was: The former name of the collection, or all of them, oldest first. Its log keeps the
            first one.

    Raises:
        InvalidDeclarationError: The class cannot be stored as it is declared. If annotations name
            something that does not exist yet, this is raised when the class is first used.
        InvalidNameError: The name of the collection, or of a field, is not allowed.
    """
    given: Any = collection
    if isinstance(given, type):
        raise InvalidDeclarationError(
            given.__qualname__,
            reason='@record needs the name of a collection: write @record("<collection>")',
        )
    names = names_of(collection, was)
    stated = tuple(evolutions)

    def decorate(cls: type[C]) -> type[C]:
        cls = _as_attrs(cls, frozen=frozen, kw_only=kw_only)
        setattr(cls, COLLECTION, names[0])
        setattr(cls, NAMES, names)
        if converter is not None:
            setattr(cls, CONVERTER, converter)
        if stated:
            setattr(cls, EVOLUTIONS, stated)
        check_fields(cls)
        _make_type(cls, sys._getframe(1).f_locals)
        return cls

    return decorate


def _as_attrs(cls: type[C], *, frozen: bool, kw_only: bool) -> type[C]:
    if not isinstance(cls, type):
        raise InvalidDeclarationError(repr(cls), reason="@record decorates classes only")
    reason = why_foreign(cls)
    if reason is not None:
        raise InvalidDeclarationError(cls.__qualname__, reason=reason)
    if "__attrs_attrs__" not in cls.__dict__:
        try:
            return attrs.define(cls, frozen=frozen, kw_only=kw_only)
        except (
            SyntaxError,
            TypeError,
            ValueError,
            attrs.exceptions.UnannotatedAttributeError,
        ) as error:
            raise InvalidDeclarationError(cls.__qualname__, reason=str(error)) from error
    if frozen or kw_only:
        raise InvalidDeclarationError(
            cls.__qualname__,
            reason="is an attrs class already: give frozen and kw_only to its own decorator",
        )
    return cls


def _make_type(cls: type[C], names: Mapping[str, Any]) -> None:
    try:
        RecordType.make(cls, names)
    except NameError:
        # A forward reference; the first use resolves it or raises.
        pass


def evolve(record: T, /, **changes: Any) -> T:
    """Return a copy of a record, or of any attrs instance, with changed fields.

    Args:
        record: The record.
        changes: New values by field name.

    Raises:
        UnknownFieldError: The class has no such field.
    """
    fields = {field.name: field for field in attrs.fields(type(record))}  # type: ignore[arg-type]
    for name in changes:
        if name not in fields:
            raise UnknownFieldError(
                name, type_name=type(record).__name__, nearest=nearest(name, list(fields))
            )
    arguments = {fields[name].alias: changes[name] for name in changes if fields[name].init}
    evolved = attrs.evolve(record, **arguments)  # type: ignore[misc]
    for name, field in fields.items():
        # attrs.evolve uses the defaults for these, which would lose the record's values.
        if not field.init and hasattr(record, name):
            object.__setattr__(evolved, name, changes.get(name, getattr(record, name)))
    return evolved


def make_converter() -> Converter:
    """Return a new converter with this library's rules, to register hooks on.

    Pass it to the classes that need it::

        converter = make_converter()
        converter.register_structure_hook(Version, lambda value, _: Version.parse(value))
        converter.register_unstructure_hook(Version, str)

        @record("releases", converter=converter)
        class Release:
            id: str
            version: Version

    Every field of such a class goes through the converter. Register hooks before the class is
    declared, and for both directions.
    """
    # Importing cattrs takes as long as the rest of the package, and few classes need it.
    from taskstore._records.converter import make_converter as make

    return make()
