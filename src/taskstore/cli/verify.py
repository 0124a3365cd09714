"""`taskstore verify`: compare the cache with the logs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from taskstore.cli._errors import Status, reporting
from taskstore.cli._output import json_option, note, warn, write, write_json
from taskstore.cli._progress import waiting
from taskstore.cli._store import opened, store_option

if TYPE_CHECKING:
    from taskstore._sync.verification import VerifyReport


@click.command("verify")
@click.option(
    "--repair", is_flag=True, help="Rebuild the cache of each collection that differs from its log."
)
@json_option
@store_option
def command(store_path: Path | None, *, repair: bool, as_json: bool) -> None:
    """Compare the cache with the logs, record by record and index by index.

    Each difference is printed on a line. Lines of a log that are not records are listed on stderr.
    The command never changes a log.

    Exit status: 0 if cache and logs agree, or the cache was repaired; 1 if something differs.

    \b
    Examples:
      taskstore verify
      taskstore verify --repair
    """
    with opened(store_path, warns=False) as store, waiting("Comparing the cache with the logs"):
        report = store.verify(repair=repair)
    done = "the cache was repaired" if report.repaired else "the cache was compared, not changed"
    with reporting(done):
        _show(report, as_json=as_json)
    if not report.ok and not report.repaired:
        raise click.exceptions.Exit(Status.NO)


def _show(report: VerifyReport, *, as_json: bool) -> None:
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


def _said(records: int, differences: int, *, repaired: bool) -> str:
    compared = f"{records} record{'' if records == 1 else 's'} compared"
    if not differences:
        return f"{compared}: the cache agrees with the logs"
    if repaired:
        return f"{compared}, {differences} differed: repaired from the logs"
    return f"{compared}, {differences} differ: `taskstore verify --repair` rebuilds the cache"
