"""Locks between the threads, the stores and the processes that share a directory.

A lock is an advisory lock of the operating system on an open descriptor, and a mutex in front of
it for the threads that share the descriptor. The operating system releases it when the process
ends.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from taskstore._log import files
from taskstore._log.layout import Layout
from taskstore._log.mutex import Claim, Exclusive, Mutex
from taskstore._log.waiter import Waiter, forget_parents_waiters
from taskstore.errors import (
    LockTimeoutError,
    StoreAccessError,
    StoreNotFoundError,
    TaskstoreError,
)

_SHORTEST_PAUSE = 0.0002
_LONGEST_PAUSE = 0.005
_MOMENT = 0.005
_LONGEST_NAP = 0.1
"""The longest sleep of a waiter, in seconds: a signal may come just before it falls asleep."""

_listener: ContextVar[Callable[[int, float], None] | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def telling_of_waits(listener: Callable[[int, float], None]) -> Iterator[None]:
    """In a block, call a listener each time that another process has locked an open file.

    Args:
        listener: Called, before the next try, with the open file, and the seconds waited for it.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def hold_descriptor(fd: int, timeout: float) -> bool:
    """Lock an open file by trying again; return whether that succeeded within `timeout` seconds.

    Args:
        fd: The open file.
        timeout: How long to try, in seconds; 0 or less tries once.
    """
    start = time.monotonic()
    while not _try_descriptor(fd):
        waited = time.monotonic() - start
        if waited >= timeout:
            return False
        if (listener := _listener.get()) is not None:
            listener(fd, waited)
        # Waiters that wake at the same time would keep missing the release.
        pause = min(max(waited / 2, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        time.sleep(min(timeout - waited, pause * random.uniform(0.5, 1.0)))  # noqa: S311
    return True


@functools.cache
def _filelock() -> Any:
    # Reading needs no lock, and programs that only read start sooner without it. It is kept,
    # since a lock may be released when the interpreter ends, where nothing can be imported.
    import filelock

    return filelock


def _try_descriptor(fd: int) -> bool:
    locked: bool = _filelock().lock_descriptor(fd, blocking=False)
    return locked


def release_descriptor(fd: int) -> None:
    """Unlock an open file."""
    _filelock().unlock_descriptor(fd)


class LockedFile:
    """An open file that may be locked.

    Attributes:
        fd: Its descriptor; None when it is closed.
    """

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd: int | None = None

    def close(self) -> None:
        """Unlock and close the file.

        If an exception interrupts this, call it again: it does the rest.
        """
        fd = self.fd
        if fd is None:
            return
        # A child forked meanwhile shares the open file, so closing alone would not unlock.
        with contextlib.suppress(OSError):
            release_descriptor(fd)
        # Forgotten before it is closed, because its number may belong to another file afterwards.
        self.fd = None
        os.close(fd)


class Lock(Exclusive):
    """An exclusive lock, not reentrant, between threads, stores and processes.

    Args:
        path: The file to lock. It is opened at first use, and again if it was replaced.
        name: The name of the lock in messages.
        opener: Opens `path` and returns the descriptor.
        store: The store directory, for messages.
        queue: The file that the waiter at the front locks, so that nobody overtakes it; None if
            the order does not matter.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        opener: Callable[[Path], int],
        store: Path,
        queue: Lock | None = None,
    ) -> None:
        self._path = path
        self._name = name
        self._opener = opener
        self._store = store
        self._fd: int | None = None
        self._queue = queue
        self._waiter: Waiter | None = None
        self._mutex = Mutex()
        _remember(self)

    @property
    def holder(self) -> Claim | None:
        """The claim of this process that holds the lock."""
        return self._mutex.holder

    def acquire(self, timeout: float, claim: Claim | None = None) -> None:
        """Take the lock; see `Exclusive.acquire`."""
        if self.held:
            raise RuntimeError(f"this thread already holds the {self._name} of {self._store}")
        if not self.take(claim or Claim(), timeout):
            raise LockTimeoutError(self._store, timeout=timeout, lock=self._name)

    def take(self, claim: Claim, timeout: float) -> bool:
        """Take the lock like `acquire`, but return False when the time is up."""
        deadline = time.monotonic() + timeout
        try:
            if self._mutex.take(claim, timeout) and self._lock_file(deadline):
                return True
            self.release(claim)
            return False
        except BaseException:
            self.release(claim)
            raise

    def try_acquire(self, claim: Claim | None = None) -> bool:
        """Take the lock if it is free; say whether it was."""
        return not self.held and self.take(claim or Claim(), 0.0)

    def release(self, claim: Claim | None = None) -> None:
        """Give the lock back; see `Exclusive.release`.

        A forked child holds no lock of its parent, so there this does nothing.
        """
        holder = self._mutex.holder
        if holder is None or claim not in (None, holder):
            return
        self._unlock_file()
        # Last, because nobody comes back later to unlock the file.
        self._mutex.give_back(holder)

    def close(self) -> None:
        """Release the lock if this thread holds it, and close its files.

        While another thread has the lock or waits for it, its files stay open.
        """
        if self.held:
            self.release()
        claim = Claim()
        try:
            if self._mutex.take(claim, 0.0):
                self._close()
                if self._queue is not None:
                    # Only the thread that has this mutex uses it.
                    self._queue._close()
        finally:
            self._mutex.give_back(claim)

    def __del__(self) -> None:
        self._close()

    def _lock_file(self, deadline: float) -> bool:
        """Lock the file that `path` names now; return False when the time is up."""
        while True:
            fd = self._current_descriptor()
            try:
                held = fd if self._try(fd, deadline) else self._wait(fd, deadline)
                if held is None:
                    return False
                if files.same_file(held, self._path):
                    return True
            except TaskstoreError:
                raise
            except OSError as error:
                self._close()
                raise self._refused(error) from error
            # The file was replaced while we waited, so our lock protects nothing.
            self._close()
            if self._queue is not None:
                self._queue._close()

    def _try(self, fd: int, deadline: float) -> bool:
        """Lock the file if it is free. If there is time to wait, do not overtake waiters."""
        queue = self._queue
        if queue is None or time.monotonic() >= deadline:
            return _try_descriptor(fd)
        # Our own threads are kept apart already. If somebody has replaced the file of the queue,
        # only the order is lost.
        turn = queue._current_descriptor()
        try:
            is_free = _try_descriptor(turn) and _try_descriptor(fd)
            release_descriptor(turn)
        except BaseException:
            release_descriptor(turn)
            raise
        return is_free

    def _wait(self, fd: int, deadline: float) -> int | None:
        """Wait until the file is locked; return the open file, or None when the time is up."""
        start = time.monotonic()
        waiter = self._waiter
        if waiter is not None:
            # Our own thread may have the lock and be about to release it.
            deadline = max(deadline, start + (_MOMENT if start >= deadline else _LONGEST_NAP))
        if start >= deadline:
            return None
        ticket = waiter.ask() if waiter is not None else None
        if waiter is None or ticket is None:
            queue = None if self._queue is None else self._queue._opened()
            waiter = self._waiter = Waiter(self._opened(), queue)
            ticket = waiter.ask()
            if ticket is None or not waiter.start():
                return fd if hold_descriptor(fd, deadline - start) else None
        listener = _listener.get()
        while True:
            left = deadline - time.monotonic()
            if waiter.wait(ticket, min(left, _LONGEST_NAP)):
                return waiter.fd
            if left <= 0:
                return None
            if listener is not None:
                listener(fd, time.monotonic() - start)

    def _end_wait(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.give_up():
            self._waiter = None

    def _unlock_file(self) -> None:
        self._end_wait()
        if self._fd is None:
            return
        try:
            # Closing is not enough: a child forked meanwhile shares the open file.
            release_descriptor(self._fd)
        except OSError:
            self._close()

    def _current_descriptor(self) -> int:
        # One that was replaced meanwhile is found out when it is locked.
        if self._fd is None:
            self._fd = self._opened()
        return self._fd

    def _opened(self) -> int:
        try:
            return self._opener(self._path)
        except (FileNotFoundError, NotADirectoryError):
            raise StoreNotFoundError(self._store) from None
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> StoreAccessError:
        reason = error.strerror or str(error)
        return StoreAccessError(self._path, operation="lock", reason=reason, errno=error.errno)

    def _close(self) -> None:
        waiter, self._waiter = getattr(self, "_waiter", None), None
        if waiter is not None:
            waiter.give_up()
        fd, self._fd = getattr(self, "_fd", None), None
        if fd is not None:
            os.close(fd)

    def _forget_parent(self) -> None:
        """Give a forked child its own lock: the open file still belongs to the parent."""
        self._mutex = Mutex()
        self._waiter = None
        self._close()


_all_locks: weakref.WeakSet[Lock] = weakref.WeakSet()
_watches_forks = False


def _remember(lock: Lock) -> None:
    global _watches_forks  # noqa: PLW0603
    _all_locks.add(lock)
    if not _watches_forks and hasattr(os, "register_at_fork"):
        _watches_forks = True
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    for lock in list(_all_locks):
        lock._forget_parent()
    forget_parents_waiters()


def directory_lock(layout: Layout) -> Lock:
    """Return the log lock: on the store directory itself, which no `git clean` removes."""
    if os.name == "nt":
        return Lock(
            layout.directory / "taskstore.log.lock",
            name="log lock",
            opener=_open_or_make,
            store=layout.directory,
        )
    return Lock(
        layout.directory, name="log lock", opener=files.open_directory, store=layout.directory
    )


def file_lock(path: Path, *, name: str, store: Path, queue: Lock | None = None) -> Lock:
    """Return a lock on a separate file, which is created again if it is removed; see `Lock`."""
    return Lock(path, name=name, opener=_open_or_make, store=store, queue=queue)


def _open_or_make(path: Path) -> int:
    return files.open_state(path, 0o666)
