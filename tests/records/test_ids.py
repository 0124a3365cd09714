"""New ids and their clock."""

from __future__ import annotations

import threading
import time
import uuid

import pytest

from taskstore._records.ids import new_id, now_ms
from taskstore.errors import InvalidIdError


def test_an_id_is_a_uuid_of_the_seventh_version() -> None:
    """With the milliseconds of its making in front."""
    before = now_ms()
    found = uuid.UUID(new_id())
    assert (7, uuid.RFC_4122) == (found.version, found.variant)
    assert before <= found.int >> 80 <= now_ms() + 1


def test_ids_rise_strictly() -> None:
    """Also many within one millisecond."""
    ids = [new_id() for _ in range(10_000)]
    assert sorted(set(ids)) == ids


def test_threads_never_share_an_id() -> None:
    """Each gets its own."""
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.extend([new_id() for _ in range(500)]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 4000 == len(set(made))


def test_a_prefix_comes_first() -> None:
    """It is part of the id, so it may not make it too long."""
    assert new_id("plan-").startswith("plan-0")
    with pytest.raises(InvalidIdError, match="at most 256"):
        new_id("x" * 300)


def test_the_clock_is_in_milliseconds() -> None:
    """Of the epoch."""
    assert abs(time.time() * 1000 - now_ms()) < 10_000
