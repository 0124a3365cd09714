"""Fields from text: `status=open`, `priority=2`, `labels:=["docs"]`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from taskstore._store.store import Store
from taskstore._survey.fields import KNOWN, field_kinds, field_names
from taskstore._survey.nearest import slip
from taskstore._survey.values import TextError, from_json, split_assignment, typed
from taskstore.errors import UnknownFieldError

__all__ = ["check_new_fields", "parse_assignments"]


def parse_assignments(store: Store, collection: str, texts: Iterable[str]) -> dict[str, Any]:
    """Return the fields that texts assign, typed by what the collection's records have.

    Raises:
        TextError: a text is no assignment, names a field twice, or has a value that no record of
            the collection has the like of.
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


def check_new_fields(store: Store, collection: str, names: Iterable[str]) -> Sequence[str]:
    """Return those names that no record of a collection with records has yet.

    Raises:
        UnknownFieldError: one of them is so like a field that it was probably meant to be that.
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
