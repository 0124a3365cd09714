"""The commit protocol: whole, durable, taken back; git and a failing disk beside it."""

from __future__ import annotations

import errno
import os
import time
from typing import Any

import pytest

from taskstore._format.fingerprint import Fingerprint
from taskstore._format.lines import decode_envelope
from taskstore._log import files
from taskstore._log.commit import LogWriter
from taskstore._log.journal import is_live
from taskstore._log.recovery import recover
from taskstore._log.replay import replay
from taskstore._log.target import Target
from taskstore.errors import (
    CommitUncertainError,
    InvalidNameError,
    LogWriteError,
    TaskstoreError,
)


def line(id: Any, size: Any = 0) -> Any:
    """A record line."""
    return b'{"id":"%b","x":"%b"}' % (id.encode(), b"x" * size)


def look(layout: Any, collection: Any = "plans") -> Any:
    """Replay a log and return its fingerprint, as a sync would record it."""
    path = layout.log_path(collection)
    fd = os.open(path, os.O_RDONLY)
    try:
        now_ns = time.time_ns()
        digest = layout.digester.begin()
        found = replay(fd, collection=collection, path=str(path), digest=digest)
        return Fingerprint.of(os.fstat(fd), found, now_ns)
    finally:
        os.close(fd)


def facts(fingerprint: Any) -> Any:
    """A fingerprint as a mapping, but for how fresh it is."""
    return fingerprint._asdict() | {"racy": None}


def contents(layout: Any) -> Any:
    """The bytes of every log."""
    return {path.stem: path.read_bytes() for path in layout.directory.glob("*.jsonl")}


@pytest.fixture
def append(layout: Any) -> Any:
    """Commit a transaction and retire its journal."""

    def run(batch: Any, known: Any = None) -> Any:
        appended = LogWriter(layout, lock_timeout=1).append(batch, known or {})
        assert appended.retire()
        return appended

    return run


def test_the_fingerprint_is_that_of_a_replay(layout: Any, append: Any) -> None:
    """After own appends the fingerprint is what a sync would record, and not racy."""
    known: dict[str, Fingerprint | None] = {}
    for number in range(5):
        batch = {"plans": [line(f"{number}.{k}") for k in range(number % 3 + 1)]}
        known.update(append(batch, known).fingerprints)
        assert facts(look(layout)) == facts(known["plans"])
        assert known["plans"] is not None
        assert not known["plans"].racy


def test_a_single_line_reads_and_syncs_next_to_nothing(
    layout: Any, append: Any, tap: Any, monkeypatch: Any
) -> None:
    """With a known fingerprint only the last block is read again, and one fsync does."""
    known = append({"plans": [line("a", 500_000)]}).fingerprints
    names, read = [], []
    tap.before = lambda number, name, arguments: names.append(name)
    real = files.read_at

    def counting(fd: int, size: int, offset: int) -> bytes:
        read.append(size)
        return real(fd, size, offset)

    monkeypatch.setattr(files, "read_at", counting)
    append({"plans": [line("b")]}, known)
    assert 1 == names.count("sync")
    assert "sync_directory" not in names
    assert 1 == names.count("write")
    assert sum(read) < 64 * 1024 + 32


def test_an_unterminated_line_gets_its_newline_and_stays(layout: Any, append: Any) -> None:
    """What stands before is not glued to, and is kept; the line numbers go on."""
    layout.log_path("plans").write_bytes(line("old"))
    known = {"plans": look(layout)}
    after = append({"plans": [line("new")]}, known).fingerprints["plans"]
    assert line("old") + b"\n" + line("new") + b"\n" == layout.log_path("plans").read_bytes()
    assert facts(look(layout)) == facts(after)


@pytest.mark.parametrize("known", [True, False])
def test_what_git_did_before_is_kept_and_will_be_replayed(
    layout: Any, append: Any, known: Any
) -> None:
    """A file that differs from the fingerprint is appended to, and has no new fingerprint."""
    recorded = append({"plans": [line("a")]}).fingerprints if known else {}
    layout.log_path("plans").write_bytes(line("theirs") + b"\n")
    appended = append({"plans": [line("b")], "tasks": [line("t")]}, recorded)
    assert {"plans": None} == {k: v for k, v in appended.fingerprints.items() if v is None}
    assert line("theirs") + b"\n" + line("b") + b"\n" == contents(layout)["plans"]


def test_a_racy_fingerprint_is_not_trusted(layout: Any, append: Any) -> None:
    """Same stat, other bytes: the digest tells, and the fingerprint is left."""
    append({"plans": [line("a")]})
    fingerprint = look(layout)
    st = layout.log_path("plans").stat()
    forged = fingerprint.renewed(st, time.time_ns())
    assert forged.racy
    changed = Fingerprint(**{**facts(forged), "digest": "00" * 64, "racy": True})
    assert append({"plans": [line("b")]}, {"plans": forged}).fingerprints["plans"] is not None
    changed = changed.renewed(layout.log_path("plans").stat(), time.time_ns())
    assert append({"plans": [line("c")]}, {"plans": changed}).fingerprints["plans"] is None


