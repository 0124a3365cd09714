"""`taskstore verify`: the cache against the logs."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from taskstore.cli._errors import Status
from taskstore.cli._output import (
    json_option,
    note,
    waiting,
    warn,
    write,
    write_json,
)
from taskstore.cli._store import opened, store_option

__all__ = ["command"]


@click.command("verify")
@click.option("--repair", is_flag=True, help="Make the cache of what differs anew from its log.")
@json_option
@store_option
def command(store_path: Path | None, *, repair: bool, as_json: bool) -> None:
    """Compare the cache with the logs, record by record and index by index.

    Differences are printed, each on a line. Lines of a log that are no record are named on stderr:
    they are in no cache, and nothing removes them. The logs are never changed.

    Exit status: 0 if the cache is what the logs say, or was repaired; 1 if something differs.

    \b
    Examples:
      taskstore verify
      taskstore verify --repair
    """
    with opened(store_path) as store, waiting("Comparing the cache with the logs"):
        report = store.verify(repair=repair)
    problems = [str(problem) for problem in report.problems]
    if as_json:
        write_json(
            {
                "ok": report.ok,
                "repaired": report.repaired,
                "records": dict(report.records),
                "differences": [attrs.asdict(item) for item in report.differences],
                "problems": problems,
            }
        )
    else:
        for difference in report.differences:
            write(str(difference))
        for problem in problems:
            warn(problem)
        note(_said(sum(report.records.values()), len(report.differences), repaired=report.repaired))
    if not report.ok and not report.repaired:
        raise click.exceptions.Exit(Status.NO)


def _said(records: int, differences: int, *, repaired: bool) -> str:
    compared = f"{records} record{'' if records == 1 else 's'} compared"
    if not differences:
        return f"{compared}: the cache is what the logs say"
    if repaired:
        return f"{compared}, {differences} differed: repaired from the logs"
    return f"{compared}, {differences} differ: `taskstore verify --repair` makes the cache anew"
