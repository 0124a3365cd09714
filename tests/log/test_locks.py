"""Locks between threads, stores, processes and forks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from taskstore._log.gate import Gate
from taskstore._log.layout import Layout
from taskstore._log.locks import directory_lock, file_lock, telling_of_waits
from taskstore.errors import LockTimeoutError, StoreAccessError, StoreNotFoundError

HOLDER = """
import sys
from taskstore._log.layout import Layout
from taskstore._log.gate import Gate
from taskstore._log.locks import directory_lock
lock = (directory_lock if sys.argv[2] == "log" else Gate)(Layout(sys.argv[1]))
lock.acquire(5)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=[directory_lock, Gate])
def make(request: Any, layout: Any) -> Any:
    """A maker of locks, of either kind."""
    return lambda: request.param(layout)


def test_it_excludes_other_stores_and_is_given_back(make: Any) -> None:
    """Two locks on one directory exclude each other, as two stores in one process would."""
    one, two = make(), make()
    with one.hold(1):
        assert one.held
        assert not two.held
        assert not two.try_acquire()
        with pytest.raises(LockTimeoutError):
            two.acquire(0.01)
    assert two.try_acquire()
    two.release()
    two.release()
    assert one.try_acquire()
    one.release()


def test_it_is_not_reentrant(make: Any) -> None:
    """A thread that would wait for itself is told so."""
    lock = make()
    with lock.hold(1), pytest.raises(RuntimeError):
        lock.acquire(1)


@pytest.mark.parametrize("shared", [True, False])
def test_it_excludes_threads(make: Any, layout: Any, shared: Any) -> None:
    """Eight threads, with one lock or one each: nobody is in while another is."""
    common = make()
    counter = layout.directory / "counter"
    counter.write_text("0")
    errors = []

    def work() -> None:
        lock = common if shared else make()
        try:
            for _ in range(25):
                with lock.hold(20):
                    counter.write_text(str(int(counter.read_text()) + 1))
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == errors
    assert "200" == counter.read_text()


@pytest.mark.parametrize(("kind", "open_lock"), [("log", directory_lock), ("gate", Gate)])
def test_it_ends_with_its_process(layout: Any, kind: Any, open_lock: Any) -> None:
    """Another process holds it, and SIGKILL frees it."""
    lock = open_lock(layout)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(layout.directory), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert b"held\n" == holder.stdout.readline()
        assert not lock.try_acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with lock.hold(5):
            pass
    finally:
        holder.kill()
        holder.communicate()


def test_who_waits_can_hear_of_it(make: Any) -> None:
    """A listener is called between two tries, with how long it has been; not where none waits."""
    one, two = make(), make()
    heard: list[float] = []

    def listen(fd: int, waited: float) -> None:
        heard.append(waited)
        os.fstat(fd)
        if len(heard) == 3:
            one.release()

    with telling_of_waits(listen):
        one.acquire(1)
        assert not two.try_acquire()
        assert [] == heard
        two.acquire(5)
    assert (3, sorted(heard)) == (len(heard), heard)
    two.release()
    with one.hold(1):
        assert not two.try_acquire()
        with pytest.raises(LockTimeoutError):
            two.acquire(0.01)
    assert 3 == len(heard)


def test_a_removed_lock_file_is_remade(layout: Any) -> None:
    """After `git clean` all contenders agree on the new file."""
    one, two = Gate(layout), Gate(layout)
    with one.hold(1):
        pass
    layout.gate_path.unlink()
    layout.turn_path.unlink()
    with two.hold(1):
        assert not one.try_acquire()
    assert one.try_acquire()
    one.release()


def test_a_replaced_directory_is_locked_anew(layout: Any) -> None:
    """A directory that was removed and made again is what is locked then."""
    one, two = directory_lock(layout), directory_lock(layout)
    with one.hold(1):
        pass
    shutil.rmtree(layout.directory)
    with pytest.raises(StoreNotFoundError):
        one.acquire(1)
    layout.create()
    with two.hold(1):
        assert not one.try_acquire()
    assert one.try_acquire()
    one.release()


def test_one_who_waited_for_a_replaced_directory_locks_the_new_one(layout: Any) -> None:
    """A lock that comes free on a directory that is gone counts for nothing."""
    one, two, three = (directory_lock(layout) for _ in range(3))
    one.acquire(1)
    waiting = threading.Thread(target=two.acquire, args=(10,))
    waiting.start()
    while two._fd is None:
        pass
    layout.directory.rename(layout.directory.with_name("old"))
    layout.create()
    three.acquire(1)
    one.release()
    waiting.join(0.1)
    assert waiting.is_alive()
    three.release()
    waiting.join(10)
    assert not three.try_acquire()
    two.release()


def test_a_symbolic_link_to_the_directory_is_not_followed(layout: Any) -> None:
    """A link in the directory's place, which a clone may bring, is refused."""
    link = layout.directory.with_name("link")
    link.symlink_to(layout.directory)
    with pytest.raises(StoreAccessError, match="link"):
        directory_lock(Layout(link)).acquire(1)


