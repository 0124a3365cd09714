"""Who last changed each field of a record, without using the cache."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import attrs

from taskstore._git.repository import Repository
from taskstore._log import files
from taskstore._log.files import access
from taskstore._log.layout import Layout
from taskstore._log.snapshots import private_folder
from taskstore._log.trust import Mark
from taskstore.errors import StoreAccessError

_NAME = "blame-1.json"
_KEPT = 32
"""How many answers are kept."""

_KEPT_BYTES = 256 * 1024
"""How long all of them may be together, as JSON."""


@attrs.frozen
class FieldBlame:
    """The commit that gave a field of a record its present value.

    Attributes:
        field: The name of the field.
        value: Its value.
        updated_at: The version of the record that first had it.
        commit: The id of the commit that added this version; None if it is not committed.
        author: The commit's author.
        time: The time of the commit, in RFC 3339.
        subject: The first line of its message.
        is_boundary: Whether a shallow clone ends at the commit. If so, the change was made in it
            or in an older one.
    """

    field: str
    value: Any
    updated_at: int | str | None
    commit: str | None = None
    author: str | None = None
    time: str | None = None
    subject: str | None = None
    is_boundary: bool = False


def blame(layout: Layout, collection: str, id: str, *, keep: bool = True) -> list[FieldBlame]:
    """Return who last changed each field of a record; nothing if there is no such record.

    Args:
        layout: The store.
        collection: The collection.
        id: The record.
        keep: Whether to save the answer next to the mark of the clone, for the next call.

    Raises:
        GitError: Git refused.
        StoreAccessError: The log cannot be read.
    """
    repository = Repository.find(layout.directory)
    answers = _Answers.of(layout) if keep else None
    if answers is None:
        return _asked(layout, repository, collection, id)
    key = _key(layout, repository, collection, id)
    known = answers.read()
    if key not in known:
        found = _asked(layout, repository, collection, id)
        if _key(layout, repository, collection, id) == key:
            answers.write({key: [attrs.asdict(one) for one in found]} | known)
        return found
    return [FieldBlame(**fields) for fields in known[key]]


def _key(layout: Layout, repository: Repository | None, collection: str, id: str) -> str:
    """Return a name for what an answer depends on."""
    head = "" if repository is None else repository.git.ask("rev-parse", "-q", "HEAD").text
    paths = [layout.log_path(collection), layout.log_path("evolutions")]
    if repository is not None:
        paths.append(repository.common_dir / "shallow")
    facts = [collection, id, head, *map(_stat, paths)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _stat(path: Path) -> list[int]:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


@attrs.frozen
class _Answers:
    """The last answers, in a file that a clone or an archive cannot bring."""

    path: Path

    @classmethod
    def of(cls, layout: Layout) -> _Answers | None:
        """Return the answers of a store; None if it cannot keep any."""
        try:
            return cls(private_folder(Mark.of(layout.directory, own=True)) / _NAME)
        except StoreAccessError:
            return None

    def read(self) -> dict[str, Any]:
        """Return the answers by their keys."""
        try:
            found = json.loads(files.read_small(self.path))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, answers: dict[str, Any]) -> None:
        """Keep the first of some answers."""
        kept = dict(list(answers.items())[:_KEPT])
        while kept and len(data := json.dumps(kept)) > _KEPT_BYTES:
            kept.popitem()
        if kept:
            with access(self.path, "write"):
                files.put_whole(self.path, data.encode(), mode=0o600, durable=False)


def _asked(
    layout: Layout, repository: Repository | None, collection: str, id: str
) -> list[FieldBlame]:
    # Not imported if the answer is known.
    from taskstore._diff.blame import Fields, blame_fields
    from taskstore._evolution.shape import NO_SHAPE
    from taskstore._format.lines import decode_object
    from taskstore._git.history import versions
    from taskstore._log.evolutions import newest_shapes

    found = versions(layout.log_path(collection), id, repository, quick=True)
    # A version that would win, but is no longer in the log, does not count.
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


def _told(name: str, data: dict[str, Any] | None, version: Any) -> FieldBlame:
    value = None if data is None else data[name]
    commit = version.commit
    if commit is None:
        return FieldBlame(name, value, version.updated_at)
    facts = (commit.id, commit.author, commit.time, commit.subject, commit.is_boundary)
    return FieldBlame(name, value, version.updated_at, *facts)
