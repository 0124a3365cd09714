"""Links between records: a value that is the id of another record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from taskstore._format.lines import decode_object
from taskstore._format.names import MAX_ID_LENGTH
from taskstore.models import StoredRecord

_MOST = 50
"""How many links a page shows in each direction."""

_MOST_LOOKED_AT = 200
"""How many records that have the text are looked at."""

_MOST_STRINGS = 500
"""How many strings of a record are looked up."""

_OWN = ("id", "updated_at")


@attrs.frozen
class Link:
    """A record that another one names.

    Attributes:
        field: The field that names it, such as "blocks" or "meta.owner".
        collection: The collection of the record at the other end.
        id: Its id.
        label: What to call it.
    """

    field: str
    collection: str
    id: str
    label: str


def strings(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the strings of a record that may be ids, each with the name of its field."""
    stack = [(name, value) for name, value in reversed(data.items()) if name not in _OWN]
    while stack:
        field, value = stack.pop()
        if isinstance(value, str):
            if value and len(value) <= MAX_ID_LENGTH:
                yield field, value
        elif isinstance(value, dict):
            stack += [(f"{field}.{key}", item) for key, item in reversed(value.items())]
        elif isinstance(value, list):
            stack += [(field, item) for item in reversed(value)]


def label_of(data: dict[str, Any]) -> str:
    """Return what a record calls itself; empty if nothing is known for it."""
    for name in ("title", "name", "subject", "summary", "label", "text"):
        value = data.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return ""


def links_from(
    session: Session, collections: Sequence[str], id: str, data: dict[str, Any]
) -> list[Link]:
    """Return the records that a record names.

    Args:
        session: It reads the cache.
        collections: Where to look.
        id: The record.
        data: Its fields.
    """
    named: dict[str, str] = {}
    for field, value in strings(data):
        # A record that has its own id in a field does not link to itself.
        if value != id:
            named.setdefault(value, field)
        if len(named) == _MOST_STRINGS:
            break
    wanted = [value for value in named if _is_text(value)]
    found = []
    for collection in collections if wanted else ():
        rows = session.execute(
            select(StoredRecord.id, StoredRecord.data_json)
            .where(StoredRecord.collection == collection, StoredRecord.id.in_(wanted))
            .limit(_MOST)
        )
        for other, text in rows:
            label = label_of(decode_object(text))
            found.append(Link(named[other], collection, other, label))
    order = {value: position for position, value in enumerate(named)}
    return sorted(found, key=lambda link: order[link.id])[:_MOST]


def links_to(session: Session, collection: str, id: str) -> list[Link]:
    """Return the records that name a record, in the order of their collections and ids."""
    texts = {json.dumps(id, ensure_ascii=is_ascii) for is_ascii in (False, True)}
    rows = session.execute(
        select(StoredRecord.collection, StoredRecord.id, StoredRecord.data_json)
        .where(or_(*(func.instr(StoredRecord.data_json, text) > 0 for text in sorted(texts))))
        .order_by(StoredRecord.collection, StoredRecord.id)
        .limit(_MOST_LOOKED_AT)
    )
    found = []
    for place, other, text in rows:
        if (place, other) != (collection, id):
            data = decode_object(text)
            fields = [field for field, value in strings(data) if value == id]
            if fields:
                found.append(Link(fields[0], place, other, label_of(data)))
    return found[:_MOST]


def _is_text(value: str) -> bool:
    """Say whether SQLite takes a string: it may have a lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
