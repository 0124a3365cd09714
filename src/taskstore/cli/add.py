"""`taskstore add`: new records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from taskstore.cli._arguments import collection_argument, new_option, older_version, read_json
from taskstore.cli._completion import complete_assignment
from taskstore.cli._errors import Failure, Status, reporting
from taskstore.cli._output import json_option, note, write, write_json
from taskstore.cli._store import check_new_collection, uses_store
from taskstore.errors import StaleRecordError

if TYPE_CHECKING:
    from taskstore._api.store import Store


_SHAPE = "give an object, or an array of objects"


@click.command("add")
@collection_argument
@click.argument("fields", metavar="FIELD=VALUE...", nargs=-1, shell_complete=complete_assignment)
@new_option
@json_option
@uses_store(write=True)
def command(
    store: Store, collection: str, fields: tuple[str, ...], *, new: bool, as_json: bool
) -> None:
    """Add a record to COLLECTION, and print its id.

    A value gets the type that the field has in the log: in a field of text it is text, in a field
    of numbers a number. In a new field, a value that looks like JSON is JSON. With := a value is
    always JSON. Without id=, the record gets an id that sorts by time. Use `-` in place of fields
    to read an object, or an array of objects, from stdin. The collection is created if needed.

    Exit status: 0; 1 if the id exists already, and then nothing is written.

    \b
    Examples:
      taskstore add plans id=plan-001 title='Ship it' priority=5 'labels:=["docs"]'
      echo '{"title": "Ship it"}' | taskstore add plans -
    """
    check_new_collection(store, collection, new=new)
    records = _from_stdin() if fields == ("-",) else [_from_fields(store, collection, fields)]
    fresh = () if new else _new_fields(store, collection, records)
    try:
        created = store.create_many([with_id(each) for each in records], collection=collection)
    except StaleRecordError as error:
        older_version(error)
    for name in fresh:
        note(f"{name} is a new field of {collection}")
    with reporting("what was to be added was written"):
        if as_json:
            write_json(created[0] if fields != ("-",) else created)
            return
        for record in created:
            write(record["id"])


def _new_fields(store: Store, collection: str, records: list[dict[str, Any]]) -> Sequence[str]:
    from taskstore._survey.fields import check_new_fields

    names = dict.fromkeys(name for record in records for name in record)
    return check_new_fields(store, collection, names)


def _from_fields(store: Store, collection: str, fields: tuple[str, ...]) -> dict[str, Any]:
    from taskstore._survey.fields import parse_assignments

    if not fields:
        raise click.UsageError("Missing argument 'FIELD=VALUE...', or - for JSON from stdin.")
    return parse_assignments(store, collection, fields)


def _from_stdin() -> list[dict[str, Any]]:
    given = read_json(_SHAPE)
    records = given if isinstance(given, list) else [given]
    if not all(isinstance(record, dict) for record in records):
        raise Failure(f"stdin has something other than records: {_SHAPE}", Status.USAGE)
    return records


def with_id(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with an id: its own, or a new one."""
    from taskstore._records.ids import new_id

    return record if "id" in record else {"id": new_id(), **record}
