"""An application that is killed at any instant: its tables and the log stay one."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.crash.killing import run_and_kill, server
from tests.crash.scene import LONG
from tests.mirror import committer
from tests.mirror.clones import Clone, cloned
from tests.mirror.models import Person, Step, Tag, Task

ROUNDS = 200 if LONG else 25
LONGEST = 0.05
"""How long a writer lives after its last message that was waited for, at most, in seconds."""


@attrs.define
class Ledger:
    """What was announced of each group, and whether it was acknowledged."""

    born: dict[int, bool] = attrs.field(factory=dict)
    dying: dict[int, bool] = attrs.field(factory=dict)

    def note(self, what: str, group: int) -> None:
        """Take in a message."""
        where = self.born if what.startswith("create") else self.dying
        where[group] = what in ("created", "deleted")

    def check(self, clone: Clone) -> list[int]:
        """Each group is there whole or not at all, as acknowledged; return those that are."""
        found = {
            "people": {row.id for row in clone.rows(Person)},
            "tasks": {row.id for row in clone.rows(Task)},
            "tags": {row.name for row in clone.rows(Tag)},
            "steps": {row.task_id for row in clone.rows(Step)},
        }
        letters = {"people": "p", "tasks": "t", "tags": "g", "steps": "t"}
        alive = {int(id[1:]) for id in found["tasks"]}
        for name, letter in letters.items():
            assert {f"{letter}{group}" for group in alive} == found[name]
        assert {f'["t{group}","g{group}"]' for group in alive} == set(clone.told("task_tags"))
        assert set() == {group for group, done in self.dying.items() if done} & alive
        kept = {g for g, done in self.born.items() if done and g not in self.dying}
        assert kept <= alive
        assert alive <= set(self.born)
        return sorted(alive)


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_killed_at_any_instant(tmp_path: Path, capsys: Any) -> None:
    """No acknowledged row is lost, none is there by half, and the log and the tables agree."""
    kill_again_and_again(tmp_path, capsys, committer.commit_all_the_time)


def kill_again_and_again(tmp_path: Path, capsys: Any, target: Callable[..., None]) -> None:
    """Run an application, kill it, and look at what it has left; many times."""
    seed = random.randrange(2**32)
    with capsys.disabled():
        print(f"\nkill test of {target.__module__}: {ROUNDS} rounds, seed {seed}")
    chance = random.Random(seed)
    folder = tmp_path / "app"
    with cloned(folder):
        pass
    server.set_forkserver_preload([target.__module__])
    ledger, alive = Ledger(), list[int]()
    for _ in range(ROUNDS):
        run_and_kill(
            target,
            folder,
            ledger.born,
            alive,
            ledger.note,
            chance=chance,
            messages=15,
            longest=LONGEST,
        )
        with cloned(folder) as clone:
            assert [] == clone.store.sync().problems
            clone.check()
            alive = ledger.check(clone)
    with capsys.disabled():
        print(f"{sum(ledger.born.values())} transactions acknowledged")
    assert sum(ledger.born.values()) > ROUNDS
