"""What a command prints: data to stdout, everything else to stderr.

On a terminal there are tables, and colours unless NO_COLOR is set. In a pipe, a table is a line of
names and lines of fields, separated by tabs. Everything that the command line prints passes this
module and the streams below it. They show control characters as escapes, because a record must not
control the terminal or split a line. Characters that the output's encoding lacks are escaped too.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TextIO, TypeVar, cast

import click

from taskstore._text import visible
from taskstore.cli._streams import SafeStream, Stream, is_utf8, unguarded

F = TypeVar("F", bound=Callable[..., Any])

_GAP = 3
"""How many cells there are between two columns on a terminal."""

# The characters that may control a terminal and that JSON does not escape by itself. (It escapes
# controls below 32.)
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NOT_ASCII = re.compile("[^\x00-\x7e]")


class Styled(NamedTuple):
    """A part of a line that is coloured or bold if colours are shown."""

    text: str
    color: str | None = None
    bold: bool = False


def json_option(command: F) -> F:
    """Give a command the option --json, as its argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def to_terminal(stream: TextIO | None = None) -> bool:
    """Return whether a stream, stdout by default, is a terminal."""
    stream = sys.stdout if stream is None else stream
    return stream is not None and stream.isatty()


def as_text(value: Any) -> str:
    """Return a JSON value as the text of a cell: strings as they are, nothing for null."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def standard_output() -> TextIO:
    """Return stdout.

    Raises:
        OSError: It is closed.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed, but there is something to print", "stdout")
    return sys.stdout


def flush() -> None:
    """Flush stdout, if there is one.

    Raises:
        OSError: It is full or closed.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def write(*parts: str | Styled) -> None:
    """Write a line of text to stdout, and escape the control characters of each part."""
    _put("".join(_shown(part, standard_output()) for part in parts))


def write_fields(fields: Iterable[str]) -> None:
    """Write a line of fields to stdout, separated by tabs in a pipe."""
    _put(("  " if to_terminal() else "\t").join(map(visible, fields)))


def _put(line: str) -> None:
    """Write a line to stdout in which all values are escaped."""
    unguarded(standard_output()).write(f"{line}\n")


def _shown(part: str | Styled, stream: TextIO) -> str:
    if isinstance(part, str):
        return visible(part)
    text = visible(part.text)
    is_plain = part.color is None and not part.bold
    if is_plain or not to_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, fg=part.color, bold=part.bold or None)


def write_json(value: Any) -> None:
    """Write one JSON document to stdout."""
    _put(_dumped(value, indent=2))


def write_json_line(value: Any) -> None:
    """Write one JSON document to stdout, on one line."""
    _put(_dumped(value))


def _dumped(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _harmless_json(text, standard_output())


def _harmless_json(text: str, stream: TextIO) -> str:
    """Escape the characters in JSON that may control a terminal or that an encoding lacks."""
    pattern = _STEERING if is_utf8(stream) else _NOT_ASCII
    return pattern.sub(lambda found: json.dumps(found.group())[1:-1], text)


def safe_json(value: Any) -> str:
    """Return a JSON document on one line, with escapes for what may steer a terminal."""
    text = json.dumps(value, ensure_ascii=False)
    return _STEERING.sub(lambda found: json.dumps(found.group())[1:-1], text)


def write_json_list(items: Iterable[Any]) -> None:
    """Write a JSON array to stdout, an item on each line, without holding them all."""
    count = 0
    for count, item in enumerate(items, 1):
        _put(f"{',' if count > 1 else '['}{_dumped(item)}")
    _put("]" if count else "[]")


@contextmanager
def data_output(format: str) -> Iterator[TextIO]:
    """Yield stdout for records in a format of `export`, without changing line ends.

    In a pipe the output is UTF-8, whatever the locale. In JSON, characters that may control a
    terminal are always escaped; in CSV, which has no escapes, only on a terminal.
    """
    stdout = standard_output()
    # Keeps the order with other writes.
    stdout.flush()
    if to_terminal():
        yield cast("TextIO", SafeStream(stdout) if format == "csv" else _JsonStream(stdout))
        return
    with open(os.dup(stdout.fileno()), "w", encoding="utf-8", newline="") as stream:
        yield stream if format == "csv" else cast("TextIO", _JsonStream(stream))


class _JsonStream(Stream):
    """Writes JSON to stdout, with JSON's own escapes."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream.inner if isinstance(stream, SafeStream) else stream)

    def write(self, text: str) -> int:
        super().write(_harmless_json(text, self.inner))
        return len(text)


