"""Filters as text: `status=open`, `priority>5`, `labels~docs`, `assignee`, `!assignee`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from taskstore._query.conditions import Condition, Field, where
from taskstore._store.store import Store
from taskstore._survey.fields import check_fields, field_kinds
from taskstore._survey.values import TextError, from_json, typed

__all__ = ["parse_filter", "parse_filters"]

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
    store: Store, collection: str, texts: Iterable[str], *, new: Container[str] = ()
) -> list[Condition]:
    """Return the conditions that texts mean for a collection, typed by what its records have.

    Args:
        store: where the collection is.
        collection: its name.
        texts: the filters.
        new: fields that need not be in any record.

    Raises:
        TextError: a text is no filter, or its value nothing that the field could have.
        UnknownFieldError: no record has the field.
    """
    return [parse_filter(store, collection, text, new=new) for text in texts]


def parse_filter(
    store: Store, collection: str, text: str, *, new: Container[str] = ()
) -> Condition:
    """Return the condition that one text means; see `parse_filters`."""
    found = _FILTER.fullmatch(text)
    if found is None or (found["none"] and found["sign"]):
        raise TextError(
            text,
            f"{text!r} is no filter: write one such as {_FORMS}; names of fields in it have only "
            "the letters a to z, digits and _ (for others there is `taskstore sql`)",
        )
    name, sign = found["field"], found["sign"]
    field = where(name)
    if name not in new:
        check_fields(store, collection, [name])
    if sign is None:
        return field.is_(None) if found["none"] else field.is_not(None)
    return _COMPARE[sign](field, _value(store, collection, name, sign, found["text"]))


def _value(store: Store, collection: str, name: str, sign: str, text: str) -> Any:
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
