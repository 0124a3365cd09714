"""What a crash leaves, and what recovery makes of it."""

from __future__ import annotations

import os
import zlib
from typing import Any

import pytest

from taskstore._log.commit import LogWriter
from taskstore._log.journal import JournalEntry, is_live, read_journal, write_journal
from taskstore._log.recovery import recover, virtual_limits
from taskstore.errors import RecoveryError

OLD = b'{"id":"old"}\n'
A = b'{"id":"a1"}\n{"id":"a2"}\n'
B = b'{"id":"b"}\n'
THEIRS = b'{"id":"theirs"}\n'


def contents(layout: Any) -> Any:
    """The bytes of every log."""
    return {path.stem: path.read_bytes() for path in layout.directory.glob("*.jsonl")}


@pytest.fixture
def crashed(layout: Any) -> Any:
    """Lay out a crash: a journal for "a" (after OLD) and "b" (new), and the two files."""

    def lay(a: Any, b: Any) -> Any:
        entries = (
            JournalEntry("a", len(OLD), zlib.crc32(OLD), False, A),
            JournalEntry("b", 0, 0, True, B),
        )
        write_journal(layout.journal_path, entries)
        assert entries == read_journal(layout.journal_path)
        for name, data in (("a", a), ("b", b)):
            layout.log_path(name).unlink(missing_ok=True)
            if data is not None:
                layout.log_path(name).write_bytes(data)
        return layout

    return lay


def test_nothing_to_recover(layout: Any) -> None:
    """Without a journal nothing is done."""
    assert [] == recover(layout)
    assert {} == virtual_limits(layout)
    assert not layout.journal_path.exists()


def test_a_complete_transaction_stays(crashed: Any) -> None:
    """All files complete: kept, also where others have written after it."""
    for tail in (b"", THEIRS):
        layout = crashed(OLD + A + tail, B)
        assert {} == virtual_limits(layout)
        assert [] == recover(layout)
        assert {"a": OLD + A + tail, "b": B} == contents(layout)
        assert not is_live(layout.journal_path)


def test_a_torn_transaction_is_cut_at_every_offset(crashed: Any) -> None:
    """However much of it is there, bytes or unwritten holes: nothing stays."""
    for size in range(len(A) + 1):
        hole = A[: size // 2] + b"\0" * (size - size // 2)
        for a in (A[:size], hole):
            for b in (None, b"", B[:-1], b"\0" * len(B), *([B] if a != A else [])):
                layout = crashed(OLD + a, b)
                limits = virtual_limits(layout)
                assert {"a": len(OLD), "b": 0} == limits
                assert [] == recover(layout)
                assert {"a": OLD} == {k: v for k, v in contents(layout).items() if v}
                assert [] == recover(layout)


def test_a_part_that_cannot_be_taken_out_is_completed(crashed: Any) -> None:
    """Where others wrote after a complete part, the transaction becomes whole."""
    for b in (None, b"", B[:3]):
        layout = crashed(OLD + A + THEIRS, b)
        assert [] == recover(layout)
        assert {"a": OLD + A + THEIRS, "b": B} == contents(layout)


def test_a_file_merged_by_git_has_the_transaction(crashed: Any) -> None:
    """A file put together anew with all our lines in it counts as complete."""
    layout = crashed(THEIRS + A + OLD, B)
    assert [] == recover(layout)
    assert {"a": THEIRS + A + OLD, "b": B} == contents(layout)


@pytest.mark.parametrize("foreign", [None, b"", THEIRS, OLD[:5], OLD + THEIRS])
def test_a_file_of_others_is_left_and_reported(crashed: Any, foreign: Any) -> None:
    """Nothing is applied to it; the rest is rolled back, and the planned lines are kept."""
    layout = crashed(foreign, B)
    problems = recover(layout)
    assert [str(layout.log_path("a"))] == [problem.path for problem in problems]
    expected = {} if foreign is None else {"a": foreign}
    assert expected == contents(layout)
    assert not is_live(layout.journal_path)
    (aside,) = layout.directory.glob("taskstore.journal-*")
    assert A in aside.read_bytes()
    assert [] == recover(layout)


def test_whole_lines_stay_beside_lines_that_must_stay(crashed: Any) -> None:
    """Where others have some of our lines mixed in, nothing whole is cut."""
    layout = crashed(THEIRS + b'{"id":"a2"}\n', B)
    assert 1 == len(recover(layout))
    assert {"a": THEIRS + b'{"id":"a2"}\n', "b": B} == contents(layout)


def test_a_torn_journal_is_none(crashed: Any) -> None:
    """A journal damaged anywhere, or cut anywhere, is not applied: no log was touched yet."""
    layout = crashed(OLD + A, None)
    data = layout.journal_path.read_bytes()
    variants = [data[:size] for size in range(len(data))]
    variants += [data[:at] + b"\0" + data[at + 1 :] for at in range(len(data))]
    for variant in variants:
        layout.journal_path.write_bytes(variant)
        assert {} == virtual_limits(layout)
        assert [] == recover(layout)
        assert {"a": OLD + A} == contents(layout)
        assert not is_live(layout.journal_path)


def test_a_journal_that_cannot_be_applied_stays(crashed: Any, tap: Any) -> None:
    """A failing disk raises, and the next try settles it."""
    for number in range(1, 30):
        layout = crashed(OLD + A[:5], B)
        tap.fail(number)
        try:
            recover(layout)
        except RecoveryError:
            assert is_live(layout.journal_path)
            tap.before = lambda *_: None
            assert [] == recover(layout)
        reached = tap.count >= number
        tap.before = lambda *_: None
        assert {"a": OLD} == contents(layout)
        if not reached:
            break


def test_killed_between_any_two_operations(layout: Any, tap: Any) -> None:
    """A process that ends at any operation leaves the transaction whole or not at all."""
    batch = {"a": A.split(b"\n")[:2], "b": B.split(b"\n")[:1]}
    outcomes = set()
    for number in range(1, 60):
        for name in ("a", "b"):
            layout.log_path(name).unlink(missing_ok=True)
        layout.log_path("a").write_bytes(OLD)
        layout.journal_path.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            tap.before = lambda count, name, arguments, last=number: (
                os._exit(1) if count == last else None
            )
            tap.count = 0
            LogWriter(layout).append(batch, {}).retire()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert [] == recover(layout)
        found = {name: data for name, data in contents(layout).items() if data}
        assert found in ({"a": OLD}, {"a": OLD + A, "b": B})
        outcomes.add(len(found))
        if os.waitstatus_to_exitcode(status) == 0:
            break
    assert {1, 2} == outcomes
    assert {"a": OLD + A, "b": B} == found
