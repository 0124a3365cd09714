"""What the pages show of a store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from taskstore._api.driver_store import ask
from taskstore._api.store import Store
from taskstore._browse.databases import Databases
from taskstore._browse.links import Link, label_of, links_from, links_to
from taskstore._browse.texts import LONG, Row, Text, block, change_rows, inline, whole
from taskstore._cache.sql import survey
from taskstore._format.names import check_collection_name, check_id
from taskstore._log.layout import Layout
from taskstore._survey.fields import parse_filters
from taskstore.errors import RecordNotFoundError, TaskstoreError
from taskstore.models import RecordBlame, RecordChange, RecordVersion

PAGE = 50
"""How many records, commits or versions a page has."""

CHANGES = 200
"""How many changed values the page of a commit has."""

_FIELDS = 300
"""How many fields of a record its page has."""

_VERSION_CHANGES = 20
"""How many changed values of a version the page of a record has."""

_COLUMNS = 4
"""How many fields the table of a collection has."""

_TAKEN = LONG * 8
"""How many characters of a changed value are read."""

UNCOMMITTED = "uncommitted"
"""What stands for a commit where there is none yet."""


@attrs.frozen
class Commit:
    """A commit that brought something; without an id, what is not committed.

    Attributes:
        id: Its id.
        author: Its author.
        time: Its time, in RFC 3339.
        subject: The first line of its message.
        records: How many records it changed, where that was asked.
    """

    id: str | None
    author: str | None = None
    time: str | None = None
    subject: str | None = None
    records: int | None = None


@attrs.frozen
class CollectionFacts:
    """A collection: its name, its number of records, and its last change in milliseconds."""

    name: str
    records: int
    last_change: int | None


@attrs.frozen
class RecordRow:
    """A record in a table: its id, its values by column, and its version."""

    id: str
    values: list[Text]
    updated_at: Any


@attrs.frozen
class CollectionPage:
    """Some records of a collection.

    Attributes:
        columns: The fields that are shown.
        rows: The records.
        next: What the next page begins after; None for the last.
        records: How many the collection has, or meet the filter.
    """

    columns: list[str]
    rows: list[RecordRow]
    next: str | None
    records: int


@attrs.frozen
class FieldFacts:
    """A field of a record, and who gave it its value."""

    field: str
    value: Text
    updated_at: int | None
    commit: Commit | None


@attrs.frozen
class Change:
    """The changes of one version: "created", "changed" or "deleted", and the lines to show."""

    collection: str
    id: str
    number: int
    kind: str
    rows: list[Row]


@attrs.frozen
class VersionFacts:
    """A version of a record.

    Attributes:
        number: Its place among the versions.
        updated_at: Its time, in milliseconds.
        deleted: Whether it is a tombstone.
        line: Its number in the log; None if the log does not have it any more.
        commit: What brought it.
        change: What it changed, if anything.
        more: How many changed values are not shown.
    """

    number: int
    updated_at: int
    deleted: bool
    line: int | None
    commit: Commit
    change: Change | None
    more: int


@attrs.frozen
class RecordPage:
    """A record with all that is known of it.

    Attributes:
        label: What it calls itself.
        missing: Why it is not there now, in a word or two; empty if it is there.
        fields: Its fields.
        more_fields: How many are not shown.
        versions: The newest first.
        older: The version that the next page of them begins before; None for the last.
        links, named_by: The records that it names, and that name it.
    """

    label: str
    missing: str
    fields: list[FieldFacts]
    more_fields: int
    versions: list[VersionFacts]
    older: int | None
    links: list[Link]
    named_by: list[Link]


@attrs.frozen
class CommitPage:
    """A commit, with some of the changes that it brought.

    Attributes:
        commit: The commit.
        changes: Those of each collection, by record and version.
        counts: For each collection, how many records the commit created, changed and deleted.
        next: How many changes are before the next page; None for the last.
    """

    commit: Commit
    changes: dict[str, list[Change]]
    counts: dict[str, dict[str, int]]
    next: int | None


class NotThereError(TaskstoreError, LookupError):
    """The store does not have what a page was asked for."""


@attrs.frozen
class Source:
    """Answers what the pages ask. Each answer is what the logs say at that moment.

    Attributes:
        store: The store; several threads may ask at once.
        databases: Its cache and history.
    """

    store: Store
    databases: Databases

    def collections(self) -> list[CollectionFacts]:
        """Return the collections, by name."""
        return [
            CollectionFacts(name, self.store.count(name), ask(self.store, survey.last_write, name))
            for name in self._names()
        ]

    def collection(self, name: str, after: str | None, filter: str) -> CollectionPage:
        """Return a page of a collection's records, the newest first.

        Args:
            name: The collection.
            after: What the page before gave as `next`.
            filter: What records must meet, as the command line has it: "status=open"; or nothing.

        Raises:
            NotThereError: There is no such collection.
            TaskstoreError: The filter, or `after`, cannot be understood.
        """
        if name not in self._names():
            raise NotThereError(f"There is no collection {name!r}.")
        conditions = parse_filters(self.store, name, [filter]) if filter else []
        page = self.store.page(name, *conditions, limit=PAGE, after=after)
        columns = _columns(page.items)
        rows = [
            RecordRow(
                record["id"],
                [_cell(record, column) for column in columns],
                record.get("updated_at"),
            )
            for record in page.items
        ]
        return CollectionPage(columns, rows, page.next, self.store.count(name, *conditions))

    def record(self, collection: str, id: str, before: int | None) -> RecordPage:
        """Return a record with its history and its links.

        Args:
            collection: The collection.
            id: The record.
            before: The version that the list of them begins before; None for the newest.

        Raises:
            NotThereError: There is no such record, and never was.
        """
        check_collection_name(collection)
        check_id(id, collection)
        data = self.store.get(collection, id)
        with self.databases.history_session(collection) as session:
            versions, older = _versions(session, collection, id, before)
            if data is None and not versions:
                raise NotThereError(f"There is no record {id!r} in collection {collection!r}.")
            names = [name for name in (data or {}) if name not in ("id", "updated_at")]
            blame = _blame(session, collection, id)
            none = (None, None)
            fields = [
                FieldFacts(name, block((data or {})[name]), *blame.get(name, none))
                for name in names[:_FIELDS]
            ]
            links = links_from(session, self._names(), id, data or {})
            return RecordPage(
                label_of(data or {}),
                "" if data is not None else _missing(session, collection, id),
                fields,
                max(len(names) - _FIELDS, 0),
                versions,
                older,
                links,
                links_to(session, collection, id),
            )

    def value(self, collection: str, id: str, field: str | None, number: int | None) -> str:
        """Return all of a value as text.

        Args:
            collection: The collection.
            id: The record.
            field: The field; None for the record as a whole.
            number: The version; None for the record as it is.

        Raises:
            NotThereError: There is no such value.
        """
        check_collection_name(collection)
        try:
            data = self._data(collection, check_id(id, collection), number)
        except RecordNotFoundError as error:
            raise NotThereError("There is no such record.") from error
        if field is None:
            return whole(data)
        if field not in data:
            raise NotThereError(f"The record has no field {field!r}.")
        return whole(data[field])

    def commits(self, offset: int) -> tuple[list[Commit], int | None]:
        """Return some of the commits that changed records, the newest first.

        Args:
            offset: How many to leave out.

        Returns:
            The commits, and the offset of the next ones; None if there are none. What is not
            committed comes first.
        """
        record = func.json_array(RecordChange.collection, RecordChange.id)
        facts = [*_COMMIT, func.count(record.distinct())]
        statement = (
            select(*facts)
            .group_by(RecordChange.commit_id)
            .order_by(
                RecordChange.commit_id.is_not(None),
                func.julianday(RecordChange.commit_time).desc(),
                RecordChange.commit_id,
            )
            .limit(PAGE + 1)
            .offset(offset)
        )
        with self.databases.history_session() as session:
            found = [_commit(row) for row in session.execute(statement)]
        return found[:PAGE], offset + PAGE if len(found) > PAGE else None

    def commit(self, id: str, offset: int) -> CommitPage:
        """Return what a commit changed.

        Args:
            id: The commit, or the beginning of its id; `UNCOMMITTED` for what is in none.
            offset: How many changes to leave out.

        Raises:
            NotThereError: No record was changed by such a commit.
        """
        is_meant: ColumnElement[bool] = RecordChange.commit_id.is_(None)
        if id != UNCOMMITTED:
            is_meant = RecordChange.commit_id.startswith(id, autoescape=True)
        with self.databases.history_session() as session:
            facts = session.execute(select(*_COMMIT).where(is_meant).limit(1)).first()
            if facts is None:
                raise NotThereError("No record was changed by this commit.")
            is_it = is_meant if facts[0] is None else RecordChange.commit_id == facts[0]
            statement = _changes(is_it).limit(CHANGES + 1).offset(offset)
            rows = session.execute(statement).all()
            counts = _counts(session, is_it)
        more = offset + CHANGES if len(rows) > CHANGES else None
        changes: dict[str, list[Change]] = {}
        for change in _merged(rows[:CHANGES]):
            changes.setdefault(change.collection, []).append(change)
        return CommitPage(_commit(facts), changes, counts, more)

    def _names(self) -> list[str]:
        names, _ = Layout(self.store.path).collections()
        return sorted(names)

    def _data(self, collection: str, id: str, number: int | None) -> dict[str, Any]:
        if number is None:
            return self.store.get_one(collection, id)
        with self.databases.history_session(collection) as session:
            found = session.get(RecordVersion, (collection, id, number))
            if found is None:
                raise NotThereError("There is no such version.")
            return found.data


_COMMIT = (
    RecordChange.commit_id,
    RecordChange.commit_author,
    RecordChange.commit_time,
    RecordChange.commit_subject,
)


def _commit(row: Iterable[Any]) -> Commit:
    return Commit(*row)


def _columns(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return the fields that say most in a table: those that most of the records have."""
    counts: dict[str, int] = {}
    for record in records:
        for name, value in record.items():
            if name not in ("id", "updated_at") and isinstance(value, str | int | float):
                counts[name] = counts.get(name, 0) + 1
    # The order of a line is the one that its application has chosen.
    return sorted(counts, key=lambda name: -counts[name])[:_COLUMNS]


