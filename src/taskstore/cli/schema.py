"""`taskstore schema`: the fields of a collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from taskstore.cli._arguments import collection_argument
from taskstore.cli._formats import format_option, is_json, write_items, write_rows
from taskstore.cli._store import check_collection, reads_store

if TYPE_CHECKING:
    from taskstore.cli._store import Readable

_COLUMNS = ("field", "types", "records", "indexed")


@click.command("schema")
@collection_argument
@format_option
@reads_store
def command(store: Readable, collection: str, *, format: str | None) -> None:
    """Show the fields that the records of COLLECTION have, the most frequent ones first.

    The types are the JSON types of the present values, not a declaration. If a field has several
    types, the number of records with each type is shown.

    \b
    Examples:
      taskstore schema plans
      taskstore schema plans --json | jq '.[] | select(.types.string)'
    """
    from taskstore._survey.summary import field_summaries

    check_collection(store, collection)
    found = field_summaries(store, collection)
    if is_json(format):
        write_items(map(attrs.asdict, found), format)
        return
    rows = [
        (each.field, _said(each.types), each.records, "yes" if each.indexed else "")
        for each in found
    ]
    write_rows(_COLUMNS, rows, format, numbers=["records"])


def _said(types: dict[str, int]) -> str:
    if len(types) == 1:
        return next(iter(types))
    return ", ".join(f"{name} {count}" for name, count in sorted(types.items()))
