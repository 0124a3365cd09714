"""What a command prints: data to stdout, everything else to stderr.

On a terminal there are tables and colours, unless NO_COLOR is set; in a pipe a table is lines of
fields with tabs between, under a line of their names. Control characters are shown as escapes:
what is in a record must not steer the terminal, nor split a line.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

import click

__all__ = [
    "VisibleStream",
    "age",
    "as_text",
    "json_option",
    "moment",
    "note",
    "progress",
    "size",
    "standard_output",
    "ticked",
    "to_terminal",
    "visible",
    "waiting",
    "warn",
    "write",
    "write_facts",
    "write_json",
    "write_json_line",
    "write_json_list",
    "write_table",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_PATIENCE = 1.0
"""How long something may take without a progress bar, in seconds."""

_TICK = 500
"""After how many items a progress bar hears of them."""

_GAP = 3
"""How many cells there are between two columns on a terminal."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_UNESCAPED = re.compile(r"[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def json_option(command: F) -> F:
    """Give a command the option --json, as its argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def to_terminal(stream: TextIO | None = None) -> bool:
    """Whether a stream, stdout by default, is a terminal."""
    stream = sys.stdout if stream is None else stream
    return stream is not None and stream.isatty()


def visible(text: str) -> str:
    """Return a text with its control characters as escapes."""
    return _CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


class VisibleStream(io.TextIOBase):
    """Writes text to a terminal, with control characters as escapes, except for line ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, and return how many characters were given."""
        self._stream.write("\n".join(map(visible, text.replace("\r\n", "\n").split("\n"))))
        return len(text)


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
        OSError: it is closed.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed, and there is something to print", "stdout")
    return sys.stdout


def write(text: str) -> None:
    """Write a line of data to stdout."""
    standard_output().write(f"{text}\n")


def write_json(value: Any) -> None:
    """Write one JSON document to stdout."""
    write(_dumped(value, indent=2))


def write_json_line(value: Any) -> None:
    """Write one JSON document to stdout, on one line."""
    write(_dumped(value))


def _dumped(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    # Those below 32 are escaped already; the others may steer a terminal as well.
    return _UNESCAPED.sub(_as_unicode, text) if to_terminal() else text


def _as_unicode(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def write_json_list(items: Iterable[Any]) -> None:
    """Write a JSON array to stdout, an item on each line, without holding them all."""
    count = 0
    for count, item in enumerate(items, 1):
        write(f"{',' if count > 1 else '['}{_dumped(item)}")
    write("]" if count else "[]")


def size(count: int) -> str:
    """Return a number of bytes as people say it."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def age(ms: int) -> str:
    """Return how long ago a time in milliseconds since the epoch was, as people say it."""
    seconds = time.time() - ms / 1000
    if seconds < 0:
        return moment(ms)
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def moment(value: int | str | None) -> str:
    """Return a version as people read it: times in milliseconds in UTC, texts as they are."""
    from taskstore._format.instants import format_rfc3339

    if value is None:
        return ""
    return value if isinstance(value, str) else format_rfc3339(value)


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
        columns: their names.
        rows: the JSON values of each row.
        header: whether a pipe gets the line of names.
        numbers: the columns that a terminal is to align to the right.
        fold: the columns that a terminal is to show whole, on several lines if need be.
    """
    if not to_terminal():
        if header:
            write("\t".join(columns))
        for row in rows:
            write("\t".join(visible(as_text(value)) for value in row))
        return
    _write_rich_table(columns, rows, frozenset(numbers), frozenset(fold))


def _write_rich_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    numbers: frozenset[str],
    fold: frozenset[str],
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    names = [Text(visible(name)) for name in columns]
    cells = [[Text(visible(as_text(value))) for value in row] for row in rows]
    wanted = [max(cell.cell_len for cell in column) for column in zip(names, *cells, strict=True)]
    widths = _fitting(wanted, console.width - _GAP * (len(names) - 1))
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
    """Return widths for columns: what they want, or the widest of them less."""
    widths = [min(width, max(room, 1)) for width in wanted]
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def write_facts(facts: Mapping[str, Any]) -> None:
    """Write names and values to stdout: aligned on a terminal, with a tab between in a pipe."""
    if not to_terminal():
        for name, value in facts.items():
            write(f"{visible(name)}\t{visible(as_text(value))}")
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
    Console(file=sys.stdout).print(table)


def note(message: str) -> None:
    """Say something on stderr."""
    click.echo(visible(message), err=True)


def warn(message: str) -> None:
    """Say on stderr that something is not as it should be."""
    label = "Warning:"
    if to_terminal(sys.stderr) and not os.environ.get("NO_COLOR"):
        label = click.style(label, fg="yellow")
    click.echo(f"{label} {visible(message)}", err=True)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr, on a terminal, for what takes longer than a second.

    Yields:
        What is to be called with how much is done, and how much there is to do.
    """
    if not to_terminal(sys.stderr):
        yield lambda done, total: None
        return
    bar = _Bar(title)
    try:
        yield bar.update
    finally:
        bar.close()


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """Show on stderr, on a terminal, that something goes on whose end cannot be foreseen."""
    if not to_terminal(sys.stderr):
        yield
        return
    import threading

    shown = []

    def show() -> None:
        from rich.console import Console

        shown.append(Console(stderr=True).status(title))
        shown[0].start()

    timer = threading.Timer(_PATIENCE, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        for status in shown:
            status.stop()


def ticked(items: Iterable[T], total: int, update: Callable[[int, int], None]) -> Iterator[T]:
    """Yield items, and tell from time to time how many there have been of how many."""
    for done, item in enumerate(items, 1):
        yield item
        if done % _TICK == 0:
            update(done, total)


class _Bar:
    """A bar that appears when its time has come."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._start = time.monotonic()
        self._bar: Any = None
        self._is_closed = False

    def update(self, done: int, total: int) -> None:
        if self._is_closed:
            # A store that stays open goes on to tell of what it reads.
            return
        if self._bar is None:
            if time.monotonic() - self._start < _PATIENCE:
                return
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.add_task(self._title)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total)

    def close(self) -> None:
        self._is_closed = True
        if self._bar is not None:
            self._bar.stop()
