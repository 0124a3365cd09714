"""New ids and the clock they are made from."""

from __future__ import annotations

import os
import threading
import time
import uuid

from taskstore._format.names import check_id

_lock = threading.Lock()
_last = 0


def now_ms() -> int:
    """Return the time of the system's clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def new_id(prefix: str = "") -> str:
    """Return a new record id: a UUIDv7 in its usual spelling, so that ids sort by creation time.

    Ids of one process always increase, even within a millisecond and if the clock is set back. Ids
    of several processes differ in 62 random bits.

    Args:
        prefix: The beginning of the id, as in `new_id("plan-")`.

    Raises:
        InvalidIdError: The id would be longer than 256 characters, or have a lone surrogate.
    """
    stamp = _next_stamp()
    random = int.from_bytes(os.urandom(8)) & (1 << 62) - 1
    number = (stamp >> 12) << 80 | 7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | random
    return check_id(f"{prefix}{uuid.UUID(int=number)}")


def _next_stamp() -> int:
    """Return 48 bits of milliseconds and 12 bits below them, greater than any before."""
    global _last  # noqa: PLW0603 - the order of ids belongs to the process
    ms, rest = divmod(time.time_ns(), 1_000_000)
    stamp = ms << 12 | (rest << 12) // 1_000_000
    with _lock:
        _last = max(stamp, _last + 1)
        return _last
