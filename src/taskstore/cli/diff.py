"""`taskstore diff`: what changed between commits, by record and field."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskstore.cli._errors import Failure, Status
from taskstore.cli._formats import format_option, is_json, write_items, write_rows
from taskstore.cli._output import Styled, write
from taskstore.cli._paging import paged
from taskstore.cli._store import complete_revision, locate, no_commit, store_option

if TYPE_CHECKING:
    from taskstore._diff.changes import RecordChange
    from taskstore._evolution.shape import Shape

_COLUMNS = ("collection", "id", "change", "field", "old", "new")


@click.command("diff")
@click.argument("revisions", metavar="[REV [REV]]", nargs=-1, shell_complete=complete_revision)
@click.option(
    "--exit-code", "with_status", is_flag=True, help="Exit with 1 if anything differs, else 0."
)
@click.option(
    "--textconv",
    "textconv",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Print a log as text, each line with its record and field; git calls this for `git diff`.",
)
@click.option("--stat", is_flag=True, help="Only print how many records of each collection differ.")
@functools.partial(format_option, more=("markdown", "html"))
@store_option
def command(
    store_path: Path | None,
    revisions: tuple[str, ...],
    with_status: bool,
    textconv: Path | None,
    stat: bool,
    format: str | None,
) -> None:
    """Show what changed, by record and field.

    Without a REV, show what is not committed. With one, show what changed between that commit and
    the work tree. With two, or as A..B, show what changed from the first to the second. A...B shows
    what B changed since it branched off A. By default it is text for people; the formats table, csv
    and tsv have a row for each field, markdown is for pull requests, and html is a page.

    Exit status: 0; 1 with --exit-code, if anything differs; 2 too many REVs; 3 no store, no
    repository, or no such commit.

    \b
    Examples:
      taskstore diff main...HEAD
      taskstore diff HEAD~1 --format csv
      taskstore diff main...HEAD --format markdown
    """
    if textconv is not None:
        _print_as_text(textconv)
        return
    found = dict(_changes(locate(store_path), revisions))
    changes = [(name, change) for name, some in found.items() for change in some]
    if format in ("markdown", "html"):
        from taskstore._diff.report import to_html, to_markdown

        write_all = to_markdown if format == "markdown" else to_html
        for text in write_all(changes, only_counts=stat):
            write(text)
    elif stat:
        _show_counts(changes, format)
    elif is_json(format):
        items = [{"collection": name, **change.to_dict()} for name, change in changes]
        write_items(items, format, indent=True)
    elif format is not None:
        rows = [row for name, change in changes for row in _rows(name, change)]
        write_rows(_COLUMNS, rows, format, fold=_COLUMNS[-2:])
    else:
        with paged():
            for name, change in changes:
                _show(name, change)
    if with_status and any(found.values()):
        click.get_current_context().exit(Status.NO)


def _show_counts(changes: Sequence[tuple[str, RecordChange]], format: str | None) -> None:
    import attrs

    from taskstore._diff.report import Count, counts

    found = [attrs.asdict(count) for count in counts(changes)]
    if is_json(format):
        write_items(found, format, indent=True)
        return
    names = [field.name for field in attrs.fields(Count)]
    rows = [list(item.values()) for item in found]
    write_rows(names, rows, format, numbers=names[1:])


def _print_as_text(path: Path) -> None:
    from taskstore._diff.text import render_log
    from taskstore._format.lines import OVERLONG
    from taskstore._log.lines import chunks_of, split_lines

    with open(path, "rb", buffering=0) as file:
        raws = [line.raw for line in split_lines(chunks_of(file))]
    data = b"\n".join([OVERLONG.encode() if raw is None else raw for raw in raws])
    for text in render_log(data, _shape_of(path)):
        write(text)


def _shape_of(path: Path) -> Shape:
    from taskstore._evolution.shape import NO_SHAPE
    from taskstore._git.evolutions import shape_of
    from taskstore._git.run import Git, is_installed
    from taskstore.errors import GitError

    try:
        return shape_of(Git(Path.cwd()), path) if is_installed() else NO_SHAPE
    except GitError:
        return NO_SHAPE  # outside of a repository


def _changes(
    directory: Path, revisions: tuple[str, ...]
) -> Iterator[tuple[str, list[RecordChange]]]:
    from taskstore._diff.changes import compare_logs
    from taskstore._evolution.shape import NO_SHAPE, Shape
    from taskstore._git.evolutions import graphs_at_hand
    from taskstore._git.objects import read_sides
    from taskstore._git.repository import Repository
    from taskstore._log.evolutions import read_stated
    from taskstore._log.layout import Layout
    from taskstore.errors import CommitNotFoundError

    if len(revisions) > 2:
        raise click.UsageError("At most two REVs can be compared.")
    repository = Repository.find(directory)
    if repository is None:
        raise Failure(f"{directory} is not in a git repository", Status.STORE)
    name = f"{repository.name_of(directory)}/evolutions.jsonl"
    # A side may be a branch that has evolved, and is not merged yet.
    graphs = graphs_at_hand(repository.git, name, read_stated(Layout(directory)))
    shapes = {name: Shape(graph, graph.whole) for name, graph in graphs.items()}
    try:
        for name, old, new in read_sides(repository, directory, revisions):
            yield name, list(compare_logs(old, new, shapes.get(name, NO_SHAPE)))
    except CommitNotFoundError as error:
        raise no_commit(error, directory) from error


def _rows(collection: str, change: RecordChange) -> Iterator[tuple[Any, ...]]:
    head = (collection, change.id, change.kind)
    for field in change.fields:
        sides = field.to_dict()
        yield (*head, field.field, sides.get("old"), sides.get("new"))
    if not change.fields:
        yield (*head, None, None, None)


_COLORS = {"+": "green", "-": "red", "created": "green", "deleted": "red", "changed": "yellow"}


def _show(collection: str, change: RecordChange) -> None:
    from taskstore._diff.text import describe

    write(f"{collection}/{change.id}: ", Styled(change.kind, _COLORS.get(change.kind)))
    for sign, text in (line for field in change.fields for line in describe(field)):
        write(Styled(f"  {sign} {text}", _COLORS.get(sign)))
