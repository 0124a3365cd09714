"""Rename a collection that no program declares."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from taskstore._cache.engine.bridge import closing
from taskstore._cache.rows.rows import Rows
from taskstore._evolution.decoding import encode_evolution
from taskstore._format.names import EVOLUTIONS, check_collection_name
from taskstore._records.evolutions import renames_of_collection
from taskstore.errors import InvalidDeclarationError, InvalidNameError

if TYPE_CHECKING:
    from taskstore._api.store import Store


def rename_collection(store: Store, old: str, new: str) -> str:
    """Give a collection another name, as `record(new, was=old)` would.

    The log keeps its name, so edits under the old name merge.

    Args:
        store: The store.
        old: Any name of the collection.
        new: Its new name.

    Returns:
        The name that it had until now.

    Raises:
        InvalidNameError: The new name cannot be used.
        InvalidDeclarationError: A record class declares the collection.
    """
    names = store._context.shapes.names
    log = names.log_of(old)
    before = names.history(log)
    _check_free(store, before, new)
    if _is_declared(store, log):
        was = repr(before[0]) if len(before) == 1 else repr(tuple(before))
        reason = f"a record class declares it: write record({new!r}, was={was}) there"
        raise InvalidDeclarationError(f"the collection {before[-1]!r}", reason=reason)
    *_, last = renames_of_collection(log, [*before, new])
    store._refresher.state({last.id: encode_evolution(last)})
    return before[-1]


def _check_free(store: Store, before: list[str], new: str) -> None:
    """Refuse a new name that another collection has, or that this one has had."""
    context = store._context
    check_collection_name(new)
    if new in before:
        reason = "the collection has or had this name: choose another one"
    elif new == EVOLUTIONS or new in context.shapes.names.logs:
        reason = "it is in use: choose another one"
    elif os.path.lexists(context.layout.log_name(new)):
        reason = f"there is a log of this name, {new}.jsonl: choose another one"
    else:
        return
    raise InvalidNameError(kind="collection", name=new, reason=reason)


def _is_declared(store: Store, log: str) -> bool:
    """Return whether a record class declares the collection of a log."""
    context = store._context
    with (
        context.engine.connect() as connection,
        closing(connection.connection.cursor()) as cursor,
    ):
        return log in Rows(cursor, context.models).evolutions()
