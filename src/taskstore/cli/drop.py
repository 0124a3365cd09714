"""`taskstore drop`: delete a whole collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskstore.cli._arguments import collection_argument
from taskstore.cli._bulk import confirm
from taskstore.cli._errors import reporting
from taskstore.cli._output import json_option, note, write_json
from taskstore.cli._store import check_collection, uses_store

if TYPE_CHECKING:
    from taskstore._api.store import Store


@click.command("drop")
@collection_argument
@click.option("--dry-run", is_flag=True, help="Only count the records.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@uses_store(write=True)
def command(store: Store, collection: str, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete all records of COLLECTION.

    The command appends a tombstone for each record, in one transaction. The log stays, because
    clones and branches learn from the tombstones what was deleted. A record that one of them
    changes or adds later comes back with the merge. When all have merged, you can remove the file
    with `git rm`.

    \b
    Example:
      taskstore drop drafts
    """
    from taskstore._query.conditions import where

    check_collection(store, collection)
    total = store.count(collection)
    if total and not (yes or dry_run):
        confirm(total, collection, verb="delete", done="deleted")
    if not dry_run:
        total = store.delete_where(collection, where("id").is_not(None))
    with reporting("nothing was deleted" if dry_run else "the records were deleted"):
        if as_json:
            write_json({"collection": collection, "deleted": total, "dry_run": dry_run})
    if not as_json:
        records = f"{total} record{'' if total == 1 else 's'}"
        note(f"{records} {'would be ' if dry_run else ''}deleted from {collection}")
