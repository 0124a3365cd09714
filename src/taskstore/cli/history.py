"""`taskstore history`: every version of a record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from taskstore.cli._arguments import collection_argument, not_found
from taskstore.cli._completion import complete_id
from taskstore.cli._formats import format_option, is_json, write_items, write_rows
from taskstore.cli._output import moment, to_terminal
from taskstore.cli._store import check_collection, uses_store

if TYPE_CHECKING:
    from taskstore._api.store import Store


_LONG = 60


@click.command("history")
@collection_argument
@click.argument("id", shell_complete=complete_id)
@format_option
@uses_store()
def command(store: Store, collection: str, id: str, *, format: str | None) -> None:
    """Show every version of the record ID that the log of COLLECTION has, oldest first.

    Each line of output names the fields that changed since the version before. Versions that lost
    to a newer one are included. `compact` removes all but the newest version; `taskstore log` also
    looks in git.

    Exit status: 0; 1 if the log has no line of that id.

    \b
    Examples:
      taskstore history plans plan-001
      taskstore history plans plan-001 --json | jq '.[-1].record'
    """
    check_collection(store, collection)
    versions = store.history(collection, id)
    if not versions:
        not_found(store, collection, id)
    before: dict[str, Any] = {}
    found: list[dict[str, Any]] = []
    for version in versions:
        found.append(
            {
                "line": version.line,
                "updated_at": version.updated_at,
                "deleted": version.deleted,
                "changed": [] if version.deleted else _changed(before, version.data),
                "record": None if version.deleted else version.data,
            }
        )
        before = {} if version.deleted else version.data
    if is_json(format):
        write_items(found, format, indent=True)
        return
    people = to_terminal() or format == "table"
    write_rows(
        ("line", "time", "change"),
        [
            (
                item["line"],
                moment(item["updated_at"]) if people else item["updated_at"],
                "deleted" if item["deleted"] else _said(item["changed"], item["record"]),
            )
            for item in found
        ],
        format,
        numbers=["line"],
        fold=["change"],
    )


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    names = dict.fromkeys((*after, *before))
    return [
        name
        for name in names
        if name not in ("id", "updated_at") and _text(before, name) != _text(after, name)
    ]


def _said(changed: list[str], record: dict[str, Any]) -> str:
    parts = []
    for name in changed:
        text = _text(record, name)
        parts.append(
            f"{name} removed"
            if text is None
            else f"{name}={text if len(text) <= _LONG else text[: _LONG - 3] + '...'}"
        )
    return " ".join(parts) or "no change"


def _text(record: dict[str, Any], name: str) -> str | None:
    return json.dumps(record[name], ensure_ascii=False) if name in record else None