def _cell(record: dict[str, Any], column: str) -> Text:
    value = record.get(column)
    return Text("") if value is None else inline(value)


def _blame(session: Session, collection: str, id: str) -> dict[str, tuple[int, Commit]]:
    rows = session.execute(
        select(
            RecordBlame.field,
            RecordBlame.updated_at,
            RecordBlame.commit_id,
            RecordBlame.commit_author,
            RecordBlame.commit_time,
            RecordBlame.commit_subject,
        ).where(RecordBlame.collection == collection, RecordBlame.id == id)
    )
    return {field: (updated_at, _commit(facts)) for field, updated_at, *facts in rows}


def _missing(session: Session, collection: str, id: str) -> str:
    """Return why a record that had versions is not there."""
    newest = session.execute(
        select(RecordVersion.deleted, RecordVersion.line)
        .where(RecordVersion.collection == collection, RecordVersion.id == id)
        .order_by(RecordVersion.number.desc())
        .limit(1)
    ).first()
    if newest is None or newest.deleted:
        return "deleted"
    return "not in the log any more" if newest.line is None else "cannot be read"


def _versions(
    session: Session, collection: str, id: str, before: int | None
) -> tuple[list[VersionFacts], int | None]:
    """Return some versions of a record, the newest first, and where the next ones begin."""
    statement = select(
        RecordVersion.number,
        RecordVersion.updated_at,
        RecordVersion.deleted,
        RecordVersion.line,
        RecordVersion.commit_id,
        RecordVersion.commit_author,
        RecordVersion.commit_time,
        RecordVersion.commit_subject,
    ).where(RecordVersion.collection == collection, RecordVersion.id == id)
    if before is not None:
        statement = statement.where(RecordVersion.number < before)
    statement = statement.order_by(RecordVersion.number.desc()).limit(PAGE + 1)
    found = []
    for number, updated_at, deleted, line, *facts in session.execute(statement).all():
        is_its = (
            (RecordChange.collection == collection)
            & (RecordChange.id == id)
            & (RecordChange.number == number)
        )
        rows = session.execute(_changes(is_its).limit(_VERSION_CHANGES)).all()
        count = session.scalar(select(func.count()).select_from(RecordChange).where(is_its)) or 0
        change = next(iter(_merged(rows)), None)
        more = count - len(rows)
        found.append(VersionFacts(number, updated_at, deleted, line, _commit(facts), change, more))
    older = found[PAGE - 1].number if len(found) > PAGE else None
    return found[:PAGE], older


