"""`taskstore set`: fields of a record, changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from taskstore.cli._arguments import (
    collection_argument,
    new_option,
    not_found,
    older_version,
    read_json,
)
from taskstore.cli._completion import complete_assignment, complete_field, complete_id
from taskstore.cli._errors import Failure, Status, reporting
from taskstore.cli._output import json_option, note, write_json
from taskstore.cli._store import check_collection, uses_store
from taskstore.errors import RecordNotFoundError, StaleRecordError

if TYPE_CHECKING:
    from taskstore._api.store import Store


_LONG = 60


@click.command("set")
@collection_argument
@click.argument("id", shell_complete=complete_id)
@click.argument("fields", metavar="FIELD=VALUE...", nargs=-1, shell_complete=complete_assignment)
@click.option(
    "--unset", metavar="FIELD", multiple=True, help="Remove a field.", shell_complete=complete_field
)
@click.option(
    "--if",
    "conditions",
    metavar="FILTER",
    multiple=True,
    shell_complete=complete_assignment,
    help="Only if the record passes a filter (see `list --where`) at that moment.",
)
@new_option
@json_option
@uses_store(write=True)
def command(
    store: Store,
    collection: str,
    id: str,
    fields: tuple[str, ...],
    unset: tuple[str, ...],
    conditions: tuple[str, ...],
    *,
    new: bool,
    as_json: bool,
) -> None:
    """Change fields of the record ID in COLLECTION.

    Values are typed as for `add`; `-` in place of fields reads an object of changes from stdin.
    With --if, only one of several callers succeeds.

    Exit status: 0, also if there was nothing to change; 1 if there is no such record, or it does
    not pass --if.

    \b
    Examples:
      taskstore set plans plan-001 status=done
      taskstore set plans plan-001 assignee=me --if '!assignee'
    """
    check_collection(store, collection)
    changes = _changes(store, collection, fields)
    if not changes and not unset:
        raise click.UsageError("Missing argument 'FIELD=VALUE...', or --unset FIELD.")
    fresh = _check_fields(store, collection, changes, unset, new=new)
    try:
        before, after = _write(store, collection, id, changes, unset, conditions)
    except RecordNotFoundError:
        not_found(store, collection, id)
    except StaleRecordError as error:
        claim = f"--if updated_at={error.carried}"
        older_version(error, f"; to change the record at that version only, say {claim}")
    for name in fresh:
        note(f"{name} is a new field of {collection}")
    if as_json:
        with reporting("the change was written"):
            write_json(after)
    else:
        note(f"{collection}/{id}: {_difference(before, after)}")


def _changes(store: Store, collection: str, fields: tuple[str, ...]) -> dict[str, Any]:
    from taskstore._survey.fields import parse_assignments

    if fields != ("-",):
        return parse_assignments(store, collection, fields)
    changes = read_json("give an object of changes")
    if not isinstance(changes, dict):
        raise Failure("stdin does not have a JSON object of changes", Status.USAGE)
    return changes


def _check_fields(
    store: Store,
    collection: str,
    changes: dict[str, Any],
    unset: tuple[str, ...],
    *,
    new: bool,
) -> Sequence[str]:
    """Return the names that are new fields."""
    from taskstore._survey.fields import check_fields, check_new_fields

    check_fields(store, collection, unset)
    if "id" in unset or "updated_at" in unset:
        raise Failure("id and updated_at cannot be removed", Status.USAGE)
    return () if new else check_new_fields(store, collection, changes)


def _write(
    store: Store,
    collection: str,
    id: str,
    changes: dict[str, Any],
    unset: tuple[str, ...],
    conditions: tuple[str, ...],
) -> tuple[dict[str, Any], dict[str, Any]]:
    from taskstore._survey.fields import parse_filters

    # The first claim of all is made before any record has the field.
    only_if = parse_filters(store, collection, conditions, new=changes)
    with store.transaction():
        before = store.get_one(collection, id)
        after = store.patch(collection, id, *only_if, **changes)
        if any(name in after for name in unset):
            kept = {name: value for name, value in after.items() if name not in unset}
            after = store.update(kept, collection=collection)
    return before, after


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    names = [*before, *(name for name in after if name not in before)]
    parts = [
        f"{name} {_shown(before, name)} -> {_shown(after, name)}"
        for name in names
        if name != "updated_at" and _shown(before, name) != _shown(after, name)
    ]
    return "; ".join(parts) or "nothing to change"


def _shown(record: dict[str, Any], name: str) -> str:
    if name not in record:
        return "(none)"
    text = json.dumps(record[name], ensure_ascii=False)
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."
