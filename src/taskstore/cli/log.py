"""`taskstore log`: every version of a record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskstore.cli._arguments import CollectionName, ids_hint
from taskstore.cli._completion import complete_collection, complete_id
from taskstore.cli._errors import Failure, hint
from taskstore.cli._output import Styled, json_option, note, write, write_json
from taskstore.cli._paging import paged
from taskstore.cli._store import check_is_file, locate, log_of, opened, store_option

if TYPE_CHECKING:
    from taskstore._diff.changes import RecordChange
    from taskstore._evolution.shape import Shape
    from taskstore._git.history import Commit, Version


Told = list[tuple["Version", "RecordChange | None", "dict[str, Any]"]]


@click.command("log")
@click.argument(
    "words", metavar="[COLLECTION] ID", nargs=-1, required=True, shell_complete=complete_id
)
@click.option(
    "--collection",
    metavar="NAME",
    type=CollectionName(),
    shell_complete=complete_collection,
    help="The same as COLLECTION.",
)
@json_option
@store_option
def command(
    store_path: Path | None, words: tuple[str, ...], collection: str | None, as_json: bool
) -> None:
    """Show every version of a record, oldest first: when, what changed, and which commit.

    Versions that the log no longer has, because it was compacted or rewritten, come from git's
    history. Without COLLECTION, all collections are searched. `taskstore history` shows the same
    as a table.

    Exit status: 0; 1 there is no such record, and never was; 3 no store.

    \b
    Examples:
      taskstore log plan-001
      taskstore log plans plan-001
    """
    *named, id = words
    if len(named) + (collection is not None) > 1:
        raise click.UsageError("Give one COLLECTION at most, and one ID.")
    directory = locate(store_path)
    if named:
        collection = log_of(directory, named[0])
    found = find_versions(directory, id, collection)
    if as_json:
        write_json([_as_json(name, told) for name, told in found.items()])
        return
    with paged():
        for name, told in found.items():
            for version, change, _ in told:
                _show(f"{name}/{id}", version, change)
    if not any(version.commit for told in found.values() for version, _, _ in told):
        note("git knows no commit with it")


def find_versions(directory: Path, id: str, collection: str | None) -> dict[str, Told]:
    """Return the versions of a record, with what each changed, by collection.

    Args:
        directory: The store.
        id: The record.
        collection: The collection to search; None for all.

    Raises:
        Failure: There is no version.
    """
    from taskstore._evolution.shape import NO_SHAPE
    from taskstore._format.names import check_collection_name
    from taskstore._git.history import versions
    from taskstore._git.objects import logs_at
    from taskstore._git.repository import Repository
    from taskstore._log.evolutions import newest_shapes
    from taskstore._log.layout import Layout
    from taskstore.errors import GitError

    layout = Layout(directory)
    try:
        repository = Repository.find(directory)
    except GitError as error:
        if error.status is not None:
            raise  # git has a history, but cannot return it
        note(f"without git's history: {error}")
        repository = None
    if collection is not None:
        names = [check_collection_name(collection)]
        check_is_file(layout, collection)
    else:
        tracked = {} if repository is None else logs_at(repository, "HEAD", directory)
        names = sorted({*layout.collections()[0], *tracked})
    found = {name: versions(layout.log_path(name), id, repository, quick=True) for name in names}
    shapes = newest_shapes(layout)
    told = {
        name: _told(id, items, shapes.get(name, NO_SHAPE)) for name, items in found.items() if items
    }
    if not told:
        raise Failure(_missing(directory, id, collection))
    return told


def _missing(directory: Path, id: str, collection: str | None) -> str:
    from taskstore._log.layout import Layout

    names, _ = Layout(directory).collections()
    if collection is not None and collection not in names:
        return f"no collection {collection!r} in {directory}{hint(collection, names)}"
    searched = names if collection is None else [collection]
    with opened(directory) as store:
        end = ids_hint(store, searched, id)
    where = f"collection {collection!r} of " if collection is not None else ""
    return f"no version of a record {id!r} in {where}{directory}{end}"


def _told(id: str, versions: list[Version], shape: Shape) -> Told:
    """Return each version with its change and its fields, all in the same shape."""
    from taskstore._diff.changes import compare_records
    from taskstore._format.lines import decode_object

    return [
        (
            each,
            compare_records(id, each.before, each.raw, shape),
            decode_object(shape.shown(each.raw)),
        )
        for each in versions
    ]


def _as_json(collection: str, told: Told) -> dict[str, Any]:
    return {"collection": collection, "versions": [_version(*item) for item in told]}


def _version(version: Version, change: RecordChange | None, data: dict[str, Any]) -> dict[str, Any]:
    import attrs

    return {
        "updated_at": version.updated_at,
        "deleted": version.deleted,
        "line": version.line,
        "commit": None if version.commit is None else attrs.asdict(version.commit),
        "change": "none" if change is None else change.kind,
        "fields": [] if change is None else [field.to_dict() for field in change.fields],
        "data": data,
    }


def _show(name: str, version: Version, change: RecordChange | None) -> None:
    from taskstore._diff.text import describe

    kind = "unchanged" if change is None else change.kind
    head = f"{_when(version)}  {name}: {kind}"
    write(Styled(head, bold=True))
    place = "no longer in the log" if version.line is None else f"line {version.line}"
    write(f"    {place}, {_commit(version.commit)}")
    for field in () if change is None else change.fields:
        for sign, text in describe(field):
            write(f"  {sign} {text}")


def _when(version: Version) -> str:
    from taskstore._format.instants import format_rfc3339

    return format_rfc3339(version.order_us // 1000) if version.updated_at else "(no time)"


def _commit(commit: Commit | None) -> str:
    if commit is None:
        return "not committed"
    at = "at or before " if commit.is_boundary else ""
    return f"{at}commit {commit.id[:10]} of {commit.time} by {commit.author}: {commit.subject}"
