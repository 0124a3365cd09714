"""The formats, read and written: JSON Lines, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import PurePath
from typing import Any, BinaryIO, TextIO

import attrs

from taskstore._exchange.cells import ABSENT, from_cell, to_cell
from taskstore._format.lines import OVERLONG, LineError, decode_object, encode_value
from taskstore._log.lines import BOM, chunks_of, split_lines
from taskstore.errors import TaskstoreError

Records = Callable[[], Iterable[Mapping[str, Any]]]
"""Returns the records from the start, each time that it is called."""

Kinds = Callable[[str], Set[str]]
"""Returns the JSON types that a field has had."""

FORMATS = ("jsonl", "json", "csv")
"""The names of the formats."""

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv"}
"""The formats by the suffix of a file's name."""

_MARKERS = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


class FormatError(TaskstoreError, ValueError):
    """A file does not have the given format. Nothing was read."""

    format: str
    reason: str

    def __init__(self, format: str, reason: str) -> None:
        super().__init__(reason, format=format, reason=reason)


@attrs.frozen
class Item:
    """Something that may be a record.

    Attributes:
        place: The number of its line, or of the element in a JSON array, from 1.
        record: Its fields; None if it is not a record.
        reason: Why it is not a record.
    """

    place: int
    record: dict[str, Any] | None
    reason: str | None = None


def format_of(name: str | None) -> str | None:
    """Return the format of a file by its name, or None."""
    return None if name is None else SUFFIXES.get(PurePath(name).suffix.lower())


def read_items(stream: BinaryIO, format: str, kinds: Kinds) -> Iterator[Item]:
    """Yield the items of a file in its order. Each may be a record.

    Args:
        stream: The file.
        format: One of FORMATS.
        kinds: For CSV, whose cells are text.

    Raises:
        FormatError: The file as a whole cannot be read.
    """
    if format == "jsonl":
        # Line by line, so that a line that is not UTF-8 does not affect the others.
        return _read_lines(stream)
    try:
        text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(format, f"not UTF-8, at byte {error.start}") from None
    return _read_json(text) if format == "json" else _read_csv(text, kinds)


def write_records(
    stream: TextIO,
    records: Records,
    format: str,
    columns: Iterable[str] | None,
    *,
    header: bool = True,
) -> int:
    """Write records, and return how many.

    Args:
        stream: The output. It must not translate newlines.
        records: Returns the records. For CSV without `columns` it is called twice.
        format: One of FORMATS.
        columns: The fields to write, in this order; None for all.
        header: Whether CSV gets a line of names.
    """
    if format == "csv":
        return _write_csv(stream, records, columns, header=header)
    wanted = None if columns is None else list(columns)
    count = 0
    for count, record in enumerate(records(), 1):
        fields = record if wanted is None else {n: record[n] for n in wanted if n in record}
        if format == "json":
            stream.write("[\n  " if count == 1 else ",\n  ")
        stream.write(encode_value(fields).decode())
        if format == "jsonl":
            stream.write("\n")
    if format == "json":
        stream.write("\n]\n" if count else "[]\n")
    return count


def _read_lines(stream: BinaryIO) -> Iterator[Item]:
    for line in split_lines(chunks_of(stream)):
        if line.raw is None:
            yield Item(line.number, None, OVERLONG)
            continue
        raw = line.raw.removeprefix(BOM) if line.start == 0 else line.raw
        if raw.strip():
            yield _item(line.number, lambda raw=raw: decode_object(raw))  # type: ignore[misc]


def _item(place: int, decode: Callable[[], Any]) -> Item:
    try:
        found = decode()
    except UnicodeDecodeError:
        return Item(place, None, "not UTF-8")
    except (ValueError, LineError, RecursionError) as error:
        return Item(place, None, f"not JSON: {error}")
    if not isinstance(found, dict):
        return Item(place, None, "not a JSON object")
    return Item(place, found)


def _read_json(text: str) -> Iterator[Item]:
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise FormatError("json", f"not JSON: {error}") from None
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list):
        raise FormatError("json", "neither an array of objects nor an object")
    return (_item(place, lambda it=value: it) for place, value in enumerate(found, 1))  # type: ignore[misc]


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _read_csv(text: str, kinds: Kinds) -> Iterator[Item]:
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [_name(cell) for cell in next(rows, [])]
    except csv.Error as error:
        raise FormatError("csv", f"not CSV: {error}") from None
    if "" in header or len(set(header)) < len(header):
        raise FormatError("csv", "the first line must name each column, and none twice")
    return _read_rows(rows, header, {name: kinds(name) for name in header})


def _read_rows(rows: Any, header: list[str], kinds: Mapping[str, Set[str]]) -> Iterator[Item]:
    while True:
        place = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Item(place, None, f"not CSV: {error}")
            return
        if not any(cells):
            continue
        if len(cells) > len(header):
            yield Item(place, None, f"{len(cells)} cells, and the first line has {len(header)}")
            continue
        yield Item(
            place,
            {
                name: cell.removeprefix("'") if name == "id" else from_cell(cell, kinds[name])
                for name, cell in zip(header, cells, strict=False)
                if cell != ABSENT
            },
        )


def _name(cell: str) -> str:
    return cell.removeprefix("'")


def _write_csv(
    stream: TextIO, records: Records, columns: Iterable[str] | None, *, header: bool
) -> int:
    names = list(dict.fromkeys(name for record in records() for name in record))
    wanted = names if columns is None else list(columns)
    writer = csv.writer(stream, lineterminator="\r\n")
    if wanted and header:
        writer.writerow([to_cell(name) for name in wanted])
    count = 0
    for record in records():
        writer.writerow([to_cell(record[n]) if n in record else ABSENT for n in wanted])
        count += 1
    return count