def test_a_fingerprint_is_as_old_as_the_last_look(layout: Any, monkeypatch: Any) -> None:
    """If a writer is stopped after it, others may change the log without changing its stat."""
    late = [0]
    placed = Target.is_placed

    def stopped(target: Target) -> bool:
        is_placed = placed(target)
        late[0] = 1_000_000_000
        return is_placed

    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "the log is another user's")

    monkeypatch.setattr(Target, "is_placed", stopped)
    monkeypatch.setattr(files, "set_mtime", refuse)
    writer = LogWriter(layout, now_ns=lambda: time.time_ns() + late[0])
    appended = writer.append({"plans": [line("a")]}, {})
    assert appended.retire()
    fingerprint = appended.fingerprints["plans"]
    assert fingerprint is not None
    assert fingerprint.racy


def test_another_last_block_is_noticed_under_the_same_stat(layout: Any, append: Any) -> None:
    """Bytes that were changed without a trace in the stat are not taken into a new fingerprint."""
    append({"plans": [line("a")]})
    known = look(layout).renewed(layout.log_path("plans").stat(), 1 << 62)
    layout.log_path("plans").write_bytes(line("b") + b"\n")
    forged = known.renewed(layout.log_path("plans").stat(), 1 << 62)
    assert not forged.racy
    # As in another process: this one knows what it has written.
    layout.digester._latest.clear()
    assert append({"plans": [line("c")]}, {"plans": forged}).fingerprints["plans"] is None


def test_take_back_restores_every_byte(layout: Any, append: Any) -> None:
    """After a failed COMMIT the logs are what they were; files that we made are gone."""
    layout.log_path("plans").write_bytes(line("old"))
    before = contents(layout)
    appended = LogWriter(layout).append({"plans": [line("a")], "tasks": [line("t")] * 2}, {})
    assert appended.fingerprints["tasks"] is not None
    assert before != contents(layout)
    appended.take_back("disk I/O error")
    assert before == contents(layout)
    assert not is_live(layout.journal_path)


def test_take_back_never_cuts_the_lines_of_others(layout: Any) -> None:
    """What another program appended after ours stays, and ours with it: uncertain."""
    appended = LogWriter(layout).append({"plans": [line("a")], "tasks": [line("t")]}, {})
    with layout.log_path("plans").open("ab") as log:
        log.write(line("theirs") + b"\n")
    before = contents(layout)
    with pytest.raises(CommitUncertainError):
        appended.take_back("full")
    assert before == contents(layout)
    assert [] == recover(layout)
    assert before == contents(layout)


def test_take_back_leaves_a_file_that_git_put_there(layout: Any) -> None:
    """A file that replaced ours and has nothing of ours is not touched; the others are cut."""
    appended = LogWriter(layout).append({"plans": [line("a")], "tasks": [line("t")]}, {})
    other = layout.directory / "new"
    other.write_bytes(line("git") + b"\n")
    other.replace(layout.log_path("plans"))
    appended.take_back("full")
    assert {"plans": line("git") + b"\n"} == contents(layout)


def test_bad_batches_are_refused_before_anything_happens(layout: Any) -> None:
    """A newline in a line, an empty line, a bad name: nothing is written."""
    writer = LogWriter(layout)
    for bad in (b"a\nb", b"", b"\0"):
        with pytest.raises(ValueError, match="line"):
            writer.append({"plans": [line("a"), bad]}, {})
    with pytest.raises(InvalidNameError):
        writer.append({"../plans": [line("a")]}, {})
    layout.log_path("link").symlink_to(layout.version_path)
    with pytest.raises(LogWriteError):
        writer.append({"link": [line("a")]}, {})
    assert "1" == layout.version_path.read_text()
    assert {} == {name: data for name, data in contents(layout).items() if name != "link"}


BATCHES = {
    "one line": {"plans": [line("a")]},
    "a new file": {"tasks": [line("t")]},
    "several": {"plans": [line("a"), line("b")], "tasks": [line("t")]},
}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_any_failing_operation_leaves_nothing(
    layout: Any, append: Any, tap: Any, batch: Any, code: Any
) -> None:
    """Every file operation fails once: a typed error, the old bytes, and the next append works."""
    layout.log_path("plans").write_bytes(line("old"))
    before = contents(layout)
    number = failures = 0
    while True:
        number += 1
        tap.fail(number, code=code)
        try:
            appended = LogWriter(layout).append(batch, {})
        except TaskstoreError as error:
            failures += 1
            told = (isinstance(error, OSError) or "recover" in str(error), "injected" in str(error))
            tap.before = lambda *_: None
            recover(layout)
            assert before == contents(layout)
            appended = LogWriter(layout).append(batch, {})
            assert (True, True) == told
        reached = tap.count >= number
        tap.before = lambda *_: None
        assert [id.decode() for lines in batch.values() for id in lines] == [
            text
            for name in batch
            for text in contents(layout)[name].decode().splitlines()
            if "old" not in text
        ]
        appended.take_back("test")
        assert before == contents(layout)
        if not reached:
            break
    assert failures >= 4


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_a_disk_that_stays_broken_is_never_called_clean(layout: Any, tap: Any, batch: Any) -> None:
    """All operations fail from some point on: what is raised is true once the disk is back."""
    layout.log_path("plans").write_bytes(line("old") + b"\n")
    before = contents(layout)
    for number in range(1, 60):
        tap.fail(*range(number, 1000))
        try:
            LogWriter(layout).append(batch, {}).retire()
            outcomes = {"kept"}
        except CommitUncertainError:
            outcomes = {"kept", "none"}
        except TaskstoreError:
            outcomes = {"none"}
        reached = tap.count >= number
        tap.before = lambda *_: None
        assert [] == recover(layout)
        after = contents(layout)
        kept = all(data in after.get(name, b"") for name, rows in batch.items() for data in rows)
        clean = before == {name: data for name, data in after.items() if data}
        assert (kept and "kept" in outcomes) or (clean and "none" in outcomes)
        for path in layout.directory.glob("*.jsonl"):
            path.unlink()
        layout.log_path("plans").write_bytes(before["plans"])
        if not reached:
            break
    else:
        pytest.fail("an append takes less than 60 operations")


