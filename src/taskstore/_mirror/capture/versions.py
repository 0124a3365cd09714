"""The versions of mirrored rows, by what is stored of them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm.exc import StaleDataError

from taskstore._cache.rows.records import Stored
from taskstore._format.instants import MAX_MS
from taskstore._mirror.model.shape import Mirror
from taskstore._records.versions import Claim
from taskstore._unit.versions import Version, next_version
from taskstore.errors import StaleRecordError


class StaleRowError(StaleRecordError, StaleDataError):
    """A mirrored row was changed since it was loaded.

    Applications wait for SQLAlchemy's error where a row has a version.
    """


def stamp_for(
    mirror: Mirror, id: str, before: Stored | None, claim: Claim | None, now_ms: int
) -> Version:
    """The version of a row's next line.

    Raises:
        StaleRowError: The claim is older than what is stored.
    """
    previous = before.updated_at if before is not None else None
    if previous is None and mirror.version is not None and mirror.version.codec.python != "int":
        # The form of the column; it is what a person reads in the log.
        previous = ""
    try:
        return next_version(
            claim,
            before.order_us if before is not None else None,
            previous,
            now_ms,
            collection=mirror.collection,
            id=id,
        )
    except StaleRecordError as error:
        raise StaleRowError(
            collection=error.collection, id=error.id, carried=error.carried, stored=error.stored
        ) from None


def form_of(stored: Stored | None) -> type | None:
    """Return the type of a tombstone's version; None for a record, whose line says it."""
    if stored is None or stored.line is not None:
        return None
    return int if stored.updated_at_text is None else str


def form_in(version: Any) -> type | None:
    """Return the type of a line's version, given as it is or as JSON; None without a version."""
    if isinstance(version, bytes):
        return int if version.isdigit() else str if version.startswith(b'"') else None
    return type(version) if version is not None else None


_LAST = re.compile(r',"updated_at":(?:[0-9]+|"[^"\\\\]*)("?)\}\Z')
_LAST_CHARS = 64


def form_at_end(line: str) -> type | None:
    """Return the type of a good line's version where that is its last key; None if it is not."""
    # A quote behind a comma is not in a text, so that the key is one, and of the record itself.
    found = _LAST.search(line[-_LAST_CHARS:])
    return None if found is None else str if found[1] else int


def is_form(plain: type | None, form: type | None) -> bool:
    """Return whether a line has its version in the form that a column has."""
    return form is (int if plain is int else str)


NOT_PLAIN = -1
"""Values that are not such a version. `Mirror.claim` knows what they are."""

_SECONDS = len("2000-01-01T00:00:00")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - as SQLite gives them


def plain_order(plain: type | None, value: object) -> int:
    """Return the order of a version in microseconds; 0 where nothing is claimed.

    Args:
        plain: The type of the column's values.
        value: The version.
    """
    if value is None:
        return 0
    if type(value) is not plain:
        return NOT_PLAIN
    if isinstance(value, int):
        return value * 1000 if 0 <= value <= MAX_MS else NOT_PLAIN
    if isinstance(value, datetime) and value.tzinfo is None:
        passed = value - _EPOCH
        order_us = (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds
        return order_us if order_us > 0 else NOT_PLAIN
    return NOT_PLAIN


def plain_value(plain: type | None, ms: int) -> int | datetime:
    """Return a stamp, in milliseconds since the epoch, as a column of a type holds it."""
    return ms if plain is int else _EPOCH + timedelta(milliseconds=ms)


def plain_text(moment: datetime) -> str:
    """Return a moment as a line has it, with as many digits as it needs."""
    text = moment.isoformat()
    if len(text) == _SECONDS:
        return f"{text}.000Z"
    return f"{text}Z" if moment.microsecond % 1000 else f"{text[:-3]}Z"
