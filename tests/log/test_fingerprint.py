"""Whether a log has changed since it was read."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from taskstore._format.fingerprint import Fingerprint, is_racy
from taskstore._log.commit import LogWriter
from taskstore._log.digest import Digester
from taskstore._log.locks import directory_lock
from taskstore._log.replay import replay

SECOND = 1_000_000_000


def stat_at(path: Any, mtime_ns: Any) -> Any:
    """The stat of a file with its mtime set."""
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path.stat()


@pytest.fixture
def log(tmp_path: Any) -> Any:
    """A log of one line."""
    path = tmp_path / "plans.jsonl"
    path.write_bytes(b'{"id":"a"}\n')
    return path


def read(path: Any, now_ns: Any) -> Any:
    """The fingerprint of a log that is read whole."""
    fd = os.open(path, os.O_RDONLY)
    try:
        digest = Digester(b"k" * 32).begin()
        found = replay(fd, collection="p", path=str(path), digest=digest)
        return Fingerprint.of(os.fstat(fd), found, now_ns)
    finally:
        os.close(fd)


def test_a_file_is_racy_for_a_tick(log: Any) -> None:
    """Just changed: racy; a tenth of a second later it is not."""
    st = log.stat()
    assert is_racy(st, st.st_ctime_ns + 1)
    assert not is_racy(st, st.st_ctime_ns + SECOND // 5)


def test_an_mtime_in_the_future_is_not_racy_for_ever(log: Any) -> None:
    """A time that somebody set says nothing about the last change."""
    st = stat_at(log, (log.stat().st_mtime_ns // SECOND + 3600) * SECOND)
    assert not is_racy(st, st.st_ctime_ns + SECOND)


def test_an_own_append_shows_the_next_foreign_change(layout: Any) -> None:
    """A change of the same size in the same tick of the clock, with the inode kept, is seen."""
    for _ in range(50):
        layout.log_path("plans").unlink(missing_ok=True)
        appended = LogWriter(layout).append({"plans": [b'{"id":"a"}']}, {})
        appended.retire()
        fingerprint = appended.fingerprints["plans"]
        assert fingerprint is not None
        assert not fingerprint.racy
        assert fingerprint.matches(layout.log_path("plans").stat())
        with layout.log_path("plans").open("r+b") as log:
            log.write(b'{"id":"b"}\n')
        assert not fingerprint.matches(layout.log_path("plans").stat())


def test_a_touched_file_is_renewed(log: Any) -> None:
    """Same bytes, new stat: the new fingerprint has the old content."""
    old = read(log, 0)
    st = stat_at(log, 5 * SECOND + 1)
    assert not old.matches(st)
    new = old.renewed(st, st.st_ctime_ns + SECOND)
    assert new.matches(st)
    assert (old.digest, old.lines, False) == (new.digest, new.lines, new.racy)


def test_writers_in_turn_lose_nothing(layout: Any) -> None:
    """Threads that append under the log lock: every line is there once, none is glued."""
    errors = []

    def work(name: Any) -> None:
        lock, writer = directory_lock(layout), LogWriter(layout)
        try:
            for number in range(20):
                with lock.hold(30):
                    batch = [
                        b'{"id":"%d.%d.%d"}' % (name, number, k) for k in range(number % 3 + 1)
                    ]
                    writer.append({"plans": batch}, {}).retire()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == errors
    rows = layout.log_path("plans").read_bytes().splitlines()
    assert 6 * sum(number % 3 + 1 for number in range(20)) == len(rows) == len(set(rows))
