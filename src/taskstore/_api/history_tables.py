"""Fill the tables of the history from git and today's logs."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from taskstore._cache.history import database
from taskstore._cache.history.database import ReadCommit
from taskstore._diff.blame import Fields, blame_fields
from taskstore._diff.changes import MISSING, compare_records
from taskstore._evolution.shape import NO_SHAPE, Shape
from taskstore._format.lines import LineError, decode_key, decode_object
from taskstore._format.names import EVOLUTIONS
from taskstore._git.history import Commit, added_lines, appended_lines
from taskstore._git.objects import logs_at
from taskstore._git.repository import Repository
from taskstore._log import files
from taskstore._log.evolutions import newest_shapes
from taskstore._log.files import access
from taskstore._log.layout import Layout
from taskstore._log.lines import read_lines
from taskstore._store.sqlite_errors import is_unusable, meaning

_NAME = "history-1.db"


@attrs.define
class _Version:
    """A line, and the positions of the commits that added it."""

    raw: bytes
    order_us: int
    deleted: bool
    line: int | None
    brought: list[int]


def fill(layout: Layout, folder: Path, collections: Iterable[str] | None) -> Path:
    """Update the tables from git and the logs, and return the database.

    Args:
        layout: The store.
        folder: Where the database is.
        collections: The collections to read; None for all that exist now or at HEAD.

    Raises:
        GitError: Git refused.
        StoreAccessError: A log cannot be read, or the database cannot be written.
        CacheError: The database is damaged again after it was made again.
        LockTimeoutError: Another process writes it for too long.
    """
    repository = Repository.find(layout.directory)
    if repository is not None and not repository.has_commits():
        repository = None
    if collections is None:
        tracked = {} if repository is None else logs_at(repository, "HEAD", layout.directory)
        collections = sorted({*layout.collections()[0], *tracked} - {EVOLUTIONS})
    shapes = newest_shapes(layout)
    path = folder / _NAME

    def update() -> None:
        with database.opened(path) as connection:
            for name in collections:
                _fill_one(connection, layout, repository, name, shapes.get(name, NO_SHAPE))

    try:
        try:
            update()
        except sqlite3.Error as error:
            if not is_unusable(error):
                raise
            database.remove(path)
            update()
    except sqlite3.Error as error:
        raise meaning(error, path, database.TIMEOUT) or error from error
    return path


def _place_of(found: os.stat_result | None) -> str:
    """Return a text for the state of a log's file; empty if there is no file."""
    return "" if found is None else f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"


def _fill_one(
    connection: sqlite3.Connection,
    layout: Layout,
    repository: Repository | None,
    collection: str,
    shape: Shape,
) -> None:
    head, state = database.read_state(connection, collection)
    path = layout.log_path(collection)
    new_head = "" if repository is None else repository.revision("HEAD")
    found = layout.stat_log(collection)
    place = _place_of(found)
    new_state = f"{new_head} {place} {shape.signature}"
    if state == new_state:
        return
    if repository is not None and head != new_head:
        name = repository.name_of(path)
        if not (head and _is_straight(repository, head, new_head)):
            database.forget(connection, collection)
            head = ""
        quick = None if head else appended_lines(repository, name, path)
        lines = quick if quick is not None else added_lines(repository, name, since=head)
        database.add_commits(connection, collection, _grouped(lines))
    elif repository is None:
        database.forget(connection, collection)
    commits = database.commits_of(connection, collection)
    versions = _versions(commits, {} if found is None else _lines(path))
    rows = _Rows(collection, shape, commits)
    database.put_rows(connection, collection, rows.of(versions))
    database.put_state(connection, collection, new_head, new_state)


def _is_straight(repository: Repository, old: str, new: str) -> bool:
    """Say whether one commit follows another without a merge.

    A merge may drop a side from the history that was read before.
    """
    if repository.git.ask("merge-base", "--is-ancestor", old, new).status != 0:
        return False
    return not repository.git.run("rev-list", "--merges", "-n1", f"{old}..{new}").text


def _grouped(
    lines: Iterable[tuple[Commit, list[str], bytes | None]],
) -> Iterator[ReadCommit]:
    """Yield commits with the lines that they added."""
    current: ReadCommit | None = None
    for commit, parents, raw in lines:
        if raw is None:
            if current is not None:
                yield current
            facts = (commit.author, commit.time, commit.subject)
            current = ReadCommit(commit.id, parents, facts, commit.is_boundary, [])
        elif current is not None:
            current.lines.append(raw.removesuffix(b"\r"))
    if current is not None:
        yield current


def _lines(path: Path) -> dict[bytes, int]:
    """Return the line numbers of a log; if a line is there twice, the last number counts."""
    with access(path):
        try:
            fd = files.open_log(path)
        except FileNotFoundError:
            return {}
        try:
            return {
                line.raw.removesuffix(b"\r"): line.number
                for line in read_lines(fd)
                if line.raw is not None
            }
        finally:
            os.close(fd)


