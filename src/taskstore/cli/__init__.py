"""The command line. Each command is a module of its own, imported when it is called."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from keyword import iskeyword
from typing import Any

import click

from taskstore.cli._errors import guarded, hint
from taskstore.cli._output import write
from taskstore.cli._streams import settled_streams
from taskstore.errors import EvolutionClashWarning

__all__ = ["main"]

_SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Records": {
        "list": "List the records of a collection.",
        "get": "Show records.",
        "search": "Find records by words in their text.",
        "add": "Add a record.",
        "set": "Change fields of a record.",
        "edit": "Edit a record in an editor.",
        "delete": "Delete records.",
        "history": "Show every version of a record, as a table.",
        "blame": "Show who last changed each field of a record.",
        "restore": "Bring a record back as it was.",
        "watch": "Print changes as they are committed.",
        "browse": "Show records and their history in a browser.",
    },
    "Files": {
        "import": "Import records from JSON Lines, JSON or CSV.",
        "export": "Export records to JSON Lines, JSON or CSV.",
    },
    "Store": {
        "status": "Show the store at a glance.",
        "collections": "List the collections.",
        "rename": "Rename a collection.",
        "drop": "Delete all records of a collection.",
        "schema": "Show the fields of a collection, and their types.",
        "indexes": "Show, add and drop indexes.",
        "sql": "Run a query on the cache.",
        "sync": "Update the cache from the logs.",
        "verify": "Compare the cache with the logs.",
        "compact": "Drop old versions from logs.",
        "evolve": "Show the revisions of lines, and what a step would do to them.",
        "adopt": "Show what a store would log of an application's models.",
        "scribe": "Write what applications commit in PostgreSQL to the logs.",
        "mcp": "Offer a store to AI agents, as tools.",
        "completion": "Print the script that completes commands in a shell.",
    },
    "Git": {
        "init": "Create a store, and install it in git.",
        "git": "Install the merge driver and the hooks in a clone, or remove them.",
        "log": "Show every version of a record, and the commits that brought them.",
        "diff": "Show what changed between commits, by record and field.",
        "revert": "Undo what a commit changed in records.",
        "doctor": "Find what is wrong, and fix what is safe to fix.",
        "trust": "Trust modules with record types in this clone.",
        "merge": "Merge two versions of a log (git's merge driver).",
    },
}
"""The commands and what they do; each is `command` in the module of its name."""

COMPLETION = "_TASKSTORE_COMPLETE"
"""The environment variable with which a shell asks for completions."""

_COMMANDS = {name: text for section in _SECTIONS.values() for name, text in section.items()}


class _Commands(click.Group):
    """Commands that are imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = import_module(f"{__name__}.{name}{'_' if iskeyword(name) else ''}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}{hint(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> Any:
        with settled_streams():
            asked = os.environ.get(COMPLETION)
            if asked:
                # click would write completions around the guard.
                from taskstore.cli._completion import complete

                sys.exit(complete(self, COMPLETION, asked))
            with warnings.catch_warnings():
                # `doctor` and `evolve` have their own message for it.
                warnings.simplefilter("ignore", EvolutionClashWarning)
                return super().main(*args, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        # It prints the help and the version.
        with guarded():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with guarded():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Without their short help texts, which would import all commands.
        width = max(map(len, _COMMANDS))
        for title, commands in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in commands.items()])


def _show_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        from importlib.metadata import version

        write(f"taskstore {version('taskstore')}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Application state as JSON Lines in git.

    Each command uses the store in the working directory or the nearest parent directory, or the
    store that --store or TASKSTORE_DIR names. `taskstore COMMAND --help` has examples.
    """
