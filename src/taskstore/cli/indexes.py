"""`taskstore indexes`: which fields are indexed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from taskstore.cli._arguments import CollectionName, collection_argument
from taskstore.cli._completion import complete_collection, complete_field
from taskstore.cli._errors import Failure, hint
from taskstore.cli._output import json_option, note, write_json, write_table
from taskstore.cli._store import check_collection, opened, store_option, uses_store
from taskstore.cli._waits import waits_told

if TYPE_CHECKING:
    from taskstore._api.store import Store


_COLUMNS = ("collection", "field", "type", "source", "records")

fields_argument = click.argument(
    "fields", metavar="FIELD...", nargs=-1, required=True, shell_complete=complete_field
)


@click.group("indexes")
def command() -> None:
    """Show, add and drop indexes. With an index, a filter does not have to read all records.

    Record types index the fields that they declare with indexed(). If you work without types, name
    fields in config.toml, which git tracks. An index holds text, numbers and whatever else the
    field has. It never changes the result of a query, only its speed.

    \b
    Examples:
      taskstore indexes show
      taskstore indexes add issues status priority
      taskstore indexes drop issues priority
    """


@command.command("show")
@click.argument(
    "collection", type=CollectionName(), required=False, shell_complete=complete_collection
)
@json_option
@uses_store()
def show(store: Store, collection: str | None, *, as_json: bool) -> None:
    """Show which fields are indexed, where that is declared, and how many records have a value.

    \b
    Example:
      taskstore indexes show issues
    """
    from taskstore._survey.summary import indexes

    if collection is not None:
        check_collection(store, collection)
    found = [index for index in indexes(store) if collection in (None, index.collection)]
    if as_json:
        write_json([attrs.asdict(index) for index in found])
    else:
        write_table(_COLUMNS, [attrs.astuple(index) for index in found], numbers=["records"])


@command.command("add")
@collection_argument
@fields_argument
@store_option
def add(store_path: Path | None, collection: str, fields: tuple[str, ...]) -> None:
    """Index fields of COLLECTION, and declare them in config.toml.

    \b
    Example:
      taskstore indexes add issues status priority
    """
    from taskstore._survey.fields import check_fields

    if "id" in fields:
        note("id is the key, and needs no index")
    with opened(store_path) as store:
        check_collection(store, collection)
        check_fields(store, collection, fields)
    _change(store_path, collection, add=[name for name in fields if name != "id"])


@command.command("drop")
@collection_argument
@fields_argument
@store_option
def drop(store_path: Path | None, collection: str, fields: tuple[str, ...]) -> None:
    """Drop indexes of COLLECTION from config.toml. Indexes of record types stay.

    Exit status: 0; 1 if one of the fields is not indexed there. Then nothing is dropped.

    \b
    Example:
      taskstore indexes drop issues priority
    """
    from taskstore._survey.summary import indexes

    with opened(store_path) as store:
        check_collection(store, collection)
        known = {index.field: index for index in indexes(store) if index.collection == collection}
    for name in fields:
        if name not in known:
            raise Failure(f"{name!r} is not indexed in {collection!r}{hint(name, known)}")
        if known[name].source != "config.toml":
            raise Failure(
                f"{name!r} is indexed by a record type of {collection!r}: its declaration says so"
            )
    _change(store_path, collection, drop=fields)


def _change(
    store_path: Path | None,
    collection: str,
    *,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> None:
    from taskstore._log.layout import Layout
    from taskstore._store.settings import change_indexes
    from taskstore.cli._store import locate

    layout = Layout(locate(store_path))
    with waits_told(layout):
        names = change_indexes(layout, collection, add=add, drop=drop)
    # Opening the store builds the index, so the next command does not have to.
    with opened(store_path):
        pass
    note(f"{layout.config_path.name}: {collection} has indexes on {', '.join(names) or 'no field'}")
