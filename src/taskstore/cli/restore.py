"""`taskstore restore`: a record as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskstore.cli._arguments import collection_argument, not_found
from taskstore.cli._completion import complete_id
from taskstore.cli._errors import Failure, Status, reporting
from taskstore.cli._output import json_option, note, write_json
from taskstore.cli._store import complete_revision, no_commit, uses_store, when_of

if TYPE_CHECKING:
    from taskstore._api.store import Store


@click.command("restore")
@collection_argument
@click.argument("id", shell_complete=complete_id)
@click.option(
    "--at",
    metavar="REV",
    shell_complete=complete_revision,
    help="Restore it as it was in a commit, or at a time such as 2026-01-31T12:00:00Z. By "
    "default, a deleted record comes back as it was last.",
)
@json_option
@uses_store(write=True)
def command(store: Store, collection: str, id: str, *, at: str | None, as_json: bool) -> None:
    """Restore the record ID of COLLECTION, with a new version.

    Exit status: 0, also if nothing had to change; 1 if there was no such record, or if the record
    is not deleted and --at is not given; 3 if there is no such commit.

    \b
    Examples:
      taskstore restore plans plan-001
      taskstore restore plans plan-001 --at main~3
    """
    from taskstore._format.names import check_collection_name
    from taskstore.errors import CommitNotFoundError, RecordExistsError, RecordNotFoundError

    check_collection_name(collection)
    try:
        record = store.restore(collection, id, at=None if at is None else when_of(at))
    except RecordNotFoundError:
        if at is None:
            not_found(store, collection, id)
        raise Failure(f"there is no {collection}/{id} at {at}") from None
    except RecordExistsError:
        message = f"{collection}/{id} is not deleted: pass --at to choose a version"
        raise Failure(message, Status.NO) from None
    except CommitNotFoundError as error:
        raise no_commit(error, store.path) from error
    with reporting("the record was restored"):
        if as_json:
            write_json(record)
        else:
            note(f"{collection}/{id} is restored")
