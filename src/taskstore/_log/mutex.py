"""A lock between threads that always knows its holder.

A signal handler may raise after `threading.Lock.acquire` has returned and before its caller has
noted that. Then nobody can tell who holds the lock. Here the claim is made first, and taking the
lock records the claim in one step. So the holder is known at any moment.
"""

from __future__ import annotations

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

_LONGEST_NAP = 0.05
"""The longest sleep of a waiter, in seconds: an interrupted release wakes nobody."""


class Claim:
    """The holder of a lock. It is made before the lock is taken, so that the lock can be released.

    Attributes:
        thread: The thread that made it.
    """

    __slots__ = ("thread",)

    def __init__(self) -> None:
        self.thread = threading.get_ident()


class Mutex:
    """A lock between threads; give it back with the claim that took it, from any thread."""

    __slots__ = ("_held", "_waiters")

    def __init__(self) -> None:
        # A dict, because `setdefault` checks and stores in one step that nothing interrupts.
        self._held: dict[None, Claim] = {}
        self._waiters: list[threading.Lock] = []

    @property
    def holder(self) -> Claim | None:
        """The claim that holds the lock."""
        return self._held.get(None)

    def take(self, claim: Claim, timeout: float) -> bool:
        """Take the lock; say whether that succeeded within `timeout` seconds.

        If an exception interrupts this, call `give_back`: the claim may hold the lock by then.
        """
        if self._held.setdefault(None, claim) is claim:
            return True
        return timeout > 0 and self._wait(claim, time.monotonic() + timeout)

    def give_back(self, claim: Claim) -> None:
        """Free the lock if this claim holds it; calling twice is fine."""
        if self._held.get(None) is claim:
            self._held.pop(None, None)
            self._wake()

    def _wait(self, claim: Claim, deadline: float) -> bool:
        waiter = threading.Lock()
        waiter.acquire()
        try:
            self._waiters.append(waiter)
            while self._held.setdefault(None, claim) is not claim:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                if waiter.acquire(timeout=min(left, _LONGEST_NAP)):
                    self._waiters.append(waiter)
            return True
        finally:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        """Wake the thread that has waited longest."""
        if self._waiters:
            with contextlib.suppress(IndexError):
                self._waiters.pop(0).release()


class Exclusive(ABC):
    """A lock that is not reentrant, and the safe ways to hold it."""

    @property
    @abstractmethod
    def holder(self) -> Claim | None:
        """The claim of this process that holds the lock."""

    @property
    def held(self) -> bool:
        """Whether this thread holds the lock."""
        holder = self.holder
        return holder is not None and holder.thread == threading.get_ident()

    @abstractmethod
    def acquire(self, timeout: float, claim: Claim | None = None) -> None:
        """Take the lock, waiting for `timeout` seconds at most (`math.inf` for ever).

        An exception before this returns, from a signal handler say, leaves the lock free. To be
        safe against one that comes right after, make a claim first, and release it in any case.

        Args:
            timeout: How long to wait, in seconds.
            claim: What to release the lock by.

        Raises:
            LockTimeoutError: Somebody else held it all the time.
            RuntimeError: This thread has it already.
            StoreNotFoundError: The store directory is gone.
            StoreAccessError: The operating system refused.
        """

    @abstractmethod
    def try_acquire(self, claim: Claim | None = None) -> bool:
        """Take the lock if it is free; say whether it was."""

    @abstractmethod
    def release(self, claim: Claim | None = None) -> None:
        """Give the lock back, from whichever thread; without effect when it is not held.

        If an exception interrupts this, call it again: it does the rest.

        Args:
            claim: Give it back only if this holds it.
        """

    @contextlib.contextmanager
    def hold(self, timeout: float) -> Iterator[None]:
        """Hold the lock for a `with` block; raises as `acquire` does.

        An exception between the block and its end skips the end. `run` has no such gap.
        """
        claim = Claim()
        try:
            self.acquire(timeout, claim)
            yield
        finally:
            self.release(claim)

    def run(self, timeout: float, call: Callable[[], T]) -> T:
        """Call a function under the lock and return its result; raises as `acquire` does."""
        claim = Claim()
        try:
            self.acquire(timeout, claim)
            result = call()
            self.release(claim)
            return result
        except BaseException:
            # Even if the release was interrupted.
            self.release(claim)
            raise
