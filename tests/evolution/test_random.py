"""Two clones that evolve apart, edit in whatever shape they have, and merge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from taskstore import Store
from taskstore._evolution.decoding import Evolution, decode_steps, encode_evolution
from taskstore._log.evolutions import read_graphs
from taskstore._log.layout import Layout
from taskstore._merge.policies import OF_EVOLUTIONS
from taskstore._merge.three_way import merge_logs
from tests.evolution.test_store import append

IDS = ["a", "b", "c", "d"]
FIELDS = 4
ROUNDS = 4
Edits = dict[tuple[str, int], int]


@attrs.define
class Side:
    """One clone: its directory, and what its fields are called there.

    Attributes:
        name: What its revisions begin with.
        folder: The store directory.
        own: The fields that its branch evolves.
        names: The present name of each field.
        times: Counts for unique names, values and times.
    """

    name: str
    folder: Path
    own: tuple[int, ...]
    names: list[str]
    times: Iterator[int]

    def read(self, log: str) -> bytes:
        """The bytes of a log."""
        path = self.folder / f"{log}.jsonl"
        return path.read_bytes() if path.exists() else b""

    def evolve(self, chance: Random) -> None:
        """Add a revision that renames or converts a field of the branch."""
        field = chance.choice(self.own)
        number = next(self.times)
        step: dict[str, Any] = {"convert": {self.names[field]: chance.choice(["int", "str"])}}
        if chance.random() < 0.6:
            new = f"{self.name}{number}"
            step, self.names[field] = {"rename": {self.names[field]: new}}, new
        graph = read_graphs(Layout(self.folder)).get("tasks")
        parents = graph.heads(graph.whole) if graph is not None else ()
        one = Evolution("tasks", f"{self.name}{number}", parents, decode_steps([step]))
        append(self.folder, "evolutions", json.loads(encode_evolution(one)))

    def edit(self, chance: Random) -> Edits:
        """Change some fields of some records."""
        edits: Edits = {}
        with Store.open(self.folder, clock=lambda: 1000 * next(self.times)) as store:
            for _ in range(chance.randrange(5)):
                id, field, value = chance.choice(IDS), chance.randrange(FIELDS), next(self.times)
                store.patch("tasks", id, **{self.names[field]: value})
                edits[id, field] = value
            assert store.verify().ok
        return edits

    def records(self) -> dict[tuple[str, int], int]:
        """The value of each field of each record."""
        with Store.open(self.folder) as store:
            assert store.verify().ok
            assert not store.sync(force=True).problems
            found = {record["id"]: record for record in store.list("tasks")}
        return {
            (id, field): int(found[id][self.names[field]]) for id in IDS for field in range(FIELDS)
        }


def merge(base: dict[str, bytes], one: Side, two: Side) -> None:
    """Bring both clones to what their logs merge to."""
    for log in ("evolutions", "tasks"):
        graph = read_graphs(Layout(one.folder)).get("tasks")
        policies = OF_EVOLUTIONS if log == "evolutions" else {}
        ours, theirs = one.read(log), two.read(log)
        done = merge_logs(base[log], ours, theirs, policies, graph)
        assert not done.is_left
        assert done.data == merge_logs(base[log], theirs, ours, policies, graph).data
        if log == "tasks":
            # Nobody has touched a line that was there.
            assert set(ours.splitlines()) | set(theirs.splitlines()) <= set(done.data.splitlines())
        for side in (one, two):
            (side.folder / f"{log}.jsonl").write_bytes(done.data)
    for field in range(FIELDS):
        one.names[field] = two.names[field] = (one if field in one.own else two).names[field]


@pytest.mark.parametrize("seed", range(12))
def test_no_edit_of_one_side_is_lost(tmp_path: Path, seed: int) -> None:
    """Whatever evolves and is edited on either side, both end equal, with every one-sided edit."""
    chance = Random(seed)
    times = iter(range(1, 10**6))
    names = [f"f{field}" for field in range(FIELDS)]
    one = Side("one", tmp_path / "one", (0, 1), [*names], times)
    two = Side("two", tmp_path / "two", (2, 3), [*names], times)
    first = [{"id": id, **dict.fromkeys(names, "0"), "updated_at": 1} for id in IDS]
    for side in (one, two):
        side.folder.mkdir()
        append(side.folder, "tasks", *first)
    expected = one.records()
    for _ in range(ROUNDS):
        base = {log: one.read(log) for log in ("evolutions", "tasks")}
        made: list[Edits] = []
        for side in (one, two):
            edits: Edits = {}
            for _ in range(chance.randrange(3)):
                edits |= side.edit(chance)
                side.evolve(chance)
            made.append(edits | side.edit(chance))
        merge(base, one, two)
        found = one.records()
        assert found == two.records(), f"seed {seed}"
        for key, before in expected.items():
            allowed = {edits[key] for edits in made if key in edits} or {before}
            assert found[key] in allowed, f"seed {seed}: {key}"
        expected = found
