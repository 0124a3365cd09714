"""The formats of --format: tables for people, lines and JSON for other programs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import click

from taskstore.cli._output import (
    data_output,
    json_option,
    write_json,
    write_json_line,
    write_json_list,
    write_lines,
    write_rich_table,
    write_table,
)
from taskstore.cli._paging import paged

P = ParamSpec("P")
R = TypeVar("R")

FORMATS = ("table", "csv", "tsv", "json", "nl")
"""The names of the formats; nl is one JSON value on each line."""


def format_option(function: Callable[P, R], *, more: Sequence[str] = ()) -> Callable[..., R]:
    """Give a command --format, and --json for short, as its argument `format`.

    The argument is None by default: a table on a terminal, and lines with tabs in a pipe.

    Args:
        function: The command.
        more: Further formats of this command.
    """

    @functools.wraps(function)
    def command(*args: P.args, **options: P.kwargs) -> R:
        as_json, format = options.pop("as_json"), options["format"]
        if as_json:
            if format not in (None, "json"):
                raise click.UsageError(f"Give either --json or --format {format}.")
            options["format"] = "json"
        # Tells other code that a program reads the output.
        click.get_current_context().params["as_json"] = is_json(options["format"])
        return function(*args, **options)

    with_format = click.option(
        "-f",
        "--format",
        type=click.Choice([*FORMATS, *more]),
        help="By default a table on a terminal, and tsv in a pipe. nl is one JSON object a line.",
    )(command)
    return json_option(with_format)


def is_json(format: Any) -> bool:
    """Say whether a format is JSON."""
    return format in ("json", "nl")


def write_items(items: Iterable[Any], format: str | None, *, indent: bool = False) -> None:
    """Write JSON values to stdout, as an array with one on each line, or as lines without one.

    Args:
        items: The values.
        format: "json" or "nl".
        indent: Whether the array is indented, each value on several lines.
    """
    with paged():
        if format == "nl":
            for item in items:
                write_json_line(item)
        elif indent:
            write_json(list(items))
        else:
            write_json_list(items)


def write_rows(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    format: str | None,
    *,
    header: bool = True,
    numbers: Iterable[str] = (),
    fold: Iterable[str] = (),
) -> None:
    """Write rows to stdout, in any format that is not JSON.

    Args:
        columns: Their names.
        rows: The JSON values of each row.
        format: One of FORMATS; None for the default.
        header: Whether csv and tsv get a line with the names.
        numbers: The columns that a table aligns to the right.
        fold: The columns that a table shows whole, on several lines if necessary.
    """
    with paged():
        if format == "csv":
            _write_csv(columns, rows, header=header)
        elif format == "tsv":
            write_lines(columns, rows, header=header)
        elif format == "table":
            write_rich_table(columns, rows, frozenset(numbers), frozenset(fold))
        else:
            write_table(columns, rows, header=header, numbers=numbers, fold=fold)


def write_csv_records(
    records: Sequence[Mapping[str, Any]], columns: Sequence[str] | None, *, header: bool
) -> None:
    """Write records to stdout as `export` writes them in CSV, all fields by default."""
    from taskstore._exchange.formats import write_records

    with paged(), data_output("csv") as stream:
        write_records(stream, lambda: records, "csv", columns, header=header)


def _write_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, header: bool) -> None:
    import csv

    from taskstore._exchange.cells import ABSENT, to_cell

    with data_output("csv") as stream:
        writer = csv.writer(stream, lineterminator="\r\n")
        if header:
            writer.writerow(map(to_cell, columns))
        for row in rows:
            writer.writerow([ABSENT if value is None else to_cell(value) for value in row])
