"""Made-up evolutions: steps, graphs with branches and merges, and records to read."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from taskstore._evolution.decoding import Evolution, decode_steps
from taskstore._evolution.graph import Graph
from taskstore._evolution.shape import Shape
from taskstore._evolution.steps import Step

FIELDS = ["a", "b", "c", "d", "e"]

names = st.sampled_from(FIELDS)
scalars = st.sampled_from(["x", "y z", "x y z", "", "7", "-1.5", 7, 0, 2.0, True, False, None])
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(names, scalars, max_size=2)
types = st.sampled_from(["int", "float", "str", "bool"])
some = st.lists(names, min_size=1, max_size=3, unique=True)
parts = st.lists(names, min_size=2, max_size=3, unique=True)


@st.composite
def steps(draw: Any) -> Step:
    """One step of any kind."""
    kind = draw(st.sampled_from(["rename", "drop", "default", "convert", "map", "split", "join"]))
    name = draw(names)
    others = [part for part in draw(parts) if part != name] or []
    others += [other for other in FIELDS if other not in (name, *others)][: 2 - len(others)]
    content: Any = {
        "rename": dict(zip(draw(some), draw(st.permutations(FIELDS)), strict=False)),
        "drop": draw(some),
        "default": {name: draw(values)},
        "convert": {name: draw(types | st.tuples(types, types).map(list))},
        "map": {name: draw(st.lists(st.tuples(scalars, values).map(list), max_size=3))},
        "split": {name: {"into": others, "separator": " "}},
        "join": {name: {"fields": others, "separator": " "}},
    }[kind]
    [step] = decode_steps([{kind: content}])
    return step


@st.composite
def graphs(draw: Any) -> Graph:
    """Evolutions of one collection, with branches and merges."""
    found: list[Evolution] = []
    for revision in draw(st.permutations(["r1", "r2", "r3", "r4"]))[: draw(st.integers(1, 4))]:
        before = [one.revision for one in found]
        parents = draw(st.lists(st.sampled_from(before), unique=True)) if before else []
        made = tuple(draw(st.lists(steps(), min_size=1, max_size=3)))
        found.append(Evolution("tasks", revision, tuple(parents), made))
    return Graph.of(found)


@st.composite
def shapes(draw: Any, graph: Graph) -> Shape:
    """A place in a graph."""
    revisions = draw(st.lists(st.sampled_from(sorted(graph.whole)), unique=True))
    position = graph.closure(revisions)
    assert position is not None
    return Shape(graph, position)


records = st.dictionaries(names, values, max_size=5)


def line_of(record: dict[str, Any], id: str = "t-1") -> str:
    """A record as a compact line."""
    return json.dumps({"id": id, **record}, separators=(",", ":"), ensure_ascii=False)
