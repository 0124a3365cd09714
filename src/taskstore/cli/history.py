"""`taskstore history`: every version of a record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from taskstore.cli._arguments import collection_argument
from taskstore.cli._completion import complete_id
from taskstore.cli._formats import format_option, is_json, write_items, write_rows
from taskstore.cli._output import moment, to_terminal
from taskstore.cli._store import locate, store_option

_LONG = 60


@click.command("history")
@collection_argument
@click.argument("id", shell_complete=complete_id)
@format_option
@store_option
def command(store_path: Path | None, collection: str, id: str, *, format: str | None) -> None:
    """Show every version of the record ID of COLLECTION as a table, oldest first.

    Each line names the fields that differ from the version before it. It is what
    `taskstore log COLLECTION ID` shows.

    Exit status: 0; 1 there is no such record, and never was.

    \b
    Examples:
      taskstore history plans plan-001
      taskstore history plans plan-001 --json | jq '.[-1].record'
    """
    found = version_facts(locate(store_path), collection, id)
    if is_json(format):
        write_items(found, format, indent=True)
        return
    people = to_terminal() or format == "table"
    write_rows(
        ("line", "time", "change", "commit"),
        [
            (
                item["line"],
                moment(item["updated_at"]) if people else item["updated_at"],
                "deleted" if item["deleted"] else _said(item["changed"], item["record"]),
                None if item["commit"] is None else item["commit"]["id"][:10],
            )
            for item in found
        ],
        format,
        numbers=["line"],
        fold=["change"],
    )


def version_facts(directory: Path, collection: str, id: str) -> list[dict[str, Any]]:
    """Return the versions of a record as JSON objects, oldest first.

    Args:
        directory: The store.
        collection: Its collection.
        id: The record.

    Raises:
        Failure: There is none.
    """
    import attrs

    from taskstore.cli.log import find_versions

    before: dict[str, Any] = {}
    found: list[dict[str, Any]] = []
    for version, _, data in find_versions(directory, id, collection)[collection]:
        found.append(
            {
                "line": version.line,
                "updated_at": version.updated_at,
                "deleted": version.deleted,
                "changed": [] if version.deleted else changed_fields(before, data),
                "record": None if version.deleted else data,
                "commit": None if version.commit is None else attrs.asdict(version.commit),
            }
        )
        before = {} if version.deleted else data
    return found


def changed_fields(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the names of the fields that differ, without the id and the version."""
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
