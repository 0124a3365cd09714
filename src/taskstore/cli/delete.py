"""`taskstore delete`: tombstones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskstore.cli._arguments import collection_argument, ids_argument, not_found, where_option
from taskstore.cli._bulk import passing_ids
from taskstore.cli._errors import reporting
from taskstore.cli._output import json_option, note, to_terminal, write, write_json
from taskstore.cli._store import check_collection, uses_store

if TYPE_CHECKING:
    from taskstore._api.store import Store


@click.command("delete")
@collection_argument
@ids_argument
@where_option
@click.option("--dry-run", is_flag=True, help="Only print the ids.")
@click.option("-y", "--yes", is_flag=True, help="With --where: do not ask.")
@json_option
@uses_store(write=True)
def command(
    store: Store,
    collection: str,
    ids: tuple[str, ...],
    filters: tuple[str, ...],
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete the records of COLLECTION with the given ids, or those that pass --where.

    The command appends a tombstone for each record and prints the ids. It deletes all of them or
    none. The old lines stay in the log: `history` shows them, and `compact` removes them.

    Exit status: 0; 1 if one of the ids does not exist. Then nothing is deleted.

    \b
    Examples:
      taskstore delete plans plan-001 plan-002
      taskstore delete plans --where status=done --dry-run
    """
    if bool(ids) == bool(filters):
        raise click.UsageError("Give either ids or --where.")
    check_collection(store, collection)
    if filters:
        ask = not (yes or dry_run)
        ids = tuple(passing_ids(store, collection, filters, verb="delete", done="deleted", ask=ask))
    with store.transaction():
        for id in dict.fromkeys(ids):
            exists = store.get(collection, id) is not None if dry_run else None
            if exists is False or not (dry_run or store.delete(collection, id) or filters):
                not_found(store, collection, id)
    chosen = list(dict.fromkeys(ids))
    with reporting("nothing was deleted" if dry_run else "what was to be deleted was deleted"):
        if as_json:
            write_json({"ids": chosen, "dry_run": dry_run})
            return
        for id in chosen:
            write(id)
    if to_terminal():
        note(f"{len(ids)} {'would be ' if dry_run else ''}deleted")