def test_a_forked_child_has_a_lock_of_its_own(layout: Any) -> None:
    """A child does not hold what its parent holds, and keeps nothing locked when it is left."""
    lock = directory_lock(layout)
    lock.acquire(1)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            free = lock.held or lock.try_acquire()
            os.write(write, b"free" if free else b"taken")
            time.sleep(30)
        finally:
            os._exit(0)
    try:
        assert b"taken" == os.read(read, 10)
        lock.close()
        assert directory_lock(layout).try_acquire()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)


def test_who_comes_back_to_the_gate_waits_behind(layout: Any) -> None:
    """A thread that waits at the gate passes it before one that comes while the gate is held."""
    passed: list[str] = []

    def visit(name: str) -> None:
        with Gate(layout).hold(60):
            passed.append(name)

    waiter, late = (threading.Thread(target=visit, args=(name,)) for name in ("waiter", "late"))
    with Gate(layout).hold(1):
        waiter.start()
        turn = file_lock(layout.turn_path, name="turn", store=layout.directory)
        while turn.try_acquire():
            turn.release()
        late.start()
    waiter.join()
    late.join()
    turn.close()
    assert ["waiter", "late"] == passed


of_linux = pytest.mark.skipif(
    not Path("/proc/locks").exists(), reason="the system does not say who waits"
)


@of_linux
def test_who_waits_passes_in_order(layout: Any) -> None:
    """Those who wait pass the gate in the order in which they came, without asking again."""
    names = [str(number) for number in range(5)]
    passed: list[str] = []

    def visit(gate: Gate, name: str) -> None:
        with gate.hold(60):
            passed.append(name)

    gates = [Gate(layout) for _ in names]
    threads = [threading.Thread(target=visit, args=both) for both in zip(gates, names, strict=True)]
    with Gate(layout).hold(1):
        for number, thread in enumerate(threads, 1):
            thread.start()
            while waiting_for(layout) < number:
                pass
    for thread in threads:
        thread.join()
    assert names == passed


def waiting_for(layout: Any) -> int:
    """How many threads wait in the system for the gate, or for the turn before it."""
    inodes = {os.stat(path).st_ino for path in (layout.gate_path, layout.turn_path)}
    rows = [row.split() for row in Path("/proc/locks").read_text().splitlines()]
    return sum("->" in row and int(row[6].rpartition(":")[2]) in inodes for row in rows)


def test_who_gives_up_leaves_the_lock_to_others(make: Any) -> None:
    """A thread that still waits for one who has given up unlocks at once what it gets."""
    one, two = make(), make()
    with one.hold(1):
        for _ in range(3):
            with pytest.raises(LockTimeoutError):
                two.acquire(0.01)
    for _ in range(20):
        with make().hold(10):
            pass
    with one.hold(10):
        assert not two.try_acquire()


@of_linux
def test_who_gave_up_may_wait_again(make: Any) -> None:
    """One thread waits for a lock, however often its user gives up, and serves the next wait."""
    one, two = make(), make()
    with one.hold(1):
        for _ in range(50):
            with pytest.raises(LockTimeoutError):
                two.acquire(0.001)
        waiting = threading.Thread(target=two.acquire, args=(60,))
        waiting.start()
        assert threading.active_count() + 3 > len(os.listdir("/proc/self/task"))
    waiting.join()
    assert not one.try_acquire()
    two.release()
    assert one.try_acquire()
    one.release()


@pytest.mark.parametrize("way", ["green", "none"])
def test_where_no_thread_can_wait_it_is_tried_again(make: Any, monkeypatch: Any, way: str) -> None:
    """Green threads would stop the process, and the system may have a limit: then one polls."""
    started: list[Any] = []

    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    if way == "green":
        monkeypatch.setattr("_thread.start_new_thread", lambda *given: started.append(given))
    else:
        monkeypatch.setattr("taskstore._log.waiter._thread.start_new_thread", refuse)
        monkeypatch.setattr("taskstore._log.waiter.BuiltinFunctionType", object)
    one, two = make(), make()
    one.acquire(1)
    with telling_of_waits(lambda fd, waited: one.release()):
        two.acquire(60)
    assert not one.try_acquire()
    two.release()
    assert [] == started


class Interrupt(BaseException):
    """What a signal handler raises."""


def test_an_interrupted_wait_leaves_the_lock_free(make: Any) -> None:
    """A signal handler may end a wait by an exception: the lock then goes to others."""

    def interrupt(*_: object) -> None:
        raise Interrupt

    one, two = make(), make()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with one.hold(1):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(Interrupt):
                two.acquire(60)
            assert not two.held
    finally:
        signal.signal(signal.SIGALRM, before)
    with make().hold(10):
        assert not two.try_acquire()
    with two.hold(10):
        assert not one.try_acquire()


@of_linux
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_of_one_who_waits_keeps_nothing_locked(layout: Any) -> None:
    """A child that is forked while a thread waits has no part in the lock that the thread gets."""
    one, two = Gate(layout), Gate(layout)
    with one.hold(1):
        waiting = threading.Thread(target=two.acquire, args=(60,))
        waiting.start()
        while not waiting_for(layout):
            pass
        child = os.fork()
        if child == 0:
            try:
                time.sleep(30)
            finally:
                os._exit(0)
    try:
        waiting.join()
        two.release()
        with Gate(layout).hold(10):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