def _changes(condition: ColumnElement[bool]) -> Select[Any]:
    return (
        select(
            RecordChange.collection,
            RecordChange.id,
            RecordChange.number,
            RecordChange.kind,
            RecordChange.field,
            func.substr(RecordChange.old_json, 1, _TAKEN),
            func.substr(RecordChange.new_json, 1, _TAKEN),
        )
        .where(condition)
        .order_by(
            RecordChange.collection, RecordChange.id, RecordChange.number, RecordChange.position
        )
    )


def _merged(rows: Iterable[Any]) -> list[Change]:
    """Return what each version changed, from rows that are in the order of versions."""
    found: list[Change] = []
    for collection, id, number, kind, field, old, new in rows:
        key = (collection, id, number)
        if not found or (found[-1].collection, found[-1].id, found[-1].number) != key:
            found.append(Change(*key, kind, []))
        if field:
            found[-1].rows.extend(change_rows(field, old, new))
    return found


def _counts(session: Session, condition: ColumnElement[bool]) -> dict[str, dict[str, int]]:
    """Return how many records were created, changed and deleted, by collection."""
    rows = session.execute(
        select(
            RecordChange.collection,
            RecordChange.kind,
            func.count(RecordChange.id.distinct()),
        )
        .where(condition)
        .group_by(RecordChange.collection, RecordChange.kind)
        .order_by(RecordChange.collection)
    )
    found: dict[str, dict[str, int]] = {}
    for collection, kind, count in rows:
        found.setdefault(collection, {})[kind] = count
    return found
