"""`taskstore search`: records by words in their text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import attrs
import click

from taskstore.cli._arguments import CollectionName
from taskstore.cli._completion import complete_collection
from taskstore.cli._errors import Status
from taskstore.cli._formats import format_option, is_json, write_items, write_rows
from taskstore.cli._store import check_collection, reads_store

if TYPE_CHECKING:
    from taskstore._survey.search import Hit
    from taskstore.cli._store import Readable

_COLUMNS = ("collection", "id", "field", "text")


@click.command("search")
@click.argument("words")
@click.argument("collections", type=CollectionName(), nargs=-1, shell_complete=complete_collection)
@click.option("-n", "--limit", type=click.IntRange(min=1), help="At most this many places.")
@format_option
@reads_store
def command(
    store: Readable,
    words: str,
    collections: tuple[str, ...],
    limit: int | None,
    *,
    format: str | None,
) -> None:
    """Find WORDS in the ids and texts of records, in all COLLECTIONS by default.

    Case does not matter. Texts in lists and objects are searched too. To search one field,
    `list --where 'title~word'` is faster.

    Exit status: 0; 1 if nothing was found.

    \b
    Examples:
      taskstore search 'release notes'
      taskstore search ada plans --format nl
    """
    names = [check_collection(store, name) for name in collections] or _all(store)
    found = list(islice(_hits(store, names, words), limit))
    if is_json(format):
        write_items(map(attrs.asdict, found), format)
    elif found:
        write_rows(_COLUMNS, map(attrs.astuple, found), format)
    if not found:
        click.get_current_context().exit(Status.NO)


def _all(store: Readable) -> list[str]:
    from taskstore._evolution.decoding import COLLECTION
    from taskstore._log.layout import Layout

    names, _ = Layout(store.path).collections()
    return [name for name in names if name != COLLECTION]


def _hits(store: Readable, collections: list[str], words: str) -> Iterator[Hit]:
    from taskstore._survey.search import hits

    for name in collections:
        for record in store.iterate(name):
            yield from hits(name, record, words)
