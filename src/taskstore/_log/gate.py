"""The gate: where writers of all processes wait, one in front and the others behind it.

A plain lock that is polled goes to whoever comes by when it is free, and that is most often the one
who has just released it, while the others sleep. Here the one who comes back finds the turn taken:
the waiter that has it is the only one to try the gate itself, and may do so often.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from taskstore._log.layout import Layout
from taskstore._log.locks import file_lock
from taskstore.errors import LockTimeoutError

__all__ = ["Gate"]

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


class Gate:
    """An exclusive lock, not reentrant, that writers pass in turn."""

    def __init__(self, layout: Layout) -> None:
        store = layout.directory
        self._turn = file_lock(layout.turn_path, name="gate", store=store, pause=_pause_behind)
        self._lock = file_lock(layout.gate_path, name="gate", store=store, pause=_pause_in_front)
        self._store = store
        self._had_to_wait = False

    @property
    def held(self) -> bool:
        """Whether this thread holds the gate."""
        return self._lock.held

    def acquire(self, timeout: float) -> None:
        """Take the gate, waiting for `timeout` seconds at most (`math.inf` for ever).

        Raises:
            LockTimeoutError: Somebody else held it all the time.
            RuntimeError: This thread has it already.
            StoreNotFoundError: The store directory is gone.
            StoreAccessError: The operating system refused.
        """
        if self.held:
            raise RuntimeError(f"this thread already holds the gate of {self._store}")
        if self._had_to_wait:
            time.sleep(min(_COURTESY, max(timeout, 0.0)))
        start = time.monotonic()
        try:
            with self._turn.hold(timeout):
                self._lock.acquire(timeout - (time.monotonic() - start))
                self._had_to_wait = time.monotonic() - start > _COURTESY
        except LockTimeoutError:
            raise LockTimeoutError(self._store, timeout=timeout, lock="gate") from None

    def try_acquire(self) -> bool:
        """Take the gate if it is free, whoever waits for it; say whether it was."""
        return self._lock.try_acquire()

    def release(self) -> None:
        """Give the gate back, from whichever thread; without effect when it is not held."""
        self._lock.release()

    @contextmanager
    def hold(self, timeout: float) -> Iterator[None]:
        """Hold the gate for a `with` block; raises as `acquire` does."""
        self.acquire(timeout)
        try:
            yield
        finally:
            self.release()

    def close(self) -> None:
        """Release the gate if this thread holds it, and close its files."""
        self._lock.close()
        self._turn.close()