def test_a_short_write_is_taken_back(layout: Any, tap: Any, monkeypatch: Any) -> None:
    """A disk that fills up in the middle of a line leaves no half of it."""
    layout.log_path("plans").write_bytes(line("old") + b"\n")
    before = contents(layout)
    real, calls = files.write, []

    def short(fd: Any, data: Any) -> Any:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, bytes(data)[:7])

    monkeypatch.setattr(files, "write", short)
    with pytest.raises(LogWriteError) as caught:
        LogWriter(layout).append({"plans": [line("a")]}, {})
    assert ("append", errno.ENOSPC) == (caught.value.step, caught.value.errno)
    assert before == contents(layout)


def act_replace(path: Any) -> None:
    """Put another file in its place, as git does."""
    new = path.with_name("new")
    new.write_bytes(line("git") + b"\n")
    new.replace(path)


def act_remove(path: Any) -> None:
    """Remove it."""
    path.unlink(missing_ok=True)


def act_truncate(path: Any) -> None:
    """Empty it in place."""
    if path.exists():
        os.truncate(path, 0)


def act_append(path: Any) -> None:
    """Append a line without a lock."""
    with path.open("ab") as log:
        log.write(line("theirs") + b"\n")


def act_append_half(path: Any) -> None:
    """Append half a line without a lock."""
    with path.open("ab") as log:
        log.write(b'{"id":"half')


ACTS = [act_replace, act_remove, act_truncate, act_append, act_append_half]


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("act", ACTS)
def test_git_at_every_step(layout: Any, tap: Any, batch: Any, act: Any) -> None:
    """Another program acts before each operation: what is acknowledged is in the named file."""
    name = next(iter(batch))
    path = layout.log_path(name)
    for number in range(1, 60):
        for old in layout.directory.glob("*.jsonl"):
            old.unlink()
        layout.log_path("plans").write_bytes(line("old") + b"\n")
        known = {"plans": look(layout)}
        done: list[str] = []

        def before(
            count: Any, operation: Any, arguments: Any, number: Any = number, done: Any = done
        ) -> None:
            if count == number and not done:
                done.append(operation)
                act(path)

        tap.count, tap.before = 0, before
        appended = LogWriter(layout).append(batch, known)
        tap.before = lambda *_: None
        served = {decode_id(raw) for data in contents(layout).values() for raw in data.split(b"\n")}
        assert {decode_id(raw) for rows in batch.values() for raw in rows} <= served
        for collection, fingerprint in appended.fingerprints.items():
            if fingerprint is not None:
                assert facts(look(layout, collection)) == facts(fingerprint)
        appended.retire()
        if not done:
            break
        if act in (act_append, act_replace) and operation_kept(done[0]):
            assert path.read_bytes().count(b"\n") >= 2
    else:
        pytest.fail("an append takes less than 60 operations")


def operation_kept(operation: Any) -> Any:
    """Whether the lines were there when git acted."""
    return operation in ("sync", "sync_directory")


def decode_id(raw: Any) -> Any:
    """The id of a line, None if it is not a record."""
    try:
        return decode_envelope(raw).id
    except ValueError:
        return None


def test_an_interrupted_append_leaves_nothing(layout: Any, tap: Any) -> None:
    """Ctrl-C at any operation: nothing of the transaction stays."""
    layout.log_path("plans").write_bytes(line("old"))
    before = contents(layout)
    for number in range(1, 60):
        tap.count = 0

        def interrupt(count: Any, name: Any, arguments: Any, number: Any = number) -> None:
            if count == number:
                raise KeyboardInterrupt

        tap.before = interrupt
        try:
            appended = LogWriter(layout).append(BATCHES["several"], {})
            tap.before = lambda *_: None
            appended.take_back("done")
        except KeyboardInterrupt:
            pass
        reached = tap.count >= number
        tap.before = lambda *_: None
        recover(layout)
        assert before == {name: data for name, data in contents(layout).items() if data}
        if not reached:
            break
