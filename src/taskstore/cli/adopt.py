"""`taskstore adopt`: what a store would log of an application's models, and refuse."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from taskstore.cli._errors import Status
from taskstore.cli._imports import imported
from taskstore.cli._output import Styled, json_option, warn, write, write_json

if TYPE_CHECKING:
    from taskstore._mirror.model.survey import Finding, Survey


_PREFIX = "ts_"


@click.command("adopt")
@click.argument("base", metavar="MODULE:BASE")
@click.option(
    "--exclude",
    multiple=True,
    metavar="NAME",
    help="Leave a table or an attribute out of the log: 'users', 'users.token'. Repeatable.",
)
@click.option(
    "--local",
    multiple=True,
    metavar="NAME",
    help="Accept that an attribute refers to a table that is not mirrored: 'tasks.owner_id'. "
    "Repeatable.",
)
@click.option("--updated-at", metavar="NAME", help="The attribute that holds the version.")
@click.option(
    "--ids",
    type=click.Choice(["local", "random"]),
    default="local",
    show_default=True,
    help="How to treat keys that the database counts.",
)
@json_option
def command(base: str, *, as_json: bool, **options: Any) -> None:
    """Show what a store would log of an application's models, and what it would refuse.

    The command imports MODULE, which runs its code; the working directory is searched too. BASE is
    a declarative base, a registry, or a MetaData that several bases share. For each class it prints
    the collection, the id and the fields of its lines, and each refusal with the argument that
    fixes it. It names the tables that have no model in BASE. Then it prints the calls that adopt
    all models, and the diff of the logs, with a sample record of each class. It opens no store and
    no database, and changes nothing.

    Exit status: 0; 1 if something would be refused; 2 no such module or base.

    \b
    Examples:
      taskstore adopt shop.models:Base
      taskstore adopt shop.models:db.Model --exclude users.token
    """
    from sqlalchemy.dialects.sqlite import dialect

    from taskstore._cache.schema.models import DEFAULT
    from taskstore._mirror.model.declare_all import mirror_all
    from taskstore._mirror.model.survey import survey

    target = imported(base)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        declared = mirror_all(target, **options)
    for one in told:
        warn(str(one.message))
    found = survey(declared, dialect())
    ours = set(DEFAULT.table_names)
    is_taken = any(finding.table in ours for finding in found.findings)
    for name, values in found.options().items():
        options[name] = (*options[name], *values)
    calls = list(_calls(base, options, is_taken=is_taken))
    if as_json:
        models = [_as_dict(finding) for finding in found.findings]
        write_json({"models": models, "others": found.others, "calls": calls})
    else:
        _show(found, calls)
    if any(finding.refusals for finding in found.findings):
        click.get_current_context().exit(Status.NO)


def _calls(base: str, options: Mapping[str, Any], *, is_taken: bool) -> Iterator[str]:
    """Return the lines of Python that adopt the models."""
    module, _, path = base.partition(":")
    name = path.partition(".")[0]
    arguments = [path]
    for option in ("exclude", "local"):
        if options[option]:
            quoted = ", ".join(f'"{value}"' for value in dict.fromkeys(options[option]))
            arguments.append(f"{option}=[{quoted}]")
    if options["updated_at"]:
        arguments.append(f'updated_at="{options["updated_at"]}"')
    if options["ids"] == "random":
        arguments.append('ids="random"')
    models = f', models=build_models(prefix="{_PREFIX}")' if is_taken else ""
    yield "from taskstore import Store, mirror_all"
    if is_taken:
        yield "from taskstore.models import build_models"
    yield f"from {module} import {name}"
    yield f"mirrors = mirror_all({', '.join(arguments)})"
    yield f'store = Store.open(".taskstore", engine=engine, mirrors=mirrors, migrate=True{models})'
    yield "store.attach(Session)  # your sessionmaker"


def _as_dict(finding: Finding) -> dict[str, Any]:
    mirror = finding.mirror
    refused = [{"reason": one.reason, "fix": one.fix} for one in finding.refusals]
    return {
        "model": finding.name,
        "table": finding.table,
        "collection": None if mirror is None else mirror.collection,
        "id": [] if mirror is None else list(mirror.key),
        "fields": _fields(finding),
        "left_out": list(finding.left_out),
        "refused": refused,
        "lines": [] if mirror is None else _lines(finding),
    }


def _fields(finding: Finding) -> list[str]:
    from taskstore._mirror.model.survey import line_keys

    return [] if finding.mirror is None else line_keys(finding.mirror)


def _lines(finding: Finding) -> list[str]:
    from taskstore._mirror.model.survey import sample_line

    mirror = finding.mirror
    return [] if mirror is None else [sample_line(mirror, one).decode() for one in mirror.shapes]


def _show(found: Survey, calls: Iterable[str]) -> None:
    findings = found.findings
    for finding in findings:
        mirror = finding.mirror
        where = "not mirrored" if mirror is None else f"{mirror.collection}.jsonl"
        write(Styled(finding.name, bold=True), f": {where}")
        if mirror is not None:
            write(f"  id: {', '.join(mirror.key)}")
            write(f"  fields: {', '.join(_fields(finding))}")
        if finding.left_out:
            write(f"  left out: {', '.join(finding.left_out)}")
        for one in finding.refusals:
            write(Styled("  refused: ", "red"), one.reason)
            write(Styled(f"  fix: {one.fix}", "green"))
    if found.others:
        write(Styled("tables not mirrored", bold=True), f": {', '.join(found.others)}")
    write("")
    for call in calls:
        write(call)
    for finding in findings:
        if finding.mirror is not None:
            write("")
            write("--- /dev/null")
            write(f"+++ .taskstore/{finding.mirror.collection}.jsonl")
            for line in _lines(finding):
                write(Styled(f"+{line}", "green"))
