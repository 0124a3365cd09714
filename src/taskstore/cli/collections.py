"""`taskstore collections`: the collections of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskstore.cli._output import json_option, warn, write_json, write_table
from taskstore.cli._store import names_in, uses_store

if TYPE_CHECKING:
    from taskstore._api.store import Store


@click.command("collections")
@json_option
@uses_store()
def command(store: Store, *, as_json: bool) -> None:
    """List the collections, with the number and the fields of their records.

    \b
    Examples:
      taskstore collections
      taskstore collections --json | jq -r '.[].collection'
    """
    from taskstore._log.layout import Layout
    from taskstore._survey.fields import contents

    logs, strays = Layout(store.path).collections()
    names = names_in(store.path)
    found = contents(store, logs)
    rows = sorted((names.name_of(log), count, fields) for log, count, fields in found)
    if as_json:
        write_json(
            [{"collection": name, "records": n, "fields": fields} for name, n, fields in rows]
        )
    else:
        write_table(
            ("collection", "records", "fields"),
            [(name, n, ", ".join(fields)) for name, n, fields in rows],
            numbers=["records"],
        )
    for stray in strays:
        warn(str(stray))
