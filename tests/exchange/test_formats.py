"""Records in and out of JSON Lines, JSON and CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore._exchange.cells import from_cell, to_cell
from taskstore._exchange.formats import (
    FORMATS,
    FormatError,
    Item,
    format_of,
    read_items,
    write_records,
)

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(["", "'", "'x", "=1+1", "-5", "+1", "@a", "5", "1e3", "true", "null", "[1]"]),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
RECORDS = st.lists(
    st.builds(
        lambda id, rest: {"id": id, **{k: v for k, v in rest.items() if k != "id"}},
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=9),
        st.dictionaries(NAMES, VALUES, max_size=4),
    ),
    max_size=5,
)


def written(records: list[dict[str, Any]], format: str, columns: list[str] | None = None) -> str:
    """Records as the text of a file."""
    stream = io.StringIO(newline="")
    assert len(records) == write_records(stream, lambda: records, format, columns)
    return stream.getvalue()


def read(text: str | bytes, format: str, **kinds: set[str]) -> list[Item]:
    """What may be records in the text of a file."""
    data = text if isinstance(text, bytes) else text.encode()
    return list(read_items(io.BytesIO(data), format, lambda name: kinds.get(name, set())))


def exact(value: Any) -> str:
    """A value as text that tells 1, 1.0 and True apart, and forgets the order of keys."""
    if isinstance(value, dict):
        return str(sorted((key, exact(item)) for key, item in value.items()))
    return str(list(map(exact, value))) if isinstance(value, list) else repr(value)


@given(value=VALUES)
def test_a_cell_comes_back_as_it_was(value: Any) -> None:
    """The cell of any JSON value is not empty, and read as that value, of the same type."""
    cell = to_cell(value)
    assert cell
    assert exact(value) == exact(from_cell(cell))


@given(text=TEXTS)
def test_no_text_is_a_formula(text: str) -> None:
    """No cell with a text begins as a formula does."""
    assert not to_cell(text).startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize(
    "text",
    ["007", "1,5", "5%", "1e5", ".5", "2024-01-31", "31/1", "12:30 pm", "MARCH1", "1 Sept", "TRUE"],
)
def test_what_a_spreadsheet_would_rewrite_is_marked(text: str) -> None:
    """A text that looks like a number, a time or a date keeps its letters in a spreadsheet."""
    assert f"'{text}" == to_cell(text)


@pytest.mark.parametrize("text", ["plan-001", "Ship it", "v1.2", "2nd", "May I?", "truely"])
def test_other_texts_are_not_marked(text: str) -> None:
    """A text that a spreadsheet leaves alone stands in its cell as it is."""
    assert text == to_cell(text)


@pytest.mark.parametrize("format", FORMATS)
@given(records=RECORDS)
def test_a_file_comes_back_as_it_was(format: str, records: list[dict[str, Any]]) -> None:
    """What is written in any format is read as the same records."""
    found = read(written(records, format), format)
    assert list(map(exact, records)) == [exact(item.record) for item in found]


def test_a_column_of_text_stays_text() -> None:
    """What looks like a number is text where the log has only had text; elsewhere a number."""
    file = "id,zip,n\r\n7,12345,5\r\n"
    assert [{"id": "7", "zip": "12345", "n": 5}] == [
        item.record for item in read(file, "csv", zip={"text", "null"}, n={"integer"})
    ]
    assert [{"id": "7", "zip": 12345, "n": 5}] == [item.record for item in read(file, "csv")]


def test_a_spreadsheet_may_have_its_ways() -> None:
    """A byte-order mark, missing cells at the end and empty lines are read as what they mean."""
    file = b"\xef\xbb\xbfid,a,b\r\n1,x\r\n\r\n,,\r\n2,,y\r\n"
    assert [{"id": "1", "a": "x"}, {"id": "2", "b": "y"}] == [i.record for i in read(file, "csv")]


@pytest.mark.parametrize(
    ("format", "data", "reason"),
    [
        ("csv", b"id,id\n", "the first line must name each column, and none twice"),
        ("csv", b"id,,x\n", "the first line must name each column, and none twice"),
        ("csv", b"\xff", "not UTF-8, at byte 0"),
        ("json", b"[", "not JSON"),
        ("json", b"5", "neither an array of objects nor an object"),
        ("json", b"[NaN]", "NaN is not a JSON value"),
    ],
)
def test_a_file_of_another_format_is_refused(format: str, data: bytes, reason: str) -> None:
    """A file that is not what it is said to be raises with the reason."""
    with pytest.raises(FormatError, match=reason):
        read(data, format)


def test_a_bad_line_does_not_take_others_along() -> None:
    """Each line that is not a record is told of with its number; the others are read."""
    data = b'{"id":"a"}\n\n<<<<<<< x\n[1]\n\xff\n{"id":"b"}\r\n'
    found = read(data, "jsonl")
    assert [1, 3, 4, 5, 6] == [item.place for item in found]
    assert [True, False, False, False, True] == [item.record is not None for item in found]
    assert "not a JSON object" == found[2].reason
    rows = read('id,a\n1,2,3\n2,"x\n', "csv")
    assert ["3 cells, and the first line has 2", "not CSV: unexpected end of data"] == [
        item.reason for item in rows
    ]


def test_a_line_that_is_nested_too_deep_does_not_take_others_along() -> None:
    """Whatever the depth at which a decoder gives up, the line is named and the next is read."""
    deep = b"[" * 100_000
    items = read(b'{"id":"a","x":' + deep + b'\n{"id":"b"}\n', "jsonl")
    assert [None, {"id": "b"}] == [item.record for item in items]
    assert str(items[0].reason).startswith("not JSON: ")


def test_chosen_columns_are_written_in_their_order() -> None:
    """`columns` chooses the fields and their order; what a record lacks is absent."""
    records: list[dict[str, Any]] = [{"id": "a", "x": 1, "y": 2}, {"id": "b"}]
    assert '{"y":2,"id":"a"}\n{"id":"b"}\n' == written(records, "jsonl", ["y", "id"])
    assert [["y", "id"], ["2", "a"], ["", "b"]] == list(
        csv.reader(io.StringIO(written(records, "csv", ["y", "id"])))
    )
    assert "[]\n" == written([], "json")
    assert "" == written([], "csv")


def test_a_format_is_known_by_its_suffix() -> None:
    """The suffix of a name says the format, whatever its case."""
    names = ["a.jsonl", "a.NDJSON", "b.json", "c.csv", "c.txt", "csv", None]
    assert ["jsonl", "jsonl", "json", "csv", None, None, None] == list(map(format_of, names))
