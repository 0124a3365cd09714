"""Who last changed each field of a record, without a look at the cache."""

from __future__ import annotations

from typing import Any

import attrs

from taskstore._diff.blame import Fields, blame_fields
from taskstore._evolution.shape import NO_SHAPE
from taskstore._format.lines import decode_object
from taskstore._git.history import Version, versions
from taskstore._git.repository import Repository
from taskstore._log.evolutions import newest_shapes
from taskstore._log.layout import Layout


@attrs.frozen
class FieldBlame:
    """Who gave a field of a record the value that it has.

    Attributes:
        field: The name of the field.
        value: Its value.
        updated_at: The version of the record that first had it.
        commit: The id of the commit that brought this version; None if none did, as for a
            change that is not committed.
        author: The commit's author.
        time: The time of the commit, in RFC 3339.
        subject: The first line of its message.
        is_boundary: Whether a shallow clone ends at the commit: it or an older one is meant.
    """

    field: str
    value: Any
    updated_at: int | str | None
    commit: str | None = None
    author: str | None = None
    time: str | None = None
    subject: str | None = None
    is_boundary: bool = False


def blame(layout: Layout, collection: str, id: str) -> list[FieldBlame]:
    """Return who last changed each field of a record; nothing if there is no such record.

    Args:
        layout: The store.
        collection: The collection.
        id: The record.

    Raises:
        GitError: Git refused.
        OSError: The log cannot be read.
    """
    repository = Repository.find(layout.directory)
    found = versions(layout.log_path(collection), id, repository, quick=True)
    # What the log does not have any more does not count, if it would win.
    while found and found[-1].line is None:
        found.pop()
    shape = newest_shapes(layout).get(collection, NO_SHAPE)
    fields = [
        Fields(None if each.deleted else decode_object(shape.shown(each.raw)), each.sources)
        for each in found
    ]
    return [
        _told(name, fields[-1].data, found[position])
        for name, position in blame_fields(fields).items()
    ]


def _told(name: str, data: dict[str, Any] | None, version: Version) -> FieldBlame:
    value = None if data is None else data[name]
    commit = version.commit
    if commit is None:
        return FieldBlame(name, value, version.updated_at)
    facts = (commit.id, commit.author, commit.time, commit.subject, commit.is_boundary)
    return FieldBlame(name, value, version.updated_at, *facts)
