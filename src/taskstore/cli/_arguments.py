"""Arguments and options that several commands have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

import click

from taskstore.cli._completion import (
    complete_assignment,
    complete_collection,
    complete_fields,
    complete_id,
)
from taskstore.cli._errors import Failure, Status
from taskstore.cli._store import locate, log_of
from taskstore.errors import TaskstoreError

if TYPE_CHECKING:
    from taskstore.cli._store import Readable
    from taskstore.errors import StaleRecordError


F = TypeVar("F", bound=Callable[..., Any])

_NAMED = 3
"""How many ids a message suggests."""


class CollectionName(click.types.StringParamType):
    """A name of a collection, returned as the name of its log.

    If it is missing, the message lists the collections.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name of the log: a collection may have been renamed."""
        name: str = super().convert(value, param, ctx)
        path = None if ctx is None else ctx.params.get("store_path")
        try:
            # click has a mark of its own for an option that was not given.
            directory = locate(path if isinstance(path, Path) else None)
            return log_of(directory, name)
        except TaskstoreError:
            return name  # the command says what is wrong

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str | None:
        known = [] if ctx is None else complete_collection(ctx, param, "")
        return f"It is one of: {', '.join(known)}." if known else None


collection_argument = click.argument(
    "collection", type=CollectionName(), shell_complete=complete_collection
)
ids_argument = click.argument("ids", metavar="ID...", nargs=-1, shell_complete=complete_id)


def where_option(command: F) -> F:
    """Give a command the repeatable option --where, as its argument `filters`."""
    return click.option(
        "-w",
        "--where",
        "filters",
        metavar="FILTER",
        multiple=True,
        shell_complete=complete_assignment,
        help="Only records that pass: 'status=open', 'status!=open', 'priority>5', "
        "'title~word' (contains; also a member of a list), 'assignee' (has one), '!assignee'. "
        "With := the value is JSON. Several must all pass.",
    )(command)


def sort_option(default: str) -> Callable[[F], F]:
    """Give a command the repeatable option --sort, as its argument `sorts`.

    Args:
        default: The order without it, for the help.
    """
    return click.option(
        "-s",
        "--sort",
        "sorts",
        metavar="FIELD",
        multiple=True,
        shell_complete=complete_fields,
        help=f"Sort by a field; put - before it for descending order. {default} by default.",
    )


def columns_option(command: F) -> F:
    """Give a command the option --columns, as its argument `columns`."""
    return click.option(
        "-c",
        "--columns",
        metavar="FIELD,...",
        help="The fields to show, in this order.",
        shell_complete=complete_fields,
    )(command)


def new_option(command: F) -> F:
    """Give a command the option --new, as its argument `new`."""
    return click.option(
        "--new",
        is_flag=True,
        help="Allow a new collection or field whose name is similar to a known one.",
    )(command)


def columns_of(store: Readable, collection: str, text: str | None) -> list[str] | None:
    """Return the columns that --columns names; None if it was not given.

    Raises:
        UnknownFieldError: No record has one of them.
    """
    from taskstore._survey.fields import check_fields

    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    check_fields(store, collection, names)
    return names


def sorts_of(store: Readable, collection: str, texts: Sequence[str]) -> list[str] | None:
    """Return the order that --sort names; None if it was not given.

    Raises:
        UnknownFieldError: No record has one of the fields.
    """
    from taskstore._survey.fields import check_fields

    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    check_fields(store, collection, (name.removeprefix("-") for name in names))
    return names or None


def standard_input() -> TextIO:
    """Return stdin.

    Raises:
        Failure: It is closed.
    """
    if sys.stdin is None:
        raise Failure("stdin is closed: give it a file, or a pipe", Status.USAGE)
    return sys.stdin


def read_json(what: str) -> Any:
    """Return the JSON document on stdin.

    Raises:
        Failure: It is none, or stdin is closed.
    """
    import json

    data = standard_input().buffer.read()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Failure(f"stdin is not JSON: {error}; {what}", Status.USAGE) from None


def not_found(store: Readable, collection: str, id: str) -> NoReturn:
    """Say that there is no such record, and which one may have been meant.

    Raises:
        Failure: always.
    """
    end = ids_hint(store, [collection], id)
    raise Failure(f"no record {id!r} in collection {collection!r}{end}")


def ids_hint(store: Readable, collections: Iterable[str], id: str) -> str:
    """Return the end of a message about an unknown id: those that may have been meant, if any."""
    from taskstore._survey.fields import ids_meant

    meant = [repr(each) for each in ids_meant(store, collections, id, _NAMED + 1)]
    if len(meant) > _NAMED:
        return f"; it begins {', '.join(meant[:_NAMED])} and others: which one do you mean?"
    if not meant:
        return ""
    first = ", ".join(meant[:-1])
    return f"; did you mean {f'{first} or ' if first else ''}{meant[-1]}?"


def older_version(error: StaleRecordError, more: str = "") -> NoReturn:
    """Say that an updated_at that was given is older than what is stored, and what to do.

    Args:
        error: What the store said.
        more: The end of the message.

    Raises:
        Failure: always. What is given stays older, so trying again is of no use.
    """
    raise Failure(
        f"{error.collection}/{error.id}: updated_at {error.carried} is older than "
        f"{error.stored}, which the store has, and versions never go back: leave updated_at out, "
        f"or give a newer one{more}",
        Status.USAGE,
    ) from error
