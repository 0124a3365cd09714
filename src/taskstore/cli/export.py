"""`taskstore export`: records into a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from taskstore.cli._arguments import (
    collection_argument,
    columns_of,
    columns_option,
    sort_option,
    sorts_of,
    where_option,
)
from taskstore.cli._errors import Failure, Status
from taskstore.cli._output import data_output, note
from taskstore.cli._progress import progress, ticked
from taskstore.cli._store import check_collection, uses_store

if TYPE_CHECKING:
    from taskstore._api.store import Store


_BOM = "\ufeff"


@click.command("export")
@collection_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write, instead of stdout.",
)
@click.option(
    "-f",
    "--format",
    type=click.Choice(["jsonl", "json", "csv"]),
    help="By default, the suffix of the file's name decides; jsonl for stdout and for a name "
    "without a suffix.",
)
@where_option
@sort_option("By id")
@columns_option
@uses_store(past=True)
def command(
    store: Store,
    collection: str,
    output: Path | None,
    format: str | None,
    filters: tuple[str, ...],
    sorts: tuple[str, ...],
    columns: str | None,
) -> None:
    """Export the records of COLLECTION.

    CSV has a column for each field and opens in spreadsheets, and `import` restores every value
    from it. An apostrophe marks a text that looks like a number, a date or a formula. Lists and
    objects are JSON. An empty cell means that the record does not have the field. A CSV file starts
    with a byte-order mark, so that Excel reads it as UTF-8. An existing file is replaced when the
    new one is complete.

    \b
    Examples:
      taskstore export plans -o plans.csv
      taskstore export plans --where status=open --columns id,title -f csv | column -s, -t
    """
    from taskstore._exchange.formats import write_records
    from taskstore._survey.fields import parse_filters

    check_collection(store, collection)
    chosen = format or _format_of(output)
    conditions = parse_filters(store, collection, filters)
    order = sorts_of(store, collection, sorts) or ["id"]
    names = columns_of(store, collection, columns)
    # One snapshot for all passes over the records.
    with (
        store.session(read_only=True),
        _opened(output, chosen) as stream,
        progress(f"Exporting {collection}") as update,
    ):
        total = store.count(collection, *conditions)
        if output is not None and chosen == "csv":
            stream.write(_BOM)
        count = write_records(
            stream,
            lambda: ticked(store.iterate(collection, *conditions, order_by=order), total, update),
            chosen,
            names,
        )
    if output is not None:
        note(f"{count} record{'' if count == 1 else 's'} written to {output}")


def _format_of(output: Path | None) -> str:
    """Return the format to write if --format is not given.

    Raises:
        Failure: The suffix of the file's name is not a format that can be written.
    """
    from taskstore._exchange.formats import SUFFIXES, format_of

    if output is None or not output.suffix:
        return "jsonl"
    found = format_of(output.name)
    if found is None:
        known = ", ".join(SUFFIXES)
        raise Failure(
            f"{output}: {output.suffix!r} is not a format that can be written: give it a name with "
            f"one of {known}, or pass --format jsonl, json or csv",
            Status.USAGE,
        )
    return found


@contextlib.contextmanager
def _opened(path: Path | None, format: str) -> Iterator[TextIO]:
    """Open the output without translating newlines. A file gets its name when it is complete."""
    if path is None:
        with data_output(format) as stream:
            yield stream
        return
    if path.exists() and not path.is_file():
        # A device or a pipe is written to, not replaced.
        with open(path, "w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    if not path.parent.is_dir():
        raise Failure(f"there is no folder {str(path.parent)!r}: create it first", Status.STORE)
    with _replaced(path.resolve()) as stream:
        yield stream


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[TextIO]:
    """Open a new file that replaces another one when it is complete, with its permissions."""
    # A part of the name, because the whole name may be as long as a name can be.
    draft = path.with_name(f".{path.name[:40]}.{os.urandom(4).hex()}.tmp")
    stream = _draft_of(path, draft)
    finish: Callable[[], None] = draft.unlink
    try:
        with stream:
            if path.exists():
                draft.chmod(path.stat().st_mode & 0o7777)
            yield stream
        finish = lambda: os.replace(draft, path)  # noqa: E731
    finally:
        with contextlib.suppress(FileNotFoundError):
            finish()


def _draft_of(path: Path, draft: Path) -> TextIO:
    try:
        return open(draft, "x", encoding="utf-8", newline="")
    except OSError as error:
        # The name of the draft would mean nothing to the user.
        raise OSError(error.errno, error.strerror, str(path)) from error
