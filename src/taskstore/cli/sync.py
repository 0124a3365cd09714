"""`taskstore sync`: update the cache from the logs."""

from __future__ import annotations

from pathlib import Path

import click

from taskstore.cli._errors import reporting
from taskstore.cli._output import json_option, warn, write_json, write_table
from taskstore.cli._progress import progress
from taskstore.cli._store import opened, store_option

_COLUMNS = ("collection", "action", "lines", "records", "tombstones", "problems")


@click.command("sync")
@click.option("--force", is_flag=True, help="Read every log from its beginning.")
@json_option
@store_option
def command(store_path: Path | None, *, force: bool, as_json: bool) -> None:
    """Update the cache from the logs, and report what was done for each collection.

    Every other command also does this before it reads. The action is "fresh" (nothing to do),
    "noted" (touched, but the same bytes), "tail" (new lines were read), "replayed" (all lines were
    read) or "removed" (the log is gone). New lines that are not records are listed on stderr.

    \b
    Examples:
      taskstore sync
      taskstore sync --force
    """
    with (
        progress("Reading the logs") as update,
        opened(store_path, refresh=False, warns=False) as store,
    ):
        report = store.sync(force=force, on_progress=lambda _, done, total: update(done, total))
    rows = [
        (
            part.collection,
            part.action,
            part.lines,
            part.records,
            part.tombstones,
            part.problem_count,
        )
        for part in report
    ]
    problems = [str(problem) for problem in report.problems]
    with reporting("the cache was updated from the logs"):
        if as_json:
            collections = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
            write_json({"collections": collections, "problems": problems})
            return
        write_table(_COLUMNS, rows, numbers=_COLUMNS[2:])
    for problem in problems:
        warn(problem)
