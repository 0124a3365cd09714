"""The gate: where writers of all processes wait, one in front and the others behind it.

A plain lock that is polled goes to whoever comes by when it is free, and that is most often the one
who has just released it, while the others sleep. Here the one who comes back finds the turn taken:
the waiter that has it is the only one to try the gate itself, and may do so often.
"""

from __future__ import annotations

import time
from pathlib import Path

from taskstore._log.layout import Layout
from taskstore._log.locks import file_lock
from taskstore._log.mutex import Claim, Exclusive, Mutex
from taskstore.errors import LockTimeoutError

_LONGEST_PAUSE = 0.005
_COURTESY = 0.0005
"""How long one who had to wait lets others go first when it comes back, in seconds."""


def _pause_in_front(waited: float) -> float:
    """Try often: there is but one in front, and while it sleeps the gate may be unused."""
    return min(max(waited / 50, 0.00005), _LONGEST_PAUSE)


def _pause_behind(waited: float) -> float:
    """Try the more often the longer it has lasted, so that the first comes first, by and large."""
    if waited < 0.5:
        return max(0.002 - waited / 20, 0.00025)
    return min(waited / 500, _LONGEST_PAUSE)


class Gate(Exclusive):
    """An exclusive lock, not reentrant, that writers pass in turn."""

    def __init__(self, layout: Layout) -> None:
        store = layout.directory
        self._turn = file_lock(layout.turn_path, name="gate", store=store, pause=_pause_behind)
        self._lock = file_lock(layout.gate_path, name="gate", store=store, pause=_pause_in_front)
        self._store = store
        self._had_to_wait = False

    @property
    def holder(self) -> Claim | None:
        """The claim of this process that holds the gate."""
        return self._lock.holder

    def acquire(self, timeout: float, claim: Claim | None = None) -> None:
        """Take the gate; see `Exclusive.acquire`."""
        if self.held:
            raise RuntimeError(f"this thread already holds the gate of {self._store}")
        if self._had_to_wait:
            time.sleep(min(_COURTESY, max(timeout, 0.0)))
        claim = claim or Claim()
        try:
            if not self._take_in_turn(claim, timeout):
                raise LockTimeoutError(self._store, timeout=timeout, lock="gate")
        except BaseException:
            self._lock.release(claim)
            raise

    def _take_in_turn(self, claim: Claim, timeout: float) -> bool:
        start = time.monotonic()
        turn = Claim()
        try:
            taken = self._turn.take(turn, timeout) and self._lock.take(
                claim, timeout - (time.monotonic() - start)
            )
            self._turn.release(turn)
        except BaseException:
            self._turn.release(turn)
            raise
        self._had_to_wait = taken and time.monotonic() - start > _COURTESY
        return taken

    def try_acquire(self, claim: Claim | None = None) -> bool:
        """Take the gate if it is free, whoever waits for it; say whether it was."""
        return self._lock.try_acquire(claim)

    def release(self, claim: Claim | None = None) -> None:
        """Give the gate back; see `Exclusive.release`."""
        self._lock.release(claim)

    def close(self) -> None:
        """Release the gate if this thread holds it, and close its files."""
        self._lock.close()
        self._turn.close()


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
