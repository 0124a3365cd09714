"""Commands that write many records at once, and ask before."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from taskstore.cli._errors import Failure, Status
from taskstore.cli._output import confirmed, to_terminal

if TYPE_CHECKING:
    from taskstore._api.store import Store


def passing_ids(
    store: Store, collection: str, filters: tuple[str, ...], *, verb: str, done: str, ask: bool
) -> list[str]:
    """Return the ids of the records that pass filters, after asking for confirmation.

    Args:
        store: Where the collection is.
        collection: Its name.
        filters: The values of --where.
        verb: What the command does, such as "delete".
        done: Its participle, such as "deleted".
        ask: Whether to ask.

    Raises:
        Failure: The answer is no, or there is nobody to ask.
    """
    from taskstore._survey.fields import parse_filters

    conditions = parse_filters(store, collection, filters)
    ids = [record["id"] for record in store.iterate(collection, *conditions)]
    if ids and ask:
        confirm(len(ids), collection, verb=verb, done=done)
    return ids


def confirm(total: int, collection: str, *, verb: str, done: str) -> None:
    """Ask for confirmation.

    Args:
        total: How many records would be written.
        collection: The collection that they are in.
        verb: What the command does, such as "delete".
        done: Its participle, such as "deleted".

    Raises:
        Failure: The answer is no, or there is nobody to ask.
    """
    count = f"{total} record{'' if total == 1 else 's'}"
    if sys.stdin is None or not to_terminal(sys.stdin):
        raise Failure(
            f"{count} would be {done}: pass --yes to {verb} them, or --dry-run to see them first",
            Status.USAGE,
        )
    if not confirmed(f"{verb.capitalize()} {count} of {collection}?"):
        raise Failure(f"nothing was {done}")
