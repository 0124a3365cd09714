"""The allowed names of collections and fields, and ids of records."""

from __future__ import annotations

import re

from taskstore.errors import InvalidIdError, InvalidNameError

MAX_ID_LENGTH = 256
"""The greatest length of a record id, in code points."""

_COLLECTION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FIELD = re.compile(r"[A-Za-z0-9_]{1,64}")
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TAKEN_SCHEMAS = ("main", "temp", "taskstore_history")

EVOLUTIONS = "evolutions"
"""The collection that says how older lines are read."""

CONSUMERS = "taskstore-consumers"
"""The collection that keeps how far each named consumer of changes has come. Git ignores it."""


def check_collection_name(name: object) -> str:
    """Return `name` if it can name a collection: 1 to 64 ASCII letters, digits, `_` or `-`.

    Raises:
        InvalidNameError: It cannot name a collection.
    """
    return _check_name("collection", name, _COLLECTION, "ASCII letters, digits, '_' or '-'")


def check_field_name(name: object) -> str:
    """Return `name` if it can name a field: 1 to 64 ASCII letters, digits or `_`.

    Raises:
        InvalidNameError: It cannot name a field.
    """
    return _check_name("field", name, _FIELD, "ASCII letters, digits or '_'")


def check_schema_name(name: object) -> str:
    """Return `name` if the tables of a revision can have it as their schema in SQL.

    Raises:
        InvalidNameError: It cannot name a schema.
    """
    allowed = "ASCII letters, digits or '_', and no digit first"
    found = _check_name("schema", name, _SCHEMA, allowed)
    if found.lower() in _TAKEN_SCHEMAS or found.lower().startswith("sqlite_"):
        raise InvalidNameError(kind="schema", name=name, reason="has another meaning in SQLite")
    return found


def _check_name(kind: str, name: object, pattern: re.Pattern[str], allowed: str) -> str:
    if not isinstance(name, str):
        reason = f"must be a string, not {type(name).__name__}"
    elif not name:
        reason = "cannot be empty"
    elif len(name) > 64:
        reason = f"has {len(name)} characters, at most 64 are allowed"
    elif not pattern.fullmatch(name):
        reason = f"may only have {allowed}"
    else:
        return name
    raise InvalidNameError(kind=kind, name=name, reason=reason)


def id_fault(id: object) -> str | None:
    """Return why `id` cannot be a record id; None if it can."""
    if not isinstance(id, str):
        return f"must be a string, not {type(id).__name__}"
    if not id.strip():
        return "cannot be empty" if not id else "cannot be empty or blank"
    if len(id) > MAX_ID_LENGTH:
        return f"has {len(id)} characters, at most {MAX_ID_LENGTH} are allowed"
    if not id.isascii():
        try:
            id.encode()
        except UnicodeEncodeError:
            return "has a lone surrogate, which UTF-8 cannot carry"
    return None


def is_usual_id(id: str) -> bool:
    """Return whether a text is an id as most are. Of others `check_id` tells."""
    return id.isascii() and len(id) <= MAX_ID_LENGTH and not (id.isspace() or not id)


def check_id(id: object, collection: str | None = None) -> str:
    """Return `id` if it is a string of 1 to 256 code points that is not blank.

    Any character is allowed, except a lone surrogate, which UTF-8 cannot encode.

    Args:
        id: The record id.
        collection: Its collection, for the message only.

    Raises:
        InvalidIdError: It cannot be an id.
    """
    fault = id_fault(id)
    if fault is not None:
        raise InvalidIdError(id, reason=fault, collection=collection)
    assert isinstance(id, str)
    return id