def _versions(
    commits: Sequence[ReadCommit], numbers: dict[bytes, int]
) -> dict[str, list[_Version]]:
    """Return the versions of each record, in the order of a replay."""
    found: dict[bytes, tuple[str, _Version] | None] = {}
    for position, commit in enumerate(commits):
        for raw in commit.lines:
            if raw not in found:
                found[raw] = _decoded(raw, numbers.get(raw))
            if (known := found[raw]) is not None:
                known[1].brought.append(position)
    for raw, number in numbers.items():
        if raw not in found:
            found[raw] = _decoded(raw, number)
    by_id: dict[str, list[_Version]] = {}
    for known in found.values():
        if known is not None:
            by_id.setdefault(known[0], []).append(known[1])
    for versions in by_id.values():
        versions.sort(key=lambda one: (one.order_us, one.line or 0))
    return by_id


def _decoded(raw: bytes, number: int | None) -> tuple[str, _Version] | None:
    try:
        id, order_us, deleted, _, _ = decode_key(raw)
    except LineError:
        return None
    return id, _Version(raw, order_us, deleted, number, [])


@attrs.define
class _Rows:
    """Makes the rows of a collection.

    Attributes:
        collection: The collection.
        shape: The shape in which lines are shown.
        commits: The commits that changed its log, oldest first.
    """

    collection: str
    shape: Shape
    commits: Sequence[ReadCommit]
    _parents: list[list[int]] = attrs.field(factory=list, init=False)
    _known: list[int] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        # The commits at or before each one, as the bits of an integer.
        places: dict[str, int] = {}
        for position, commit in enumerate(self.commits):
            # If a parent is not among them, an earlier reading ended there.
            above = [places.get(parent, position - 1) for parent in commit.parents if position]
            known = 1 << position
            for parent in above:
                known |= self._known[parent]
            places[commit.id] = position
            self._parents.append(above)
            self._known.append(known)

    def of(self, by_id: dict[str, list[_Version]]) -> Iterator[tuple[str, Sequence[Any]]]:
        """Yield the rows of all records, each with its table."""
        for id, versions in by_id.items():
            fields: list[Fields] = []
            for number, version in enumerate(versions):
                shown = self.shape.shown(version.raw)
                data = None if version.deleted else decode_object(shown)
                fields.append(Fields(data, self._sources(versions, number)))
                text = shown if isinstance(shown, str) else shown.decode()
                key = (self.collection, id, number)
                ms = version.order_us // 1000
                values = (*key, ms, version.line, version.deleted, text)
                yield "record_versions", (*values, *self._facts(version))
                for position, change in enumerate(self._changes(id, versions, number)):
                    yield "record_changes", (*key, position, *change, ms, *self._facts(version))
            yield from self._blame(id, versions, fields)

    def _changes(
        self, id: str, versions: list[_Version], number: int
    ) -> Iterator[tuple[str, str, str | None, str | None]]:
        before = self._before(versions, number)
        raw = None if before is None else versions[before].raw
        change = compare_records(id, raw, versions[number].raw, self.shape)
        if change is not None:
            if not change.fields:
                yield change.kind, "", None, None
            for field in change.fields:
                yield change.kind, field.field, _json(field.old), _json(field.new)

    def _blame(
        self, id: str, versions: list[_Version], fields: list[Fields]
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        here = [n for n, version in enumerate(versions) if version.line is not None]
        if not here:
            return
        last = here[-1]
        data = fields[last].data or {}
        for name, number in blame_fields(fields[: last + 1]).items():
            version = versions[number]
            values = (self.collection, id, name, _json(data[name]), number)
            yield "record_blame", (*values, version.order_us // 1000, *self._facts(version))

    def _facts(self, version: _Version) -> tuple[str | None, ...]:
        if not version.brought:
            return (None, None, None, None)
        commit = self.commits[version.brought[0]]
        return (commit.id, *commit.facts)

    def _before(self, versions: list[_Version], number: int) -> int | None:
        version = versions[number]
        if not version.brought:
            return number - 1 if number else None
        return self._newest(versions, number, self._known[version.brought[0]])

    def _sources(self, versions: list[_Version], number: int) -> tuple[int, ...]:
        version = versions[number]
        if not version.brought:
            return (number - 1,) if number else ()
        first = version.brought[0]
        for other in range(number - 1, -1, -1):
            if versions[other].brought[:1] == [first]:
                return (other,)
        known = (self._known[parent] for parent in self._parents[first])
        found = (self._newest(versions, number, each) for each in known)
        return tuple(dict.fromkeys(one for one in found if one is not None))

    @staticmethod
    def _newest(versions: list[_Version], number: int, known: int) -> int | None:
        """Return the newest earlier version that one of some commits added."""
        for other in range(number - 1, -1, -1):
            if any(known >> position & 1 for position in versions[other].brought):
                return other
        return None


def _json(value: Any) -> str | None:
    return None if value is MISSING else json.dumps(value, ensure_ascii=False)
