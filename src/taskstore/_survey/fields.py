"""The fields of a collection's records, and their JSON types."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

from taskstore._api.driver_store import DriverStore, ask
from taskstore._cache.sql import survey
from taskstore._query.conditions import Condition, Field, where
from taskstore._text import nearest, slip
from taskstore.errors import TaskstoreError, UnknownFieldError

if TYPE_CHECKING:
    from taskstore._api.store import Store

_KIND_NAMES = {
    "text": "text",
    "integer": "numbers",
    "real": "numbers",
    "true": "true or false",
    "false": "true or false",
    "array": "lists",
    "object": "objects",
    "null": "null",
}
_BOOLEANS = frozenset({"true", "false"})
_NUMBERS = frozenset({"integer", "real"})
_MISSING = object()


class TextError(TaskstoreError, ValueError):
    """A text that cannot be read as the expected value."""

    text: str

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(reason, text=text)


def typed(field: str, text: str, kinds: Set[str]) -> Any:
    """Return the value of a text for a field.

    If the field has had text, the value is the text, unless the field has also had values of the
    type that the text has as JSON. If the field has had other values only, the text must be JSON of
    their types or null. In a new field, text that looks like JSON is JSON.

    Args:
        field: The field's name, for messages.
        text: The text.
        kinds: The JSON types that the field has had; see `field_kinds`.

    Raises:
        TextError: The field has had no such values.
    """
    value = _parsed(text)
    if isinstance(value, str):
        # Quotes around a text are part of it.
        value = _MISSING
    if value is None and "text" not in kinds:
        return None
    known = kinds - {"null"}
    if value is not _MISSING and value is not None and (not known or _is_like(value, known)):
        return value
    if not known or "text" in known:
        return text
    raise TextError(
        text,
        f"{_unlike(field, text, known)}: for any other value "
        f"write JSON after :=, as in {field}:={json.dumps(text, ensure_ascii=False)}",
    )


def check_value(field: str, value: Any, kinds: Set[str], remedy: str) -> Any:
    """Return a JSON value for a field, if the field has had values of its type.

    A text that is JSON of the field's type is read as JSON, as in `typed`.

    Args:
        field: The field's name, for messages.
        value: The value.
        kinds: The JSON types that the field has had; see `field_kinds`.
        remedy: How to write such a value all the same, for the message.

    Raises:
        TextError: The field has had no value of its type.
    """
    known = kinds - {"null"}
    if value is None or not known or _is_like(value, known):
        return value
    if isinstance(value, str):
        said = _parsed(value)
        if said is not _MISSING and not isinstance(said, str) and _is_like(said, known):
            return said
    raise TextError(str(value), f"{_unlike(field, value, known)}: {remedy}")


def _unlike(field: str, value: Any, known: Set[str]) -> str:
    names = " and ".join(sorted({_KIND_NAMES[kind] for kind in known}))
    return f"{field} has {names} in the log, and {value!r} does not fit"


def from_json(text: str, place: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        TextError: It is not JSON. The message has `place`.
    """
    value = _parsed(text)
    if value is _MISSING:
        raise TextError(text, f"{place}: {text!r} is not JSON; a string needs double quotes")
    return value


def split_assignment(text: str) -> tuple[str, str, bool]:
    """Return the name and the text of `name=text` or `name:=json`, and whether it is JSON.

    Raises:
        TextError: It has neither form.
    """
    name, sign, value = text.partition("=")
    is_json = name.endswith(":")
    name = name.removesuffix(":")
    if not sign or not name:
        raise TextError(text, f"{text!r} does not name a field: write name=value, or name:=JSON")
    return name, value, is_json


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _MISSING


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _is_like(value: Any, kinds: Set[str]) -> bool:
    checks: tuple[tuple[Callable[[Any], bool], Set[str]], ...] = (
        (lambda it: isinstance(it, bool), _BOOLEANS),
        (lambda it: isinstance(it, int | float), _NUMBERS),
        (lambda it: isinstance(it, list), frozenset({"array"})),
        (lambda it: isinstance(it, dict), frozenset({"object"})),
        (lambda it: isinstance(it, str), frozenset({"text"})),
    )
    for is_one, wanted in checks:
        if is_one(value):
            return bool(kinds & wanted)
    return False


KNOWN = ("id", "updated_at")
"""The fields that every record may have."""

_SAMPLE = 1000
_MOST_IDS = 10_000
_MOST_VALUES = 20_000


def field_kinds(store: Store | DriverStore, collection: str, name: str) -> frozenset[str]:
    """Return the JSON types that SQLite finds under a field: text, integer, real, true, ...

    They are the types in the first 1,000 records that have the field.
    """
    return ask(store, survey.field_kinds, collection, name, _SAMPLE)


def field_names(store: Store | DriverStore, collection: str) -> list[str]:
    """Return the names of all fields that any record of a collection has, sorted."""
    return ask(store, survey.field_names, collection)


def contents(
    store: Store | DriverStore, collections: Sequence[str]
) -> Sequence[tuple[str, int, list[str]]]:
    """Return collections with their number of records and field names, after one look at the logs.

    A call for each collection would look at all logs each time.
    """
    return ask(store, survey.contents, collections)


