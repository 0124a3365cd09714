"""`taskstore get`: records by their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskstore.cli._arguments import collection_argument, ids_argument, not_found
from taskstore.cli._output import (
    json_option,
    to_terminal,
    with_moment,
    write,
    write_facts,
    write_json,
)
from taskstore.cli._store import check_collection, reads_store

if TYPE_CHECKING:
    from taskstore.cli._store import Readable


@click.command("get")
@collection_argument
@ids_argument
@json_option
@reads_store
def command(store: Readable, collection: str, ids: tuple[str, ...], *, as_json: bool) -> None:
    """Show the records of COLLECTION with the given ids, field by field.

    Exit status: 0; 1 if one of them does not exist. Then nothing is shown.

    \b
    Examples:
      taskstore get plans plan-001
      taskstore get plans plan-001 --json
    """
    if not ids:
        raise click.UsageError("Missing argument 'ID...'.")
    check_collection(store, collection)
    records = [
        store.get(collection, id) or not_found(store, collection, id) for id in dict.fromkeys(ids)
    ]
    if as_json:
        write_json(records[0] if len(ids) == 1 else records)
        return
    for position, record in enumerate(records):
        if position:
            write("")
        write_facts(with_moment(record) if to_terminal() else record)
