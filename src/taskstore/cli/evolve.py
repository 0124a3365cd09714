"""`taskstore evolve`: the revisions of lines, and what a step would do to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from taskstore.cli._arguments import CollectionName
from taskstore.cli._completion import complete_collection
from taskstore.cli._errors import Failure, Status, hint
from taskstore.cli._output import json_option, note, write, write_json, write_table
from taskstore.cli._store import check_is_file, locate, store_option

if TYPE_CHECKING:
    from taskstore._doctor.evolutions import Preview, RevisionCount

_COLUMNS = ("collection", "revision", "lines", "records", "known")


@click.command("evolve")
@click.argument(
    "collection", type=CollectionName(), required=False, shell_complete=complete_collection
)
@click.option(
    "--step",
    metavar="JSON",
    help='Show what a step would do to the records: {"rename": {"title": "name"}}.',
)
@json_option
@store_option
def command(
    store_path: Path | None, collection: str | None, step: str | None, as_json: bool
) -> None:
    """Show under which revisions the lines of COLLECTION (all by default) were written.

    With --step, show how many records a step would change, and which records do not fit the step.
    The command writes nothing.

    Exit status: 0; 1 no such collection, or a record does not fit the step; 2 no step; 3 no store.

    \b
    Examples:
      taskstore evolve
      taskstore evolve tasks --step '{"convert": {"priority": "int"}}'
    """
    from taskstore._doctor.evolutions import count_revisions, find_clashes, preview
    from taskstore._log.layout import Layout

    layout = Layout(locate(store_path))
    names, _ = layout.collections()
    if collection is not None and collection not in names:
        check_is_file(layout, collection)
        message = f"no collection {collection!r} in {layout.directory}{hint(collection, names)}"
        raise Failure(message)
    if step is None:
        _show_counts(list(count_revisions(layout, collection)), as_json=as_json)
        for clash in find_clashes(layout, collection):
            note(f"{clash}; `taskstore doctor` has the remedy")
        return
    if collection is None:
        raise click.UsageError("Name the collection that the step is for.")
    try:
        found = preview(layout, collection, step)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--step") from None
    _show_preview(found, as_json=as_json)
    if found.unfit:
        click.get_current_context().exit(Status.NO)


def _show_counts(counts: list[RevisionCount], *, as_json: bool) -> None:
    if as_json:
        write_json([attrs.asdict(count) for count in counts])
    else:
        write_table(
            _COLUMNS, [attrs.astuple(count) for count in counts], numbers=["lines", "records"]
        )


def _show_preview(found: Preview, *, as_json: bool) -> None:
    if as_json:
        write_json(attrs.asdict(found))
        return
    write(f"{found.changed} of {found.records} record(s) would change")
    for id, reason in found.unfit.items():
        write(f"{id}: {reason}")