def ids_meant(
    store: Store | DriverStore, collections: Iterable[str], id: str, most: int
) -> list[str]:
    """Return the ids that were probably meant: those that begin with a text, or similar ones.

    In a large collection, it compares at most 10,000 ids.

    Args:
        store: The store.
        collections: The collections to search.
        id: The unknown id.
        most: The maximum number of ids.
    """
    names = list(collections)
    if id:
        longer = {found for name in names for found in ids_from(store, name, id, most)}
        if longer:
            return sorted(longer)[:most]
    known = (found for name in names for found in ask(store, survey.some_ids, name, _MOST_IDS))
    meant = nearest(id, known)
    return [] if meant is None else [meant]


def ids_from(store: Store | DriverStore, collection: str, start: str, limit: int) -> list[str]:
    """Return the first ids that begin with a text, in their order."""
    return ask(store, survey.ids_from, collection, start, limit)


def values_from(
    store: Store | DriverStore, collection: str, name: str, start: str, limit: int
) -> list[str]:
    """Return values of a field that begin with a text, as text, from at most 20,000 records."""
    return ask(store, survey.values_from, collection, name, start, _MOST_VALUES, limit)


def check_fields(store: Store | DriverStore, collection: str, names: Iterable[str]) -> None:
    """Check that each field is in some record. An empty collection may have any field.

    Raises:
        UnknownFieldError: No record has the field. The message has the nearest name.
    """
    for name in names:
        if name in KNOWN or field_kinds(store, collection, name):
            continue
        if ask(store, survey.has_records, collection):
            raise UnknownFieldError(
                name,
                type_name=f"collection {collection!r}",
                nearest=nearest(name, field_names(store, collection)),
            )


def parse_assignments(
    store: Store | DriverStore, collection: str, texts: Iterable[str]
) -> dict[str, Any]:
    """Return the fields that texts assign, typed by what the collection's records have.

    Raises:
        TextError: A text is not an assignment, names a field twice, or has a value of a type that
            no record of the collection has in this field.
    """
    fields: dict[str, Any] = {}
    for text in texts:
        name, value, is_json = split_assignment(text)
        if name in fields:
            raise TextError(text, f"{name} is given twice")
        if is_json:
            fields[name] = from_json(value, name)
        elif name == "id":
            fields[name] = value
        else:
            fields[name] = typed(name, value, field_kinds(store, collection, name))
    return fields


def check_new_fields(
    store: Store | DriverStore, collection: str, names: Iterable[str]
) -> Sequence[str]:
    """Return the names that no record of the collection has yet.

    Raises:
        UnknownFieldError: One of them is so similar to a field that it is probably a mistake.
    """
    new = [name for name in names if name not in KNOWN and not field_kinds(store, collection, name)]
    known = field_names(store, collection) if new else []
    if not known:
        return []
    for name in new:
        meant = slip(name, known)
        if meant is not None:
            raise UnknownFieldError(name, type_name=f"collection {collection!r}", nearest=meant)
    return new


_FILTER = re.compile(
    r"\s*(?P<none>!?)\s*(?P<field>\w+)\s*"
    r"(?:(?P<sign>!:=|:=|!=|==|>=|<=|!~|=|<|>|~)\s*(?P<text>.*))?",
    re.DOTALL | re.ASCII,
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_FORMS = "status=open, status!=open, priority>5, title~word, assignee (has one), !assignee"

_COMPARE: Mapping[str, Callable[[Field, Any], Condition]] = {
    "=": operator.eq,
    "==": operator.eq,
    ":=": operator.eq,
    "!=": operator.ne,
    "!:=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "~": Field.contains,
    "!~": lambda field, value: ~field.contains(value),
}


def parse_filters(
    store: Store | DriverStore, collection: str, texts: Iterable[str], *, new: Container[str] = ()
) -> list[Condition]:
    """Return the conditions that texts state, with values of the types that the records have.

    Args:
        store: Where the collection is.
        collection: Its name.
        texts: The filters.
        new: Fields that may be in no record.

    Raises:
        TextError: A text is not a filter, or the field cannot have its value.
        UnknownFieldError: No record has the field.
    """
    return [parse_filter(store, collection, text, new=new) for text in texts]


def parse_filter(
    store: Store | DriverStore, collection: str, text: str, *, new: Container[str] = ()
) -> Condition:
    """Return the condition that one text states; see `parse_filters`."""
    found = _FILTER.fullmatch(text)
    if found is None or (found["none"] and found["sign"]):
        raise TextError(
            text,
            f"{text!r} is not a filter: write one such as {_FORMS}; names of fields in it have "
            "only the letters a to z, digits and _ (for others there is `taskstore sql`)",
        )
    name, sign = found["field"], found["sign"]
    field = where(name)
    if name not in new:
        check_fields(store, collection, [name])
    if sign is None:
        return field.is_(None) if found["none"] else field.is_not(None)
    return _COMPARE[sign](field, _value(store, collection, name, sign, found["text"]))


def _value(store: Store | DriverStore, collection: str, name: str, sign: str, text: str) -> Any:
    if sign in (":=", "!:="):
        return from_json(text, name)
    if name == "id" or sign in ("~", "!~"):
        return text
    if name == "updated_at":
        return _moment(text)
    return typed(name, text, field_kinds(store, collection, name))


def _moment(text: str) -> int | str:
    if text.removeprefix("-").isdecimal():
        return int(text)
    return f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text
