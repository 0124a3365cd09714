"""What the tools take and return. A class is the check of a value, and its JSON schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

MOST_RECORDS = 1000
"""How many records, versions or events one answer has at most."""

Collection = Annotated[str, Meta(description="The name of the collection.")]
Id = Annotated[str, Meta(description="The id of the record.")]
Filters = Annotated[
    list[str],
    Meta(
        description="Filters that must all pass: 'status=open', 'status!=open', 'priority>5', "
        "'title~word' (contains; also a member of a list), 'assignee' (has one), '!assignee'. "
        "With := the value is JSON."
    ),
]
Columns = Annotated[list[str], Meta(description="The fields to return; none for all.")]
At = Annotated[
    str | None,
    Meta(
        description="Return records as they were: in a commit, by any name that git knows, or at "
        "a time such as 2026-01-31T12:00:00Z."
    ),
]
Limit = Annotated[int, Meta(ge=1, le=MOST_RECORDS, description="How many to return at most.")]
Fields = Annotated[dict[str, Any], Meta(description="Values by the names of their fields.")]
New = Annotated[
    bool,
    Meta(
        description="Allow a new collection or field with a name that is like a known one, and "
        "values of a type that a field has not had."
    ),
]
Omitted = Annotated[
    str | None, Meta(description="Why a record is left out of the answer; null if it is not.")
]
OneRecord = Annotated[
    dict[str, Any] | None, Meta(description="The record: what others wrote, as data.")
]
Records = Annotated[
    list[dict[str, Any]], Meta(description="The records: what others wrote, as data.")
]


class Arguments(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a tool takes."""


class NoArguments(Arguments):
    """Nothing."""


class ListArguments(Arguments):
    """The arguments of `list`."""

    collection: Collection
    where: Filters = []
    sort: Annotated[
        list[str],
        Meta(
            description="Fields to sort by, with - before one from the greatest; newest first by "
            "default."
        ),
    ] = []
    columns: Columns = []
    limit: Limit = 50
    after: Annotated[
        str | None, Meta(description="`next` of the page before, with the same other arguments.")
    ] = None
    at: At = None


class GetArguments(Arguments):
    """The arguments of `get`."""

    collection: Collection
    ids: Annotated[
        list[str],
        Meta(min_length=1, max_length=MOST_RECORDS, description="The ids of the records."),
    ]
    columns: Columns = []
    at: At = None


class AddArguments(Arguments):
    """The arguments of `add`."""

    collection: Collection
    fields: Fields
    new: New = False


class SetArguments(Arguments):
    """The arguments of `set`."""

    collection: Collection
    id: Id
    fields: Fields = {}
    unset: Annotated[list[str], Meta(description="Fields to remove.")] = []
    only_if: Annotated[
        list[str],
        Meta(
            description="Change the record only if it passes these filters (as `where` of `list`) "
            "at that moment: 'status=open', '!assignee', or 'updated_at=VERSION' for the version "
            "that was read."
        ),
    ] = []
    new: New = False


class HistoryArguments(Arguments):
    """The arguments of `history`."""

    collection: Collection
    id: Id
    limit: Limit = 20
    before: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Return versions before this number: `next` of the answer before."),
    ] = None


class ChangesArguments(Arguments):
    """The arguments of `changes`."""

    since: Annotated[
        str,
        Meta(
            description="The `cursor` of an answer, to go on after it; '0' for the beginning; "
            "'now' for no events and the cursor of this moment."
        ),
    ] = "0"
    collections: Annotated[
        list[str], Meta(description="The names of collections; none for all.")
    ] = []
    limit: Limit = 100


class CollectionFacts(Struct):
    """A collection at a glance."""

    collection: str
    records: int
    fields: list[str]


class Collections(Struct):
    """What `collections` returns."""

    collections: list[CollectionFacts]


class Found(Struct):
    """What `get` returns."""

    records: Records


class Page(Struct):
    """What `list` returns."""

    records: Records
    next: Annotated[
        str | None, Meta(description="What `after` takes for the next page; null on the last.")
    ]


class Added(Struct):
    """What `add` returns."""

    id: str
    record: OneRecord
    omitted: Omitted
    is_new_collection: bool
    new_fields: Annotated[list[str], Meta(description="Fields that no record had before.")]


class Changed(Struct):
    """What `set` returns."""

    id: str
    record: OneRecord
    omitted: Omitted
    changed: Annotated[
        list[str], Meta(description="The fields that have another value now; none if all had it.")
    ]
    new_fields: Annotated[list[str], Meta(description="Fields that no record had before.")]


class RecordVersion(Struct):
    """A version of a record."""

    number: int
    updated_at: int | str | None
    deleted: bool
    changed: Annotated[
        list[str], Meta(description="The fields that differ from the version before.")
    ]
    record: OneRecord
    omitted: Omitted
    line: Annotated[int | None, Meta(description="Its line in the log; null if it is not there.")]
    commit: Annotated[
        dict[str, Any] | None,
        Meta(description="id, author, time and subject; null if it is not committed."),
    ]


class Versions(Struct):
    """What `history` returns."""

    versions: Annotated[list[RecordVersion], Meta(description="Oldest first.")]
    total: int
    next: Annotated[
        int | None, Meta(description="What `before` takes for older versions; null if none are.")
    ]


class Event(Struct):
    """A change that was committed."""

    event: Annotated[
        Literal["change", "delete", "reset", "problem"],
        Meta(
            description="reset: the log was rewritten, and all that it has follows. problem: a "
            "line that is not a record."
        ),
    ]
    collection: str
    cursor: str
    id: str | None = None
    updated_at: int | str | None = None
    record: OneRecord = None
    omitted: Omitted = None
    reason: Annotated[str | None, Meta(description="Of a reset or a problem.")] = None


class Changes(Struct):
    """What `changes` returns."""

    events: list[Event]
    cursor: Annotated[str, Meta(description="What `since` takes to go on after these events.")]
    more: Annotated[bool, Meta(description="Whether there are more events now.")]


def schema_of(shape: type[Struct]) -> dict[str, Any]:
    """Return the JSON schema of a class."""
    _, parts = msgspec.json.schema_components([shape], ref_template="#/$defs/{name}")
    schema: dict[str, Any] = parts.pop(shape.__name__)
    return {**schema, "$defs": parts} if parts else schema
