"""`taskstore list`: the records of a collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskstore.cli._arguments import (
    collection_argument,
    columns_of,
    columns_option,
    sort_option,
    sorts_of,
    where_option,
)
from taskstore.cli._formats import format_option, is_json, write_csv_records, write_items
from taskstore.cli._output import note, to_terminal, write
from taskstore.cli._store import check_collection, reads_store

if TYPE_CHECKING:
    from taskstore.cli._store import Readable


@click.command("list")
@collection_argument
@where_option
@sort_option("Newest first")
@click.option("-n", "--limit", type=click.IntRange(min=0), help="At most this many records.")
@click.option("--offset", type=click.IntRange(min=0), help="How many records to skip first.")
@columns_option
@click.option("--count", "only_count", is_flag=True, help="Print only how many there are.")
@click.option(
    "--no-header", is_flag=True, help="In tsv and csv: leave out the line with the names."
)
@format_option
@reads_store
def command(
    store: Readable,
    collection: str,
    filters: tuple[str, ...],
    sorts: tuple[str, ...],
    limit: int | None,
    offset: int | None,
    columns: str | None,
    *,
    only_count: bool,
    no_header: bool,
    format: str | None,
) -> None:
    """List the records of COLLECTION, newest first.

    Values get the types that the log has: if priorities are numbers, 'priority>5' compares numbers.
    A record without the field passes 'status!=open' and '!status'. Without --columns, table and tsv
    show the id and a few short fields, and the other formats all fields. CSV is as `export` writes
    it. Exit status: 0, also if there are no records.

    \b
    Examples:
      taskstore list plans --where status=open --where 'priority>5'
      taskstore list plans --sort -priority --limit 10 --columns id,title
      taskstore list plans --format csv --columns id,title
      taskstore list plans --json | jq '.[].title'
    """
    from taskstore._survey.fields import parse_filters

    check_collection(store, collection)
    conditions = parse_filters(store, collection, filters)
    order = sorts_of(store, collection, sorts)
    names = columns_of(store, collection, columns)
    if only_count:
        write(str(store.count(collection, *conditions)))
        return
    found = store.iterate(collection, *conditions, order_by=order, limit=limit, offset=offset)
    if is_json(format):
        if names is not None:
            found = ({name: row.get(name) for name in names} for row in found)
        write_items(found, format)
        return
    from taskstore.cli._records import write_records

    records = list(found)
    if format == "csv":
        write_csv_records(records, names, header=not no_header)
    elif records or not to_terminal():
        write_records(records, names, format, header=not no_header)
    if to_terminal():
        note(f"{len(records)} record{'' if len(records) == 1 else 's'}")
