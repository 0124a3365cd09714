"""`taskstore import`: records from a file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from taskstore.cli._arguments import collection_argument, new_option, standard_input
from taskstore.cli._errors import Failure, Status, reporting
from taskstore.cli._output import json_option, note, write_facts, write_json
from taskstore.cli._progress import progress
from taskstore.cli._store import check_new_collection, uses_store

if TYPE_CHECKING:
    from taskstore._api.store import Store
    from taskstore._exchange.importing import ImportPlan, Skipped


_NAMED = 20
"""How many of the skipped records are named."""


@click.command("import")
@collection_argument
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option(
    "-f",
    "--format",
    type=click.Choice(["jsonl", "json", "csv"]),
    help="The file's format. By default, the suffix of its name decides; jsonl for stdin.",
)
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@click.option(
    "--existing",
    type=click.Choice(["newer", "skip", "overwrite"]),
    default="newer",
    show_default=True,
    help="Which records that exist are changed: unless the stored one is newer; none; all.",
)
@click.option(
    "--replace", is_flag=True, help="Remove the fields that an imported record does not have."
)
@click.option("--id", "id_field", metavar="FIELD", help="The field that has the ids.")
@click.option("--make-ids", is_flag=True, help="Give an id to records that have none.")
@click.option("--strict", is_flag=True, help="Import nothing if anything is not a usable record.")
@new_option
@json_option
@uses_store(write=True)
def command(
    store: Store,
    collection: str,
    file: Path,
    format: str | None,
    existing: Any,
    *,
    dry_run: bool,
    replace: bool,
    id_field: str | None,
    make_ids: bool,
    strict: bool,
    new: bool,
    as_json: bool,
) -> None:
    """Import the records of FILE (- for stdin) into COLLECTION. It is created if needed.

    The import is one transaction. Times are kept. Of several lines with one id, the newest counts,
    as in a log, and a tombstone deletes the record. A record that was deleted here after the
    imported version comes back only with --existing overwrite. Fields that an imported record does
    not have stay as they are. What is skipped is listed on stderr, with its line and the reason.

    Exit status: 0; 1 if something was not a usable record and was skipped.

    \b
    Examples:
      taskstore import issues issues.jsonl --dry-run
      taskstore import issues edited.csv
      curl -s https://example.org/issues.json | taskstore import issues - -f json --id number
    """
    from taskstore._exchange.formats import format_of, read_items
    from taskstore._exchange.importing import ImportRefusedError, import_records
    from taskstore._survey.fields import field_kinds

    check_new_collection(store, collection, new=new)
    name = str(file)
    chosen = format or ("jsonl" if name == "-" else format_of(name))
    if chosen is None:
        raise Failure(f"{name}: unknown format: pass --format jsonl, json or csv", Status.USAGE)
    with _opened(file) as stream:
        # Read everything before the transaction: nobody else can write during it.
        found = read_items(stream, chosen, lambda field: field_kinds(store, collection, field))
        items = list(found)
    try:
        with progress(f"Importing {name}") as update:
            plan = import_records(
                store,
                collection,
                items,
                policy=existing,
                replace=replace,
                id_field=id_field,
                make_ids=make_ids,
                dry_run=dry_run,
                strict=strict,
                on_progress=update,
            )
    except ImportRefusedError as error:
        _name(error.skipped, name)
        raise Failure(str(error)) from error
    _report(plan, name, dry_run=dry_run, as_json=as_json)
    if plan.faults:
        raise click.exceptions.Exit(Status.NO)


def _opened(file: Path) -> AbstractContextManager[BinaryIO]:
    if str(file) == "-":
        return nullcontext(standard_input().buffer)
    return open(file, "rb")


def _report(plan: ImportPlan, name: str, *, dry_run: bool, as_json: bool) -> None:
    counts = {
        "created": plan.created,
        "updated": plan.updated,
        "deleted": plan.deleted,
        "unchanged": plan.unchanged,
        "skipped": len(plan.skipped),
    }
    if not as_json:
        _name(plan.skipped, name)
        if dry_run:
            note("Nothing was written; this is what would be done:")
    with reporting("nothing was written" if dry_run else "what could be imported was written"):
        if as_json:
            skipped = [
                {"line": item.place, "id": item.id, "reason": item.reason, "fault": item.is_fault}
                for item in plan.skipped
            ]
            write_json({**counts, "skipped": skipped, "dry_run": dry_run})
        else:
            write_facts(counts)


def _name(skipped: Sequence[Skipped], name: str) -> None:
    for item in skipped[:_NAMED]:
        label = "" if item.id is None else f"{item.id}: "
        note(f"{name}:{item.place}: {label}{item.reason}")
    if len(skipped) > _NAMED:
        note(f"... and {len(skipped) - _NAMED} more; --json names all")
