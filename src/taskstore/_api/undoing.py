"""Restore a record, and revert a commit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taskstore._diff.changes import MISSING, same_value
from taskstore._evolution.shape import NO_SHAPE, Shape
from taskstore._format.lines import decode_object
from taskstore._format.names import EVOLUTIONS
from taskstore._git.history import versions
from taskstore._git.objects import read_sides
from taskstore._git.repository import Repository
from taskstore._log.evolutions import newest_shapes
from taskstore._log.layout import Layout
from taskstore._merge.logs import read_log
from taskstore.errors import GitError, RecordExistsError, RecordNotFoundError, RevertConflictError

Row = dict[str, Any]


def restore(store: Any, layout: Layout, collection: str, id: str, at: Any) -> None:
    """Bring a record back; see `Store.restore`."""
    if at is None:
        if store.get(collection, id) is not None:
            raise RecordExistsError(collection=collection, id=id)
        before = _last(layout, collection, id)
    else:
        with store.as_of(at) as past:
            before = past.get(collection, id)
    if before is None:
        raise RecordNotFoundError(collection=collection, id=id)
    with store.transaction():
        now = store.get(collection, id)
        if now is None or not _is_same(before, now):
            store.save(_unstamped(before), collection=collection)


def revert(store: Any, layout: Layout, commit: str) -> list[tuple[str, str]]:
    """Undo what a commit changed; see `Store.revert`."""
    changes = list(_changes_of(layout, commit))
    conflicts: list[str] = []
    written: list[tuple[str, str]] = []
    with store.transaction():
        for collection, id, before, after in changes:
            now = store.get(collection, id)
            wanted, against = _undone(before, after, now)
            place = f"{collection}/{id}"
            conflicts += [f"{place}.{name}" if name else place for name in against]
            if against or wanted == now:
                continue
            written.append((collection, id))
            if wanted is None:
                store.delete(collection, id)
            else:
                store.save(_unstamped(wanted), collection=collection)
        if conflicts:
            raise RevertConflictError(commit, conflicts=tuple(conflicts))
    return written


def _last(layout: Layout, collection: str, id: str) -> Row | None:
    """Return the last version of a deleted record; None if there never was one."""
    repository = Repository.find(layout.directory)
    shape = newest_shapes(layout).get(collection, NO_SHAPE)
    for version in reversed(versions(layout.log_path(collection), id, repository)):
        if not version.deleted:
            return decode_object(shape.shown(version.raw))
    return None


def _changes_of(layout: Layout, name: str) -> Iterator[tuple[str, str, Row | None, Row | None]]:
    """Yield the records that a commit changed, as they were before and after."""
    repository = Repository.find(layout.directory)
    if repository is None:
        raise GitError("git", reason=f"{layout.directory} is not in a git repository")
    commit = repository.revision(name)
    parents = repository.git.run("rev-list", "--parents", "-n1", commit).text.split()[1:]
    if len(parents) > 1:
        reason = f"{name} is a merge: revert the commits that it brought, one by one"
        raise GitError("git", reason=reason)
    shapes = newest_shapes(layout)
    first = parents[0] if parents else repository.empty_tree()
    for collection, old, new in read_sides(repository, layout.directory, [first, commit]):
        if collection != EVOLUTIONS:
            yield from _differences(collection, old, new, shapes.get(collection, NO_SHAPE))


def _differences(
    collection: str, old: bytes, new: bytes, shape: Shape
) -> Iterator[tuple[str, str, Row | None, Row | None]]:
    before, after = (read_log(data, {}).winners for data in (old, new))
    for id in sorted(before.keys() | after.keys()):
        lines = before.get(id), after.get(id)
        if lines[0] != lines[1]:
            first, second = (
                None if line is None or line.deleted else decode_object(shape.shown(line.raw))
                for line in lines
            )
            yield collection, id, first, second


def _undone(before: Row | None, after: Row | None, now: Row | None) -> tuple[Row | None, list[str]]:
    """Return a record without a change, and the fields where the change cannot be undone.

    The field "" stands for the record as a whole.
    """
    if before is None or after is None or now is None:
        if _is_same(after, now):
            return before, []
        return now, [] if _is_same(before, now) else [""]
    wanted, against = dict(now), []
    for name in {**before, **after}:
        old, new = before.get(name, MISSING), after.get(name, MISSING)
        if name == "updated_at" or same_value(old, new):
            continue
        present = now.get(name, MISSING)
        if same_value(present, new):
            wanted[name] = old
        elif not same_value(present, old):
            against.append(name)
    return {name: value for name, value in wanted.items() if value is not MISSING}, against


def _is_same(one: Row | None, other: Row | None) -> bool:
    if one is None or other is None:
        return one is other
    return same_value(_unstamped(one), _unstamped(other))


def _unstamped(record: Row) -> Row:
    return {name: value for name, value in record.items() if name != "updated_at"}
