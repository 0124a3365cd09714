"""What a crash leaves, and what recovery makes of it."""

from __future__ import annotations

import hmac
import json
import os
import zlib
from typing import Any

import pytest

from taskstore._log.commit import LogWriter
from taskstore._log.journal import JournalEntry, is_live, read_journal, write_journal
from taskstore._log.recovery import recover, virtual_limits
from taskstore._log.trust import Mark
from taskstore.errors import RecoveryError

OLD = b'{"id":"old"}\n'
FORGED_OLD = b'{"id":"no\x9fBo\x8a'
A = b'{"id":"a1"}\n{"id":"a2"}\n'
B = b'{"id":"b"}\n'
THEIRS = b'{"id":"theirs"}\n'


def contents(layout: Any) -> Any:
    """The bytes of every log."""
    return {path.stem: path.read_bytes() for path in layout.directory.glob("*.jsonl")}


def digest_of(layout: Any, data: bytes) -> str:
    """The digest of some bytes, as the journal has it."""
    digest = layout.digester.begin()
    digest.update(data)
    return str(digest.text())


@pytest.fixture
def crashed(layout: Any) -> Any:
    """Lay out a crash: a journal for "a" (after OLD) and "b" (new), and the two files."""

    def lay(a: Any, b: Any) -> Any:
        entries = (
            JournalEntry("a", len(OLD), digest_of(layout, OLD), False, A),
            JournalEntry("b", 0, digest_of(layout, b""), True, B),
        )
        write_journal(layout.journal_path, entries, layout.mark)
        assert entries == read_journal(layout.journal_path, layout.mark)
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
    """A file put together again with all our lines in it counts as complete."""
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


def test_a_file_with_the_same_checksum_is_not_cut(crashed: Any) -> None:
    """Bytes that only a CRC-32 takes for the old ones are of others, and nothing is cut there."""
    assert (len(OLD), zlib.crc32(OLD)) == (len(FORGED_OLD), zlib.crc32(FORGED_OLD))
    layout = crashed(FORGED_OLD + A[:5], B)
    assert [str(layout.log_path("a"))] == [problem.path for problem in recover(layout)]
    assert {"a": FORGED_OLD + A[:5]} == contents(layout)


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


def rewritten(layout: Any, change: Any) -> bytes:
    """The journal with another header that this clone might have written."""
    header, _, payload = layout.journal_path.read_bytes().partition(b"\n")
    *_, text = header.split(b" ", 4)
    changed = json.dumps(change(json.loads(text))).encode() + b"\n"
    prefix = b"taskstore-journal 2 %b " % layout.mark.id.encode()
    mac = hmac.new(layout.mark.key("journal"), changed, "sha256").hexdigest().encode()
    return b"%b%b %b%b" % (prefix, mac, changed, payload)


def in_file(**facts: Any) -> Any:
    """A change of what the header says of the first log."""

    def change(header: Any) -> Any:
        header["files"][0].update(facts)
        return header

    return change


@pytest.mark.parametrize(
    "change",
    [
        in_file(collection="../outside"),
        in_file(collection="/outside"),
        in_file(collection=7),
        in_file(base=-1),
        in_file(base=True),
        in_file(base="x"),
        in_file(length=-1),
        in_file(length=1.5),
        in_file(created=1),
        in_file(checksum=None),
        lambda header: [],
        lambda header: {},
        lambda header: {**header, "files": 1},
        lambda header: {**header, "files": [1]},
        lambda header: {"files": []},
    ],
    ids=range(15),
)
def test_a_journal_that_makes_no_sense_is_set_aside(crashed: Any, change: Any) -> None:
    """Every value of a header is checked, also where its MAC is right."""
    layout = crashed(OLD + A, None)
    layout.journal_path.write_bytes(rewritten(layout, change))
    [problem] = recover(layout)
    assert "is not valid" in problem.reason
    assert {"a": OLD + A} == contents(layout)
    assert not is_live(layout.journal_path)


def test_a_length_beyond_the_file_is_torn(crashed: Any) -> None:
    """Planned bytes that are not there are not waited for in memory."""
    layout = crashed(OLD + A, None)
    layout.journal_path.write_bytes(rewritten(layout, in_file(length=1 << 60)))
    assert [] == recover(layout)
    assert {"a": OLD + A} == contents(layout)


def test_a_journal_of_another_clone_is_set_aside(crashed: Any) -> None:
    """A journal with another clone's mark is reported and kept, and nothing of it applied."""
    layout = crashed(OLD + A, B)
    entries = read_journal(layout.journal_path, layout.mark)
    assert entries is not None
    write_journal(layout.journal_path, entries, Mark.transient())
    theirs = layout.journal_path.read_bytes()
    assert {} == virtual_limits(layout)
    [problem] = recover(layout)
    [aside] = layout.directory.glob("taskstore.journal-*")
    assert aside.name in problem.reason
    assert theirs == aside.read_bytes()
    assert {"a": OLD + A, "b": B} == contents(layout)
    assert not layout.journal_path.exists()


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_no_file_is_no_journal(layout: Any, tmp_path: Any, kind: str) -> None:
    """Something else under the journal's name is set aside; where a link leads, nothing changes."""
    target = tmp_path / "target"
    target.write_bytes(b"precious and more")
    if kind == "link":
        layout.journal_path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(layout.journal_path)
    else:
        layout.journal_path.mkdir()
    assert {} == virtual_limits(layout)
    [problem] = recover(layout)
    assert "not a regular file" in problem.reason
    assert b"precious and more" == target.read_bytes()
    assert not os.path.lexists(layout.journal_path)


def test_a_retired_journal_keeps_no_text(crashed: Any) -> None:
    """What a transaction wrote is not left in the journal when it is done."""
    layout = crashed(OLD + A, B)
    assert [] == recover(layout)
    assert b"" == layout.journal_path.read_bytes().strip(b"\0")


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
