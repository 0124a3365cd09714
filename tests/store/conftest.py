"""A store of plans, and the clock it is stamped by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskstore import Store
from tests.store.plans import Clock, Plan


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def store(directory: Path, clock: Clock) -> Iterator[Store]:
    """An empty store that knows plans."""
    with Store.open(directory, types=[Plan], clock=clock) as store:
        yield store
