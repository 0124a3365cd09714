"""Cutting bytes into lines in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore._format.lines import LineError
from taskstore._log import files, lines
from taskstore._log.lines import Line, read_lines, split_lines, whole_lines

LIMIT = 5
TEXT = st.lists(st.sampled_from([b"a", b"bb", b"\n", b"\r\n", b"cccccc", b""])).map(b"".join)


@pytest.fixture(autouse=True)
def _short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_LIMIT", LIMIT)


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The bytes in chunks of these sizes, and the rest in chunks of one."""
    for size in [*sizes, *[1] * len(data)]:
        if data[:size]:
            yield data[:size]
        data = data[size:]


def expected(data: bytes, start: int) -> list[Line]:
    """The lines by Python's own splitting."""
    found = []
    for number, raw in enumerate(data.splitlines(keepends=True) if data else [], 1):
        bare = raw.removesuffix(b"\n")
        kept = bare if len(bare) <= LIMIT else None
        found.append(Line(number, start, start + len(raw), kept, raw != bare))
        start += len(raw)
    return found


@given(TEXT.map(lambda data: data.replace(b"\r", b"r")), st.lists(st.integers(1, 9)))
def test_lines_do_not_depend_on_the_chunks(data: bytes, sizes: list[int]) -> None:
    """However bytes are cut into chunks, the lines and their places are the same."""
    assert expected(data, 7) == list(split_lines(cut(data, sizes), 7))


@given(TEXT, st.lists(st.integers(1, LIMIT)))
def test_bytes_come_whole_or_not_at_all(data: bytes, sizes: list[int]) -> None:
    """Bytes without an overlong line are returned as they are; else the first one is named."""
    overlong = [n for n, raw in enumerate(data.split(b"\n"), 1) if len(raw) > LIMIT]
    if overlong:
        with pytest.raises(LineError, match=f"^line {overlong[0]} is longer than 16 MiB$"):
            whole_lines(cut(data, sizes))
    else:
        assert data == whole_lines(cut(data, sizes))


@pytest.mark.parametrize(
    ("data", "start", "limit", "found"),
    [
        (b"", 0, None, []),
        (b"\xef\xbb\xbfa\nb", 0, None, [(1, 3, 5, b"a", True), (2, 5, 6, b"b", False)]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", 5, None, [(1, 5, 9, b"\xef\xbb\xbfb", False)]),
        (b"abc\ndef\n", 0, 6, [(1, 0, 4, b"abc", True), (2, 4, 6, b"de", False)]),
        (b"abcdef\ng\n", 0, None, [(1, 0, 7, None, True), (2, 7, 9, b"g", True)]),
        (b"a\nbcdefg", 0, None, [(1, 0, 2, b"a", True), (2, 2, 8, None, False)]),
    ],
)
def test_the_lines_of_a_file(
    tmp_path: Path, data: bytes, start: int, limit: int | None, found: list[Line]
) -> None:
    """A file is read from a place to a place, and a byte-order mark belongs to no line."""
    path = tmp_path / "log"
    path.write_bytes(data)
    fd = files.open_log(path)
    try:
        assert found == list(read_lines(fd, start=start, limit=limit))
    finally:
        os.close(fd)