def size(count: int) -> str:
    """Return a number of bytes in a readable form."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def age(ms: int) -> str:
    """Return how long ago a time was, such as "3 minutes ago". It is in milliseconds."""
    seconds = time.time() - ms / 1000
    if seconds < 0:
        return moment(ms)
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def moment(value: int | str | None) -> str:
    """Return a version in a readable form: milliseconds as a UTC time, text as it is."""
    from taskstore._format.instants import format_rfc3339

    if value is None:
        return ""
    return value if isinstance(value, str) else format_rfc3339(value)


def with_moment(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record with its version in a readable form."""
    if not isinstance(record.get("updated_at"), int):
        return record
    return {**record, "updated_at": moment(record["updated_at"])}


def write_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    header: bool = True,
    numbers: Iterable[str] = (),
    fold: Iterable[str] = (),
) -> None:
    """Write a table to stdout: for people on a terminal, with tabs in a pipe.

    Args:
        columns: Their names.
        rows: The JSON values of each row.
        header: Whether a pipe gets a line with the names.
        numbers: The columns that a terminal aligns to the right.
        fold: The columns that a terminal shows whole, on several lines if necessary.
    """
    if to_terminal():
        write_rich_table(columns, rows, frozenset(numbers), frozenset(fold))
    else:
        write_lines(columns, rows, header=header)


def write_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, header: bool) -> None:
    """Write rows to stdout as lines of fields, separated by tabs.

    Args:
        columns: Their names.
        rows: The JSON values of each row.
        header: Whether the first line has the names.
    """
    if header:
        _put("\t".join(map(visible, columns)))
    for row in rows:
        _put("\t".join(visible(as_text(value)) for value in row))


def write_rich_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    numbers: frozenset[str],
    fold: frozenset[str],
) -> None:
    """Write a table to stdout, as wide as the terminal; in a pipe, as wide as its values need.

    Args:
        columns: Their names.
        rows: The JSON values of each row.
        numbers: The columns that are aligned to the right.
        fold: The columns that are shown whole, on several lines if necessary.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    names = [Text(visible(name)) for name in columns]
    cells = [[Text(visible(as_text(value))) for value in row] for row in rows]
    wanted = [max(cell.cell_len for cell in column) for column in zip(names, *cells, strict=True)]
    gaps = _GAP * (len(names) - 1)
    width = None if to_terminal() else sum(wanted) + gaps
    console = Console(file=unguarded(standard_output()), width=width)
    widths = _fitting(wanted, console.width - gaps)
    for position, (name, width) in enumerate(zip(columns, widths, strict=True)):
        table.add_column(
            names[position],
            justify="right" if name in numbers else "left",
            style="cyan" if position == 0 else "",
            width=width,
            no_wrap=name not in fold,
            overflow="fold" if name in fold else "ellipsis",
        )
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _fitting(wanted: Sequence[int], room: int) -> list[int]:
    """Return widths for columns: the wanted ones, or less for the widest."""
    widths = [min(width, max(room, 1)) for width in wanted]
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def write_facts(facts: Mapping[str, Any]) -> None:
    """Write names and values to stdout: aligned on a terminal, separated by a tab in a pipe."""
    if not to_terminal():
        for name, value in facts.items():
            _put(f"{visible(name)}\t{visible(as_text(value))}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        lines = (visible(line) for line in as_text(value).split("\n"))
        table.add_row(Text(visible(name)), Text("\n".join(lines)))
    Console(file=unguarded(standard_output())).print(table)


def note(message: str) -> None:
    """Print a note on stderr."""
    _say(message)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    _say(Styled("Warning:", "yellow"), f" {message}")


def _say(*parts: str | Styled) -> None:
    if sys.stderr is None:
        return
    if sys.stdout is not None:
        # So that the order is right if both go to the same place. If stdout cannot be written,
        # the end of the command reports it.
        with suppress(OSError, ValueError):
            sys.stdout.flush()
    stream = unguarded(sys.stderr)
    stream.write("".join(_shown(part, sys.stderr) for part in parts) + "\n")
    stream.flush()


def confirmed(question: str) -> bool:
    """Ask on stderr, and return whether the answer is yes."""
    return click.confirm(visible(question), err=True)
