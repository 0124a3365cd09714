"""What a shell is offered when Tab is pressed."""

from __future__ import annotations

import re
import sys

import click
from click.shell_completion import get_completion_class

from taskstore._log.layout import Layout
from taskstore._text import visible
from taskstore.cli._errors import Status
from taskstore.cli._output import flush, write_fields
from taskstore.cli._store import locate, opened_to_read
from taskstore.cli._streams import abandon
from taskstore.errors import TaskstoreError

_MOST = 100

# What every shell takes as it is. Some insert what is completed without quotes, and then an id such
# as `$(command)` would be run with the line, and one that begins with a dash would be an option.
_PLAIN = re.compile(r"(?:[\w@%+=:,./-]|[^\x00-\x7f])+")


def complete(group: click.Group, variable: str, instruction: str) -> int:
    """Print what a shell is to offer, and return the exit code.

    Args:
        group: All commands.
        variable: The environment variable by which the shell asks.
        instruction: What that says, such as "bash_complete".
    """
    shell, _, what = instruction.partition("_")
    kind = get_completion_class(shell)
    if kind is None or what != "complete":
        return Status.USAGE
    asked = kind(group, {}, "taskstore", variable)
    words, incomplete = asked.get_completion_args()
    try:
        for item in asked.get_completions(words, incomplete):
            if item.type != "plain" or _is_plain(item.value, incomplete):
                for line in asked.format_completion(item).split("\n"):
                    write_fields(line.split("\t"))
        flush()
    except OSError:
        # There is nobody to tell: the person is in the middle of a line.
        abandon(sys.stdout)
        return Status.STORE
    return Status.OK


def _is_plain(value: str, incomplete: str) -> bool:
    if value.startswith("-") and not incomplete.startswith("-"):
        return False
    return value == visible(value) and _PLAIN.fullmatch(value) is not None


def complete_collection(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the collections whose names begin as typed."""
    try:
        names, _ = Layout(locate(ctx.params.get("store_path"))).collections()
    except TaskstoreError:
        # There is nobody to tell: the person is in the middle of a line.
        return []
    return [name for name in names if name.startswith(incomplete)]


def complete_id(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the ids that begin as typed, of the collection that was named before."""
    from taskstore._survey.fields import ids_from

    try:
        with opened_to_read(ctx.params.get("store_path")) as store:
            return ids_from(store, ctx.params.get("collection") or "", incomplete, _MOST)
    except TaskstoreError:
        return []


def complete_field(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the fields that begin as typed, of the collection that was named before."""
    from taskstore._survey.fields import field_names

    try:
        with opened_to_read(ctx.params.get("store_path")) as store:
            names = field_names(store, ctx.params.get("collection") or "")
    except TaskstoreError:
        return []
    return [name for name in names if name.startswith(incomplete)]
