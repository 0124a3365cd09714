"""The gate of a store that writes nothing, not even a lock file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskstore.errors import LockTimeoutError


class LocalGate:
    """A lock between the threads that share one read-only store; its cache is in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._holder: int | None = None

    @property
    def held(self) -> bool:
        """Whether this thread holds the lock."""
        return self._holder == threading.get_ident()

    def acquire(self, timeout: float) -> None:
        """Take the lock.

        Raises:
            LockTimeoutError: another thread held it for more than `timeout` seconds.
        """
        if not self._lock.acquire(timeout=timeout):
            raise LockTimeoutError(self._path, timeout=timeout, lock="gate")
        self._holder = threading.get_ident()

    def try_acquire(self) -> bool:
        """Take the lock if it is free; say whether it was."""
        taken = self._lock.acquire(blocking=False)
        if taken:
            self._holder = threading.get_ident()
        return taken

    def release(self) -> None:
        """Give the lock back."""
        self._holder = None
        self._lock.release()

    @contextmanager
    def hold(self, timeout: float) -> Iterator[None]:
        """Hold the lock for a block; raises as `acquire` does."""
        self.acquire(timeout)
        try:
            yield
        finally:
            self.release()

    def close(self) -> None:
        """Nothing is kept open."""
