"""Waits for a locked file in the operating system, which wakes one waiter at a time.

`flock` can neither time out nor be cancelled, so a thread waits in it. Polling instead would take
processor time from the holder, and would sleep while the lock is free.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
import weakref
from types import BuiltinFunctionType

if sys.platform != "win32":
    import fcntl


class Waiter:
    """A thread that waits until it can lock an open file.

    It can be asked for the lock again after its caller has given up. If it gets a lock that nobody
    wants any more, it unlocks the file at once. So each lock has at most one such thread.

    Args:
        fd: The open file. From now on it belongs to the waiter.
        queue: Another open file that is locked first, and released when `fd` is locked.
    """

    __slots__ = ("__weakref__", "_ended", "_error", "_open", "_wanted")

    def __init__(self, fd: int, queue: int | None = None) -> None:
        # Lists, because removing an element is a single step for all threads.
        self._open = [fd] if queue is None else [fd, queue]
        self._wanted: list[_thread.LockType] = []
        self._ended = False
        self._error: OSError | None = None
        _all_waiters.add(self)

    @property
    def fd(self) -> int:
        """The open file, once it is locked."""
        return self._open[0]

    def start(self) -> bool:
        """Start the thread; return False if that is impossible."""
        if sys.platform == "win32" or not isinstance(_thread.start_new_thread, BuiltinFunctionType):
            # A replacement, such as gevent's, is not a thread and would stop the whole process.
            return False
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError:
            # The interpreter ends, or the system has a limit.
            return False
        return True

    def ask(self) -> _thread.LockType | None:
        """Return what `wait` waits for; None if the thread has ended, and another is needed."""
        ticket = _thread.allocate_lock()
        ticket.acquire()
        self._wanted.append(ticket)
        # One of the two sees the other: the thread notes its end before it looks for a ticket.
        if self._ended and self._withdraw(ticket):
            return None
        return ticket

    def wait(self, ticket: _thread.LockType, timeout: float) -> bool:
        """Return whether the file is locked for a ticket within `timeout` seconds.

        Raises:
            OSError: The system refused.
        """
        if not ticket.acquire(timeout=max(timeout, 0.0)):
            return False
        if self._error is not None:
            raise self._error
        return True

    def give_up(self) -> bool:
        """Unlock and close the file, at once or when it gets locked; calling twice is fine.

        Returns:
            Whether the thread still waits, and may be asked again.
        """
        with contextlib.suppress(IndexError):
            self._wanted.pop()
            return True
        if self._ended:
            self._close()
        return not self._ended

    def _withdraw(self, ticket: _thread.LockType) -> bool:
        try:
            self._wanted.remove(ticket)
        except ValueError:
            return False
        return True

    def _run(self) -> None:
        try:
            for fd in reversed(self._open):
                fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            self._error = error
        if len(self._open) > 1:
            self._close_last()
        self._ended = True
        try:
            self._wanted.pop().release()
        except IndexError:
            self._close()

    def _close(self) -> None:
        while self._open:
            self._close_last()

    def _close_last(self) -> None:
        with contextlib.suppress(IndexError):
            # Forgotten before it is closed, because another file may get its number afterwards.
            fd = self._open.pop()
            # A child forked meanwhile shares the open file, so closing alone would not unlock.
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def _forget_parent(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                os.close(self._open.pop())


_all_waiters: weakref.WeakSet[Waiter] = weakref.WeakSet()


def forget_parents_waiters() -> None:
    """In a forked child, close the files of threads that are the parent's."""
    for waiter in list(_all_waiters):
        waiter._forget_parent()
    _all_waiters.clear()
