"""`taskstore revert`: undo what a commit changed in records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskstore.cli._errors import Failure, Status, reporting
from taskstore.cli._output import json_option, note, write_json
from taskstore.cli._store import complete_revision, no_commit, uses_store

if TYPE_CHECKING:
    from taskstore._api.store import Store


@click.command("revert")
@click.argument("commit", shell_complete=complete_revision)
@json_option
@uses_store(write=True)
def command(store: Store, commit: str, *, as_json: bool) -> None:
    """Undo what COMMIT changed in records, by writing new versions. You commit them yourself.

    Fields that COMMIT did not change stay as they are now. If a value has changed again since then,
    nothing is written.

    Exit status: 0, also if there was nothing to undo; 1 if a value has changed again since then; 3
    if there is no such commit, or it is a merge.

    \b
    Example:
      taskstore revert HEAD
    """
    from taskstore.errors import CommitNotFoundError, RevertConflictError

    try:
        written = store.revert(commit)
    except RevertConflictError as error:
        raise Failure(str(error), Status.NO) from error
    except CommitNotFoundError as error:
        raise no_commit(error, store.path) from error
    with reporting("the commit was reverted"):
        if as_json:
            write_json([{"collection": name, "id": id} for name, id in written])
            return
        for name, id in written:
            note(f"{name}/{id} is reverted")
        if not written:
            note("nothing to undo")
