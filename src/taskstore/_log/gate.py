"""The gate: writers of all processes wait here, one at the front and the others behind it.

A free lock goes to the thread that is running. That is usually the one that has just released it,
while the others wake up. At the gate, a writer that comes back finds the turn taken by the waiter
at the front.
"""

from __future__ import annotations

import time
from pathlib import Path

from taskstore._log.layout import Layout
from taskstore._log.locks import file_lock
from taskstore._log.mutex import Claim, Exclusive, Mutex
from taskstore.errors import LockTimeoutError

_COURTESY = 0.0005
"""The minimum time that a writer which had to wait lets others go first, in seconds."""

_LONGEST_COURTESY = 0.05


class Gate(Exclusive):
    """An exclusive lock, not reentrant, that writers pass in turn."""

    def __init__(self, layout: Layout) -> None:
        store = layout.directory
        turn = file_lock(layout.turn_path, name="gate", store=store)
        self._lock = file_lock(layout.gate_path, name="gate", store=store, queue=turn)
        self._store = store
        self._waited = 0.0

    @property
    def holder(self) -> Claim | None:
        """The claim of this process that holds the gate."""
        return self._lock.holder

    def acquire(self, timeout: float, claim: Claim | None = None) -> None:
        """Take the gate; see `Exclusive.acquire`."""
        if self.held:
            raise RuntimeError(f"this thread already holds the gate of {self._store}")
        if self._waited > _COURTESY:
            # The more waiters there are, the slower they wake.
            courtesy = min(max(self._waited / 8, _COURTESY), _LONGEST_COURTESY)
            time.sleep(min(courtesy, max(timeout, 0.0)))
        start = time.monotonic()
        self._lock.acquire(timeout, claim)
        self._waited = time.monotonic() - start

    def try_acquire(self, claim: Claim | None = None) -> bool:
        """Take the gate if it is free, even if others wait for it; return whether it was."""
        return self._lock.try_acquire(claim)

    def release(self, claim: Claim | None = None) -> None:
        """Give the gate back; see `Exclusive.release`."""
        self._lock.release(claim)

    def close(self) -> None:
        """Release the gate if this thread holds it, and close its files."""
        self._lock.close()


class LocalGate(Exclusive):
    """A lock between the threads that share one read-only store; its cache is in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = Mutex()

    @property
    def holder(self) -> Claim | None:
        """The claim that holds the lock."""
        return self._mutex.holder

    def acquire(self, timeout: float, claim: Claim | None = None) -> None:
        """Take the lock; see `Exclusive.acquire`."""
        claim = claim or Claim()
        try:
            if not self._mutex.take(claim, timeout):
                raise LockTimeoutError(self._path, timeout=timeout, lock="gate")
        except BaseException:
            self._mutex.give_back(claim)
            raise

    def try_acquire(self, claim: Claim | None = None) -> bool:
        """Take the lock if it is free; say whether it was."""
        return self._mutex.take(claim or Claim(), 0.0)

    def release(self, claim: Claim | None = None) -> None:
        """Give the lock back; see `Exclusive.release`."""
        holder = self._mutex.holder
        if holder is not None and claim in (None, holder):
            self._mutex.give_back(holder)

    def close(self) -> None:
        """Nothing is kept open."""
