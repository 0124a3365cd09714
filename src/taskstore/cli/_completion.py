"""Completion: what a shell offers when you press Tab."""

from __future__ import annotations

import re
import sys

import click
from click.shell_completion import get_completion_class

from taskstore._log.layout import Layout
from taskstore._text import visible
from taskstore.cli._errors import Status
from taskstore.cli._output import flush, write_fields
from taskstore.cli._store import locate, names_in, opened_to_read
from taskstore.cli._streams import abandon
from taskstore.cli._typed import given, quietly
from taskstore.errors import TaskstoreError

_MOST = 100

_SIGN = re.compile(r"[=:<>]+")
_WITH_SIGN = re.compile(r"(?P<name>[^=!<>~:]+)(?P<sign>!=|==|=)(?P<value>.*)", re.DOTALL)

# Words that every shell takes as they are. Some shells insert a completion without quotes: then an
# id such as `$(command)` would run, and an id that begins with a dash would be an option.
_PLAIN = re.compile(r"(?:[\w@%+=:,./-]|[^\x00-\x7f])+")


def complete(group: click.Group, variable: str, instruction: str) -> int:
    """Print what a shell offers, and return the exit code.

    Args:
        group: All commands.
        variable: The environment variable with which the shell asks.
        instruction: Its value, such as "bash_complete".
    """
    shell, _, what = instruction.partition("_")
    kind = get_completion_class(shell)
    if kind is None or what != "complete":
        return Status.USAGE
    asked = kind(group, {}, "taskstore", variable)
    words, incomplete = asked.get_completion_args()
    before = ""
    if shell == "bash":
        words, incomplete, before = _joined([*words, incomplete])
    asked.ctx_args["obj"] = words
    try:
        for item in asked.get_completions(words, incomplete):
            item.value = item.value.removeprefix(before)
            if item.type != "plain" or _is_plain(item.value, incomplete):
                for line in asked.format_completion(item).split("\n"):
                    write_fields(line.split("\t"))
        flush()
    except OSError:
        # No message: the person is in the middle of typing a line.
        abandon(sys.stdout)
        return Status.STORE
    return Status.OK


def _joined(tokens: list[str]) -> tuple[list[str], str, str]:
    """Join what bash has split at the sign of an assignment, as in `status = open`.

    Returns:
        The words, the last incomplete word, and the part of it that bash does not replace.
    """
    words: list[str] = []
    before, is_open = "", False
    for token in tokens:
        is_sign = _SIGN.fullmatch(token) is not None and bool(words)
        if is_sign or is_open:
            before = words[-1] + token if is_sign else before
            words[-1] += token
        else:
            before = ""
            words.append(token)
        is_open = is_sign
    return words[:-1], words[-1], before


def _is_plain(value: str, incomplete: str) -> bool:
    if value.startswith("-") and not incomplete.startswith("-"):
        return False
    return value == visible(value) and _PLAIN.fullmatch(value) is not None


@quietly
def complete_collection(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the collections whose names begin as typed."""
    directory = locate(given(ctx, "store_path"))
    logs, _ = Layout(directory).collections()
    names = names_in(directory)
    return sorted(name for name in map(names.name_of, logs) if name.startswith(incomplete))


@quietly
def complete_id(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the ids that begin as typed, from the collection on the line, or from all."""
    from taskstore._survey.fields import ids_from

    named = given(ctx, "collection")
    with opened_to_read(given(ctx, "store_path")) as store:
        logs = [named] if named else Layout(store.path).collections()[0]
        found = [id for name in logs for id in ids_from(store, name, incomplete, _MOST)]
    return found[:_MOST]


@quietly
def complete_field(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the fields that begin as typed, from the collection on the line."""
    from taskstore._survey.fields import field_names

    with opened_to_read(given(ctx, "store_path")) as store:
        names = field_names(store, given(ctx, "collection") or "")
    return [name for name in names if name.startswith(incomplete)]


def complete_fields(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return how a comma-separated list of fields can continue; each may have a dash."""
    before, comma, last = incomplete.rpartition(",")
    dash = "-" if last.startswith("-") else ""
    names = complete_field(ctx, param, last.removeprefix("-"))
    return [f"{before}{comma}{dash}{name}" for name in names]


def complete_assignment(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return fields, and after `=` or another operator the values of the field."""
    found = _WITH_SIGN.fullmatch(incomplete)
    if found is None:
        return [f"{name}=" for name in complete_field(ctx, param, incomplete)]
    start = found["name"] + found["sign"]
    return [start + value for value in _values(ctx, found["name"], found["value"])]


def _values(ctx: click.Context, name: str, start: str) -> list[str]:
    from taskstore._survey.fields import values_from

    try:
        with opened_to_read(given(ctx, "store_path")) as store:
            return values_from(store, given(ctx, "collection") or "", name, start, _MOST)
    except TaskstoreError:
        return []
