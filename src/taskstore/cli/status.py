"""`taskstore status`: the store at a glance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import click

from taskstore.cli._output import (
    age,
    json_option,
    note,
    size,
    to_terminal,
    warn,
    write_json,
    write_table,
)
from taskstore.cli._progress import progress
from taskstore.cli._store import names_in, opened_to_read, store_option

_COLUMNS = (
    "collection",
    "records",
    "tombstones",
    "problems",
    "size",
    "last write",
    "cache",
)
_STATES = {"fresh": "fresh", "noted": "fresh", "replayed": "was stale: read again"}


@click.command("status")
@json_option
@store_option
def command(store_path: Path | None, *, as_json: bool) -> None:
    """Show the store at a glance: collections, records, problems, sizes, freshness, last writes.

    The cache column says whether the cache was fresh, or how many new lines it had to read.
    Afterwards it is fresh. In a pipe, sizes are bytes, and times are milliseconds since the epoch.

    \b
    Examples:
      taskstore status
      taskstore status --json | jq '.collections[].records'
    """
    from taskstore._survey.summary import summaries

    with (
        progress("Reading the logs") as update,
        opened_to_read(store_path, refresh=False, warns=False) as store,
    ):
        report = store.sync(on_progress=lambda _, done, total: update(done, total))
        names = names_in(store.path)
        found = [
            attrs.evolve(item, collection=names.name_of(item.collection))
            for item in summaries(store, report)
        ]
        path = str(store.path)
        cache_size = _size_of(store.path / "taskstore.db")
    problems = [str(problem) for problem in (*report.strays, *report.recovered)]
    if as_json:
        write_json(
            {
                "store": path,
                "cache_bytes": cache_size,
                "collections": [attrs.asdict(item) for item in found],
                "problems": problems,
            }
        )
        return
    rows = [_row(attrs.asdict(item), people=to_terminal()) for item in found]
    if to_terminal():
        kept = "in memory" if cache_size is None else size(cache_size)
        note(f"{path} (cache: {kept})")
    write_table(_COLUMNS, rows, numbers=_COLUMNS[1:5])
    for problem in problems:
        warn(problem)
    if any(item.problems for item in found):
        warn("some lines are not records: `taskstore verify` lists them")


def _size_of(path: Path) -> int | None:
    """The size of a file in bytes; None if it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _row(item: dict[str, Any], *, people: bool) -> list[Any]:
    state = _STATES.get(item["state"]) or f"was stale: {item['new_lines']} new lines"
    last, length = item["last_write"], item["bytes"]
    return [
        item["collection"],
        item["records"],
        item["tombstones"],
        item["problems"],
        size(length) if people else length,
        (age(last) if last else "never") if people else last,
        state,
    ]
