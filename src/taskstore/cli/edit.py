"""`taskstore edit`: a record in an editor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from taskstore.cli._arguments import collection_argument, new_option, not_found
from taskstore.cli._completion import complete_id
from taskstore.cli._errors import Failure, Status
from taskstore.cli._output import confirmed, note, to_terminal
from taskstore.cli._programs import edited
from taskstore.cli._store import check_collection, uses_store

if TYPE_CHECKING:
    from taskstore._api.store import Store


@click.command("edit")
@collection_argument
@click.argument("id", shell_complete=complete_id)
@new_option
@uses_store(write=True)
def command(store: Store, collection: str, id: str, *, new: bool) -> None:
    """Edit the record ID of COLLECTION as JSON, in the editor that VISUAL or EDITOR names.

    If you delete a field from the text, it is removed from the record. Nothing is written if you do
    not change the text, or if somebody else has changed the record in the meantime.

    Exit status: 0, also if nothing was changed; 1 if there is no such record; 4 if somebody else
    has changed it.

    \b
    Example:
      EDITOR=vi taskstore edit plans plan-001
    """
    check_collection(store, collection)
    before = store.get(collection, id)
    if before is None:
        not_found(store, collection, id)
    after = _edited(before)
    if after is None or after == before:
        note("nothing was changed")
        return
    fresh = _check(store, collection, before, after, new=new)
    store.update(after, collection=collection)
    for name in fresh:
        note(f"{name} is a new field of {collection}")
    note(f"{collection}/{id} was written")


def _edited(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return a record as a person has edited it; None if the text was not changed."""
    text = json.dumps(record, ensure_ascii=False, indent=2) + "\n"
    while True:
        new = edited(text, ".json")
        if new is None:
            return None
        reason = "it is not a JSON object"
        try:
            found = json.loads(new)
        except (ValueError, RecursionError) as error:
            reason = f"it is not JSON: {error}"
        else:
            if isinstance(found, dict):
                return found
        # A missing comma must not lose what was typed.
        if not to_terminal() or not confirmed(f"{reason}. Edit it again?"):
            raise Failure(f"nothing was written: {reason}", Status.USAGE)
        text = new


def _check(
    store: Store, collection: str, before: dict[str, Any], after: dict[str, Any], *, new: bool
) -> list[str]:
    """Return the names that are new fields.

    Raises:
        Failure: The id or the version was changed.
    """
    from taskstore._survey.fields import check_new_fields

    for name in ("id", "updated_at"):
        if after.get(name) != before.get(name):
            raise Failure(f"{name} cannot be edited: nothing was written", Status.USAGE)
    added = [name for name in after if name not in before]
    return [] if new else list(check_new_fields(store, collection, added))
