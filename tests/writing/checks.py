"""Checks of every write path: it is mirrored whole or refused, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taskstore import UntrackedWriteError
from tests.mirror.clones import Clone
from tests.mirror.models import Person
from tests.store.plans import Plan
from tests.writing.paths import MIRRORED, REFUSED, WritePath
from tests.writing.world import BEFORE, World

FILTERS = [
    pytest.mark.filterwarnings("ignore:The garbage collector:sqlalchemy.exc.SAWarning"),
    pytest.mark.filterwarnings("ignore:Usage of the 'Session.add:sqlalchemy.exc.SAWarning"),
    pytest.mark.filterwarnings("ignore:transaction already deassoc:sqlalchemy.exc.SAWarning"),
]
"""Warnings of SQLAlchemy about what some paths do on purpose."""


def check_path(world: World, outcome: str, path: WritePath) -> None:
    """Take a path of records, and look at what it has left."""
    log = world.log()
    expected = _taken(path.work, world, outcome)
    assert (expected is None) == (log == world.log())
    world.check_nothing_held()
    plans = BEFORE if expected is None else expected
    assert plans == world.replayed() == world.titles()
    assert () == world.store.verify().differences
    # And the store goes on.
    world.store.save(Plan("after", "all"))
    assert {**plans, "after": "all"} == world.replayed() == world.titles()


def check_mirrored_path(clone: Clone, outcome: str, work: Callable[[Clone], Any]) -> None:
    """Take a path of mirrored models, and look at what it has left."""
    with clone.sessions.begin() as session:
        session.add_all([Person(id=id, name=name) for id, name in BEFORE.items()])
    log = clone.log("people").read_bytes()
    expected = _taken(work, clone, outcome)
    assert (expected is None) == (log == clone.log("people").read_bytes())
    names = BEFORE if expected is None else expected
    assert names == {id: row["name"] for id, row in clone.told("people").items()}
    assert names == {row.id: row.name for row in clone.rows(Person)}
    clone.check()
    with clone.sessions.begin() as session:
        session.add(Person(id="after", name="all"))
    clone.check()


def _taken(work: Callable[[Any], Any], place: Any, outcome: str) -> dict[str, str] | None:
    """Take a path; return what is there after it, None if it changes nothing."""
    if outcome == REFUSED:
        with pytest.raises(UntrackedWriteError) as refusal:
            work(place)
        assert refusal.value.remedy
        return None
    expected: dict[str, str] | None = work(place)
    assert (outcome == MIRRORED) == (expected is not None)
    return expected
