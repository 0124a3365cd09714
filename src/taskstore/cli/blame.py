"""`taskstore blame`: who last changed each field of a record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskstore.cli._arguments import collection_argument, not_found
from taskstore.cli._completion import complete_id
from taskstore.cli._output import json_option, moment, to_terminal, write_json, write_table
from taskstore.cli._store import check_collection, locate, opened, store_option

if TYPE_CHECKING:
    from taskstore._api.blame import FieldBlame


@click.command("blame")
@collection_argument
@click.argument("id", shell_complete=complete_id)
@json_option
@store_option
def command(store_path: Path | None, collection: str, id: str, *, as_json: bool) -> None:
    """Show who last changed each field of the record ID of COLLECTION, and in which commit.

    If a merge took a value from one of its sides, the commit on that side is shown. A change that
    is not committed has no commit.

    Exit status: 0; 1 if there is no such record.

    \b
    Examples:
      taskstore blame plans plan-001
      taskstore blame plans plan-001 --json | jq -r '.[] | select(.field == "status").author'
    """
    from taskstore._api.blame import blame
    from taskstore._format.names import check_collection_name
    from taskstore._log.layout import Layout

    layout = Layout(locate(store_path))
    found = blame(layout, check_collection_name(collection), id)
    if not found:
        with opened(store_path) as store:
            check_collection(store, collection)
            # A record may have no fields of its own.
            if store.get(collection, id) is None:
                not_found(store, collection, id)
    if as_json:
        import attrs

        write_json([attrs.asdict(each) for each in found])
        return
    write_table(
        ("field", "value", "commit", "author", "time", "subject"),
        [_row(each, people=to_terminal()) for each in found],
    )


def _row(found: FieldBlame, *, people: bool) -> list[object]:
    if found.commit is None:
        when = moment(found.updated_at) if people else found.updated_at
        return [found.field, found.value, "", "", when, "not committed"]
    mark = "^" if found.is_boundary else ""
    commit = f"{mark}{found.commit[:10]}" if people else f"{mark}{found.commit}"
    return [found.field, found.value, commit, found.author, found.time, found.subject]
