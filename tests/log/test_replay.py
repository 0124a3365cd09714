"""Reading a log."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore._format.lines import MAX_LINE_BYTES, LineError, decode_envelope
from taskstore._log import replay as replay_module
from taskstore._log.digest import Digester, LogDigest
from taskstore._log.replay import LogChangedError, replay

DIGESTER = Digester(b"k" * 32)


def digest_of(data: bytes) -> LogDigest:
    """The digest of some bytes."""
    digest = DIGESTER.begin()
    digest.update(data)
    return digest


@pytest.fixture
def read(tmp_path: Any) -> Any:
    """Write bytes to a log and read it."""

    def run(data: Any, **options: Any) -> Any:
        path = tmp_path / "plans.jsonl"
        path.write_bytes(data)
        fd = os.open(path, os.O_RDONLY)
        try:
            found = replay(fd, collection="plans", path=str(path), **options)
            return found, list(found.winners(fd))
        finally:
            os.close(fd)

    return run


def reduce(data: Any) -> Any:
    """Read a log in ten lines, as the format describes it."""
    winners: dict[str, Any] = {}
    problems = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if raw.strip():
            try:
                line = decode_envelope(raw)
            except LineError as error:
                problems.append((number, error.reason))
            else:
                if line.order_us >= winners.get(line.id, (line.order_us,))[0]:
                    winners[line.id] = (line.order_us, line.deleted, raw.decode().strip())
    return {id: winners[id] for id in sorted(winners, key=str.encode)}, problems


LINES = st.one_of(
    st.builds(
        lambda id, ms, dead, text: json.dumps(
            {"id": id, "updated_at": ms, "deleted": dead, "x": text}, ensure_ascii=False
        ).encode(),
        st.sampled_from(["a", "b", "é", "𝄞", "\ufffd", "c\n"]),
        st.integers(0, 3) | st.sampled_from(["1970-01-01T00:00:00.002Z"]),
        st.booleans(),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    ),
    st.sampled_from([b"", b" ", b"\t", b"<<<<<<< a", b"{", b"\xff", b'{"id":""}', b"[]", b"\0"]),
)
LOGS = st.builds(
    lambda bom, lines, end: bom + b"".join(line + eol for line, eol in lines) + end,
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n"])), max_size=12),
    st.one_of(st.just(b""), LINES),
)


@given(LOGS, st.integers(1, 40))
def test_it_is_what_the_rules_say(tmp_path_factory: Any, data: Any, chunk: Any) -> None:
    """Winners, problems and counts are those of a plain reader, wherever a chunk ends."""
    path = tmp_path_factory.mktemp("log") / "plans.jsonl"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_module, "_CHUNK", chunk)
        fd = os.open(path, os.O_RDONLY)
        try:
            found = replay(fd, collection="plans", path=str(path), digest=DIGESTER.begin())
            winners = [tuple(winner) for winner in found.winners(fd)]
        finally:
            os.close(fd)
    expected, problems = reduce(data)
    assert [(id, *facts) for id, facts in expected.items()] == winners
    assert problems == [(problem.line, problem.reason) for problem in found.problems]
    assert (len(data), digest_of(data).text()) == (found.size, found.digest)
    assert (not data or data.endswith(b"\n")) == found.ended
    assert data.count(b"\n") + (not found.ended) == found.lines
    assert len(expected) == len(found)


@given(LOGS, st.integers(0, 12))
def test_a_tail_carries_on(tmp_path_factory: Any, data: Any, at: Any) -> None:
    """Reading in two parts gives the same counts, digest and problems as reading once."""
    ends = [0, *(index + 1 for index, byte in enumerate(data) if byte == 10)]
    cut = ends[min(at, len(ends) - 1)]
    path = tmp_path_factory.mktemp("log") / "plans.jsonl"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        whole = replay(fd, collection="plans", path=str(path), digest=DIGESTER.begin())
        head = replay(fd, collection="plans", path=str(path), limit=cut)
        tail = replay(
            fd,
            collection="plans",
            path=str(path),
            start=head.size,
            digest=digest_of(data[:cut]),
            first_line=head.lines,
            problems_before=head.problem_count,
        )
    finally:
        os.close(fd)
    assert cut == head.size
    assert whole.problems == head.problems + tail.problems
    for name in ("size", "digest", "lines", "ended", "problem_count"):
        assert getattr(whole, name) == getattr(tail, name)
    assert whole.records == head.records + tail.records


def test_a_torn_tail_costs_its_record_alone(read: Any) -> None:
    """At every byte offset of a log, what is whole before it is served."""
    lines = [b'{"id":"%d","x":"\xc3\xa9"}\n' % number for number in range(3)]
    data = b"".join(lines)
    for size in range(len(data) + 1):
        found, winners = read(data[:size])
        whole = data[: size + 1].count(b"\n") if size < len(data) else 3
        assert whole == len(winners)
        assert len(found.problems) <= 1


def test_a_line_may_be_as_long_as_the_limit(read: Any) -> None:
    """16 MiB are read; one byte more is a problem, and the lines around it are served."""

    def padded(size: Any) -> Any:
        return b'{"id":"big","x":"%b"}' % (b"x" * (size - 19))

    assert MAX_LINE_BYTES == len(padded(MAX_LINE_BYTES))
    _, winners = read(b"\xef\xbb\xbf" + padded(MAX_LINE_BYTES) + b"\r\n")
    assert ["big"] == [winner.id for winner in winners]
    data = b'{"id":"a"}\n' + padded(MAX_LINE_BYTES + 1) + b'\n{"id":"z"}\n'
    found, winners = read(data + padded(MAX_LINE_BYTES * 2))
    assert ["a", "z"] == [winner.id for winner in winners]
    assert [2, 4] == [problem.line for problem in found.problems]
    assert not found.ended


def test_progress_is_reported_in_bytes(read: Any) -> None:
    """The callback sees the offset grow to the file's size."""
    seen: list[int] = []
    data = b'{"id":"a","x":"%b"}\n' % (b"x" * 1000) * 3000
    read(data, on_progress=seen.append)
    assert sorted(set(seen)) == seen
    assert len(data) == seen[-1]


def test_a_file_that_shrinks_is_noticed(tmp_path: Any) -> None:
    """Winners that are gone raise; nothing else is served in their place."""
    path = tmp_path / "plans.jsonl"
    path.write_bytes(b'{"id":"a"}\n{"id":"b"}\n')
    fd = os.open(path, os.O_RDWR)
    try:
        found = replay(fd, collection="plans", path=str(path))
        os.ftruncate(fd, 11)
        with pytest.raises(LogChangedError):
            list(found.winners(fd))
        with pytest.raises(EOFError):
            DIGESTER.read(fd, 22)
    finally:
        os.close(fd)
