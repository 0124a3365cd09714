"""A writer is killed at any instant: what it was told is done is there, and nothing by half."""

from __future__ import annotations

import multiprocessing
import random
from pathlib import Path
from typing import Any

import attrs
import pytest

from taskstore import Store
from tests.crash import committer
from tests.crash.killing import run_and_kill, server
from tests.crash.scene import LONG, TYPES, check_cache, told

ROUNDS = 300 if LONG else 25
LONGEST = 0.02
"""How long a writer lives after its last message that was waited for, at most, in seconds."""


@attrs.define
class Ledger:
    """What the writers have announced, and what was acknowledged to them."""

    born: dict[int, bool] = attrs.field(factory=dict)
    dying: dict[int, bool] = attrs.field(factory=dict)
    counter: int = 0

    def note(self, what: str, group: int) -> None:
        """Take in an announcement ("create", "delete") or an acknowledgement ("created", ...)."""
        if what == "create":
            self.born[group] = False
        elif what == "created":
            self.born[group] = True
        elif what == "counted":
            self.counter = group
        elif what == "delete":
            self.dying[group] = False
        elif what == "deleted":
            self.dying[group] = True

    def check(self, records: dict[tuple[str, str], dict[str, Any]]) -> None:
        """Each group is there whole or not at all, and as it was acknowledged."""
        groups: dict[int, list[tuple[str, dict[str, Any]]]] = {}
        for (collection, id), row in records.items():
            if id != committer.COUNTER:
                groups.setdefault(row["group"], []).append((collection, row))
        for group, rows in groups.items():
            for collection in TYPES:
                found = sum(1 for name, _ in rows if name == collection)
                assert rows[0][1].get(collection, 0) == found, f"group {group} is there by half"
            assert not self.dying.get(group), f"group {group} was deleted and is there"
        lost = [
            group
            for group, done in self.born.items()
            if done and group not in self.dying and group not in groups
        ]
        assert [] == lost
        counted = records.get(("plans", committer.COUNTER), {"group": 0})
        assert counted["group"] >= self.counter


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_killed_at_any_instant(tmp_path: Path, capsys: Any) -> None:
    """Nothing acknowledged is lost, nothing is there by half, and readers never see a half."""
    seed = random.randrange(2**32)
    with capsys.disabled():
        print(f"\nkill test: {ROUNDS} rounds, seed {seed}")
    chance = random.Random(seed)
    directory = tmp_path / ".taskstore"
    Store.open(directory, types=TYPES.values()).close()
    server.set_forkserver_preload(["tests.crash.committer"])
    ours, theirs = server.Pipe()
    reader = server.Process(target=committer.read_all_the_time, args=(directory, theirs))
    reader.start()
    theirs.close()
    ledger = Ledger()
    try:
        for _ in range(ROUNDS):
            run_writer(directory, chance, ledger)
            with Store.open(directory, types=TYPES.values()) as store:
                # The reader may be about to settle what was left: a sync waits for it.
                store.sync()
                check_cache(store)
                ledger.check(told(directory))
        ours.send("stop")
        looks = ours.recv()
    finally:
        reader.kill()
        reader.join()
    assert [] == looks["halves"]
    done = sum(ledger.born.values())
    with capsys.disabled():
        print(f"{done} transactions acknowledged, {looks['reads']} reads beside them")
    assert looks["reads"] > ROUNDS
    assert done > ROUNDS


def run_writer(directory: Path, chance: random.Random, ledger: Ledger) -> None:
    """Let a writer write on for a while, until it is killed."""
    alive = [group for group, done in ledger.born.items() if done and group not in ledger.dying]
    run_and_kill(
        committer.commit_all_the_time,
        directory,
        ledger.born,
        alive,
        ledger.note,
        chance=chance,
        messages=25,
        longest=LONGEST,
    )
