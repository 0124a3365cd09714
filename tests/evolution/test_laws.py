"""What holds for every evolution, whatever its steps are."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskstore._evolution.decoding import (
    decode_evolution,
    decode_steps,
    encode_evolution,
    encode_steps,
)
from taskstore._evolution.graph import Graph
from taskstore._evolution.shape import NO_SHAPE, Shape
from taskstore._evolution.steps import Convert, Map, Rename, Step, inverse_of
from taskstore._format.lines import REVISION_KEY as KEY
from taskstore._merge.three_way import merge_logs
from tests.evolution.graphs import graphs, line_of, records, shapes, steps


def applied(made: tuple[Step, ...], record: dict[str, Any]) -> dict[str, Any]:
    """A record after some steps."""
    graph = Graph.of([decode_evolution(encode_evolution(evolution_of(made)))])
    line = Shape(graph, graph.whole).read(line_of(record))
    assert line is not None
    found: dict[str, Any] = json.loads(line)
    del found["id"]
    return found


def evolution_of(made: tuple[Step, ...]) -> Any:
    """An evolution of these steps."""
    from taskstore._evolution.decoding import Evolution

    return Evolution("tasks", "r1", (), made)


@given(st.lists(steps(), max_size=4))
def test_steps_survive_a_round_trip(made: list[Step]) -> None:
    """An evolution that is encoded and decoded is the same as before."""
    evolution = evolution_of(tuple(made))
    assert evolution == decode_evolution(encode_evolution(evolution))


@given(st.data(), graphs(), records)
def test_reading_twice_changes_nothing(data: Any, graph: Graph, record: dict[str, Any]) -> None:
    """A line that was brought to a shape and written in it reads as it is."""
    shape = data.draw(shapes(graph))
    read = shape.read(line_of(record))
    assert read is not None
    again = shape.stamped(read.encode(), "tasks").decode()
    assert read == shape.read(again)
    assert KEY not in json.loads(read)


@given(st.data(), graphs(), records)
def test_one_way_is_as_good_as_two(data: Any, graph: Graph, record: dict[str, Any]) -> None:
    """Reading by way of a shape on the line of evolution gives what reading at once gives."""
    order = list(graph.evolutions)
    place = data.draw(st.integers(0, len(order)))
    middle = Shape(graph, frozenset(order[:place]))
    newest = Shape(graph, graph.whole)
    if graph.closure(middle.position) != middle.position:
        return
    read = middle.read(line_of(record))
    assert read is not None
    written = middle.stamped(read.encode(), "tasks").decode()
    assert newest.read(line_of(record)) == newest.read(written)


@given(st.data(), graphs(), records)
def test_a_newer_line_is_not_read(data: Any, graph: Graph, record: dict[str, Any]) -> None:
    """A line is read where its shape lies behind, and else there is a reason why not."""
    written, shape = data.draw(shapes(graph)), data.draw(shapes(graph))
    line = written.stamped(line_of(record).encode(), "tasks")
    is_behind = written.position <= shape.position
    assert is_behind == (shape.read(line.decode()) is not None)
    mark = json.loads(line).get(KEY)
    assert is_behind == (mark is None or shape.lacks(mark) is None)


@given(st.data(), graphs(), records)
def test_what_was_taken_back_is_read(data: Any, graph: Graph, record: dict[str, Any]) -> None:
    """Lines of an evolution that was reverted are read, and read on again as they were."""
    shape = data.draw(shapes(graph))
    newest = Shape(graph, graph.whole)
    reverted = Shape(graph, shape.position, graph.whole - shape.position)
    first = newest.read(line_of(record))
    assert first is not None
    line = newest.stamped(first.encode(), "tasks").decode()
    assert reverted.read(line) is not None


reversible = st.one_of(
    st.permutations(["p", "q", "r"]).map(
        lambda new: Rename(dict(zip(["a", "b", "c"], new, strict=True)))
    ),
    st.sampled_from([Convert("a", "int", "str"), Convert("b", "str", "int")]),
    st.just(Map("c", {b'"low"': b"1", b'"high"': b"2", b"null": b'"none"'})),
)
fitting = st.fixed_dictionaries(
    {},
    optional={
        "a": st.integers(-99, 99).map(str),
        "b": st.integers(-99, 99),
        "c": st.sampled_from(["low", "high", None]),
        "d": st.sampled_from(["x", 1, None]),
    },
)


@given(reversible, fitting)
def test_a_reversible_step_and_its_inverse_cancel(step: Step, record: dict[str, Any]) -> None:
    """Forward and back, a record of the old shape is what it was."""
    assert record == applied((step, *inverse_of((step,))), record)


@given(st.data(), reversible)
def test_merging_and_reading_commute(data: Any, step: Step) -> None:
    """Old versions merge to what their newer readings merge to."""
    made = tuple(decode_steps(encode_steps((step,))))
    graph = Graph.of([evolution_of(made)])
    shape = Shape(graph, graph.whole)

    def merged(versions: list[str], shape: Shape) -> dict[str, Any]:
        base, ours, theirs = (b"%b\n" % line.encode() for line in versions)
        found = merge_logs(base, ours, theirs, graph=graph)
        read = shape.read(found.data.decode().splitlines()[-1])
        assert read is not None
        record: dict[str, Any] = json.loads(read)
        return record | {"updated_at": 0}

    times = data.draw(st.permutations([1, 2, 3]))
    old = [line_of({"updated_at": time, **data.draw(fitting)}) for time in times]
    read = [shape.read(line) or "" for line in old]
    new = [shape.stamped(line.encode(), "tasks").decode() for line in read]
    assert merged(old, shape) == merged(new, shape)
    # In mixed shapes as well.
    assert merged(old, shape) == merged([old[0], new[1], old[2]], shape)


def test_what_has_not_evolved_pays_nothing() -> None:
    """Without evolutions, winners and lines are passed through as they are, in both directions."""
    line = '{"id":"a","title":"A"}'
    winners = iter([("a", 1, False, line)])
    assert winners is NO_SHAPE.winners(winners, marked=False)
    assert line is NO_SHAPE.read(line)
    lines = [line.encode()]
    assert lines is NO_SHAPE.stamped_all(lines, "tasks")
