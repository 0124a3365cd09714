"""`taskstore doctor`: what is wrong, what it means, and what mends it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskstore._log.layout import Layout
from taskstore.cli._errors import Status
from taskstore.cli._output import json_option, note, to_terminal, visible, write, write_json
from taskstore.cli._store import locate, store_option

if TYPE_CHECKING:
    from taskstore._doctor.examination import Examination
    from taskstore._doctor.findings import Finding

__all__ = ["command"]

_COLORS = {"error": "red", "warning": "yellow", "info": "cyan", "fixed": "green"}


@click.command("doctor")
@click.option("--fix", is_flag=True, help="Mend what is safe to mend.")
@click.option(
    "--types",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="A module with record classes (package.module), to compare their merge policies with "
    "config.toml. By default those that config.toml names. May be given several times.",
)
@json_option
@store_option
def command(store_path: Path | None, fix: bool, modules: tuple[str, ...], as_json: bool) -> None:
    """Look at everything that can be wrong with the store and its place in git.

    Without --fix nothing is changed. With it, what is safe is mended: what is missing is installed,
    the cache is made anew from the logs, what a crash left is settled, and logs that a merge left
    in conflict are merged by record and staged. No line of a log is removed, but in such a merge.

    Exit status: 0 nothing has to be done; 1 something has; 3 no store, or one of a newer version;
    4 another program was in the way.

    \b
    Example:
      taskstore doctor --fix
    """
    from taskstore._doctor.examination import examine, mend
    from taskstore._doctor.types import load_types
    from taskstore._git.repository import Repository
    from taskstore.errors import GitError

    layout = Layout(locate(store_path).absolute())
    types = load_types(modules, folder=Path.cwd()) if modules else None
    repository: Repository | GitError | None
    try:
        repository = Repository.find(layout.directory)
    except GitError as error:
        repository = error
    found = (mend if fix else examine)(layout, repository, types)
    if as_json:
        write_json({"store": str(layout.directory), **found.to_dict()})
    else:
        _show(found)
    if not found.ok:
        click.get_current_context().exit(Status.NO)


def _show(found: Examination) -> None:
    for log in found.merged:
        write(visible(f"merged {log.name}{' as far as possible' if log.is_left else ''}"))
        for line in log.lines:
            write(visible(f"    {line}"))
    for finding in found.fixed:
        _show_finding("fixed", finding)
    for finding in found.findings:
        _show_finding(finding.level, finding)
    if found.ok:
        note("nothing has to be done")
    elif any(finding.is_safe for finding in found.findings):
        note("`taskstore doctor --fix` mends what is marked with *")


def _show_finding(label: str, finding: Finding) -> None:
    mark = "*" if finding.is_safe and label != "fixed" else " "
    head = f"{label}{mark}".ljust(9)
    write(
        (click.style(head, fg=_COLORS[label]) if to_terminal() else head) + visible(finding.message)
    )
    if label != "fixed":
        write(visible(f"         {finding.meaning}"))
        if finding.remedy:
            write(visible(f"         -> {finding.remedy}"))
