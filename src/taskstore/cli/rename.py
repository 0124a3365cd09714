"""`taskstore rename`: another name for a collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskstore.cli._arguments import collection_argument
from taskstore.cli._errors import Failure, Status, reporting
from taskstore.cli._output import json_option, note, write_json
from taskstore.cli._store import check_collection, uses_store

if TYPE_CHECKING:
    from taskstore._api.store import Store


@click.command("rename")
@collection_argument
@click.argument("name")
@json_option
@uses_store(write=True)
def command(store: Store, collection: str, name: str, *, as_json: bool) -> None:
    """Rename COLLECTION to NAME.

    The command adds a line to evolutions.jsonl. The log keeps its file name, so that branches and
    clones that use the old name write to the same file. All commands take both names. If a record
    class or a mirrored model declares the collection, rename it there, with was=.

    Exit status: 0; 1 no such collection; 2 NAME cannot be used, or a record class declares the
    collection.

    \b
    Example:
      taskstore rename ideas drafts
    """
    from taskstore._api.renaming import rename_collection
    from taskstore.errors import InvalidDeclarationError

    log = check_collection(store, collection)
    try:
        before = rename_collection(store, collection, name)
    except InvalidDeclarationError as error:
        raise Failure(str(error), Status.USAGE) from error
    with reporting("the collection was renamed"):
        if as_json:
            write_json({"before": before, "collection": name, "log": f"{log}.jsonl"})
    if not as_json:
        note(f"{before} is now {name}; its log is still {log}.jsonl")
