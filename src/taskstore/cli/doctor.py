"""`taskstore doctor`: what is wrong, what it means, and how to fix it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskstore._log.layout import Layout
from taskstore.cli._errors import Status, reporting
from taskstore.cli._output import Styled, json_option, note, write, write_json
from taskstore.cli._store import locate, store_option

if TYPE_CHECKING:
    from taskstore._doctor.examination import Examination
    from taskstore._doctor.findings import Finding


_COLORS = {"error": "red", "warning": "yellow", "info": "cyan", "fixed": "green"}


@click.command("doctor")
@click.option("--fix", is_flag=True, help="Fix what is safe to fix.")
@click.option(
    "--types",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="A module with record classes (package.module), to compare their merge policies with "
    "config.toml. By default those that config.toml names and you trust; see `taskstore trust`. "
    "May be given several times.",
)
@json_option
@store_option
def command(store_path: Path | None, fix: bool, modules: tuple[str, ...], as_json: bool) -> None:
    """Check the store, its cache and its installation in git for problems.

    Without --fix the command changes nothing. With --fix it does what is safe: it installs what is
    missing, rebuilds the cache from the logs, completes or undoes a transaction that a crash
    interrupted, and merges and stages logs that git left in conflict. Only such a merge can remove
    lines of a log.

    Exit status: 0 no problems; 1 problems were found; 3 no store, or one of a newer version;
    4 another program holds a lock.

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
    with reporting("what is safe to fix was fixed" if fix else "nothing was changed"):
        if as_json:
            write_json({"store": str(layout.directory), **found.to_dict()})
        else:
            _show(found)
    if not found.ok:
        click.get_current_context().exit(Status.NO)


def _show(found: Examination) -> None:
    for log in found.merged:
        write(f"merged {log.name}{' as far as possible' if log.is_left else ''}")
        for line in log.lines:
            write(f"    {line}")
    for finding in found.fixed:
        _show_finding("fixed", finding)
    for finding in found.findings:
        _show_finding(finding.level, finding)
    if found.ok:
        note("no problems found")
    elif any(finding.is_safe for finding in found.findings):
        note("`taskstore doctor --fix` fixes what is marked with *")


def _show_finding(label: str, finding: Finding) -> None:
    mark = "*" if finding.is_safe and label != "fixed" else " "
    head = f"{label}{mark}".ljust(9)
    write(Styled(head, _COLORS[label]), finding.message)
    if label != "fixed":
        write(f"         {finding.meaning}")
        if finding.remedy:
            write(f"         -> {finding.remedy}")
