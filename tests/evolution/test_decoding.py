"""Evolutions as a stranger may write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskstore._evolution.decoding import MAX_NAMES, decode_evolution
from taskstore._evolution.graph import Clash, clashes, graphs_of

GOOD: dict[str, Any] = {
    "id": "tasks@r1",
    "collection": "tasks",
    "revision": "r1",
    "parents": [],
    "steps": [{"rename": {"title": "name"}}],
}


def text(**changes: Any) -> bytes:
    """An evolution's line with some changes."""
    return json.dumps(GOOD | changes).encode()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"more": 1}, "has the keys"),
        ({"id": "tasks@r2"}, "its id must be 'tasks@r1'"),
        ({"collection": "../x"}, "invalid collection name"),
        ({"collection": "evolutions"}, "cannot evolve"),
        ({"revision": "a+b"}, "is not a revision"),
        ({"revision": 1}, "is not a revision"),
        ({"parents": "r0"}, "a list is expected"),
        ({"parents": [None]}, "is not a revision"),
        ({"steps": [{"rename": {}, "drop": []}]}, "a step has one key"),
        ({"steps": [{"run": "rm"}]}, "a step has one key"),
        ({"steps": [{"drop": ["x"]}] * 101}, "at most 100"),
        ({"steps": [{"drop": ["x"] * (MAX_NAMES + 1)}]}, "at most"),
        ({"steps": [{"rename": {"id": "x"}}]}, "belongs to the format"),
        ({"steps": [{"rename": {"x": "$revision"}}]}, "belongs to the format"),
        ({"steps": [{"rename": {"x": "z", "y": "z"}}]}, "one name"),
        ({"steps": [{"rename": {"x": ""}}]}, "is not a field"),
        ({"steps": [{"convert": {"x": "list"}}]}, "a type is one of"),
        ({"steps": [{"convert": {"x": ["int", None]}}]}, "needs a type"),
        ({"steps": [{"convert": {"x": "int", "y": "int"}}]}, "one field"),
        ({"steps": [{"map": {"x": [["a"]]}}]}, "pairs"),
        ({"steps": [{"map": {"x": [[["a"], 1]]}}]}, "an old value must be"),
        ({"steps": [{"split": {"x": {"into": ["x", "y"], "separator": " "}}}]}, "part of itself"),
        ({"steps": [{"join": {"x": {"fields": ["y"], "separator": " "}}}]}, "at least two"),
        ({"steps": [{"join": {"x": {"fields": ["y", "y"], "separator": " "}}}]}, "at least two"),
        ({"steps": [{"join": {"x": {"fields": ["y", "z"], "separator": ""}}}]}, "separator"),
        ({"steps": [{"default": 1}]}, "a JSON object is expected"),
    ],
)
def test_what_is_no_evolution(changes: dict[str, Any], reason: str) -> None:
    """Each fault of a line is refused with its reason."""
    with pytest.raises(ValueError, match=reason):
        decode_evolution(text(**changes))


def lines(**parents: list[str]) -> list[tuple[str, bytes]]:
    """Evolutions by their revisions, each with its parents."""
    return [
        (f"tasks@{name}", text(id=f"tasks@{name}", revision=name, parents=before))
        for name, before in parents.items()
    ]


def test_circles_and_gaps() -> None:
    """Revisions whose parents are missing, or follow them, are faults; the others can be used."""
    graphs, faults = graphs_of(lines(a=[], b=["c"], c=["b"], d=["x"], e=["a"]))
    assert ["a", "e"] == list(graphs["tasks"].evolutions)
    assert {"tasks@b", "tasks@c", "tasks@d"} == faults.keys()


def test_too_much_in_all() -> None:
    """What exceeds a mebibyte in all is not read, so that a record cannot grow by more."""
    big = [
        (name, text(id=name, revision=name[6:], steps=[{"default": {"x": "y" * 300_000}}]))
        for name in ("tasks@r1", "tasks@r2", "tasks@r3", "tasks@r4")
    ]
    graphs, faults = graphs_of(big)
    assert ["r1", "r2", "r3"] == list(graphs["tasks"].evolutions)
    assert ["tasks@r4"] == list(faults)


def test_the_order_is_that_of_the_graph() -> None:
    """Evolutions come after their parents, and by name where that leaves a choice."""
    graphs, _ = graphs_of(sorted(lines(a=["z"], z=[], m=["z"], b=["m", "a"])))
    graph = graphs["tasks"]
    assert ["z", "a", "m", "b"] == list(graph.evolutions)
    assert "a+m" == graph.name_of(graph.closure(["m", "a"]) or frozenset())
    assert "b" == graph.name_of(graph.whole)


def test_branches_that_touch_one_field() -> None:
    """Two branches that change one field are named; revisions of one line are not."""
    graphs, _ = graphs_of(lines(a=[], b=["a"], c=["a"]))
    assert [Clash("b", "c", ("name", "title"))] == clashes(graphs["tasks"])
    graphs, _ = graphs_of(lines(a=[], b=["a"], c=["b"], d=["c"]))
    assert [] == clashes(graphs["tasks"])


def test_a_later_revision_settles_a_clash() -> None:
    """A revision that follows both branches and touches the field says what is meant."""
    graphs, _ = graphs_of(lines(b=[], c=[], d=["b", "c"], e=["d"]))
    assert [] == clashes(graphs["tasks"])
    graphs, _ = graphs_of(lines(b=[], c=[], d=["b"]))
    assert {("b", "c"), ("c", "d")} == {(one.first, one.second) for one in clashes(graphs["tasks"])}
