"""The revisions of the lines in logs, and what a step would do to the records."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs

from taskstore._evolution.decoding import COLLECTION, Evolution, decode_steps
from taskstore._evolution.graph import Graph, clashes
from taskstore._evolution.shape import NO_SHAPE, Shape
from taskstore._evolution.steps import Convert, Join, Split, Step
from taskstore._format.lines import LineError, decode_key, decode_object, raw_fields
from taskstore._log import files
from taskstore._log.evolutions import newest_shapes, read_graphs
from taskstore._log.files import access
from taskstore._log.layout import Layout
from taskstore._log.lines import read_lines


@attrs.frozen
class RevisionCount:
    """The number of lines of one revision in a log.

    Attributes:
        collection: The collection.
        revision: The revision, or several from branches; empty before the first.
        lines: How many lines name it.
        records: How many of these lines are the newest of a live record.
        known: Whether evolutions.jsonl states it.
    """

    collection: str
    revision: str
    lines: int
    records: int
    known: bool


@attrs.frozen
class Preview:
    """What a step would do to the records of a collection.

    Attributes:
        records: How many live records there are.
        changed: How many would change.
        unfit: Why a value does not fit the step, by id.
    """

    records: int
    changed: int
    unfit: dict[str, str]


def count_revisions(layout: Layout, collection: str | None) -> Iterator[RevisionCount]:
    """Yield the number of lines of each revision in the logs, the oldest first.

    Raises:
        StoreAccessError: A log cannot be read.
    """
    shapes = newest_shapes(layout)
    for name in [collection] if collection is not None else layout.collections()[0]:
        if name == COLLECTION:
            continue
        shape = shapes.get(name, NO_SHAPE)
        lines: Counter[str] = Counter()
        winners: dict[str, tuple[int, str | None]] = {}
        for id, order_us, deleted, mark, _ in _records(layout, name):
            lines[mark] += 1
            if order_us >= winners.get(id, (order_us, ""))[0]:
                winners[id] = order_us, None if deleted else mark
        live = Counter(mark for _, mark in winners.values() if mark is not None)
        for mark in sorted(lines, key=lambda mark: _place(shape.graph, mark)):
            known = not mark or shape.lacks(mark) is None
            yield RevisionCount(name, mark, lines[mark], live[mark], known)


def find_clashes(layout: Layout, collection: str | None) -> list[str]:
    """Return which evolutions of a collection, or of all, touch the same fields, as text.

    Raises:
        StoreAccessError: The evolutions cannot be read.
    """
    return [
        f"{name}: {clash}"
        for name, graph in sorted(read_graphs(layout).items())
        if collection in (None, name)
        for clash in clashes(graph)
    ]


def preview(layout: Layout, collection: str, step: str) -> Preview:
    """Return what a step would do to the records as they are read today.

    Args:
        layout: The store directory.
        collection: The collection.
        step: The step, as JSON.

    Raises:
        ValueError: It is not a step. The message is only the reason.
        StoreAccessError: The log cannot be read.
    """
    try:
        steps = decode_steps([json.loads(step)])
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    shape = newest_shapes(layout).get(collection, NO_SHAPE)
    next_graph = Graph.of([Evolution(collection, "next", (), steps)])
    after = Shape(next_graph, next_graph.whole)
    winners: dict[str, tuple[int, str | None]] = {}
    for id, order_us, deleted, _, raw in _records(layout, collection):
        if order_us >= winners.get(id, (order_us, None))[0]:
            winners[id] = order_us, None if deleted else shape.read(raw.decode())
    records = {id: line for id, (_, line) in sorted(winners.items()) if line is not None}
    changed, unfit = 0, {}
    for id, line in records.items():
        new = after.read(line) or line
        changed += decode_object(new) != decode_object(line)
        if reason := _misfit(steps[0], raw_fields(line), raw_fields(new)):
            unfit[id] = reason
    return Preview(len(records), changed, unfit)


def _misfit(step: Step, before: dict[str, bytes], after: dict[str, bytes]) -> str | None:
    """Return why a record's value does not fit a step; None if it does."""
    if isinstance(step, Convert) and step.name in after and not step.fits(after[step.name]):
        return f"{step.name} is {_shown(after[step.name])}, which is not a valid {step.to}"
    if isinstance(step, Split) and step.name in before and step.name in after:
        return f"{step.name} is {_shown(after[step.name])}, which is not text"
    if isinstance(step, Join) and any(name in after for name in step.names):
        return f"{', '.join(step.names)} are not all texts"
    return None


def _shown(raw: bytes) -> str:
    text = raw.decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


def _place(graph: Graph, mark: str) -> tuple[int, str]:
    order = list(graph.evolutions)
    places = [order.index(name) for name in mark.split("+") if name in graph.evolutions]
    return (0 if not mark else 1 + max(places, default=len(order))), mark


def _records(layout: Layout, name: str) -> Iterator[tuple[str, int, bool, str, bytes]]:
    """Yield id, order, tombstone mark, revision and bytes of each line that is a record."""
    path = layout.log_path(name)
    with access(path):
        fd = files.open_log(path)
        try:
            for line in read_lines(fd):
                try:
                    id, order_us, deleted, _, mark = decode_key(line.raw or b"")
                except LineError:
                    continue  # a problem line, which `doctor` reports
                yield id, order_us, deleted, _text(mark), (line.raw or b"").strip()
        finally:
            os.close(fd)


def _text(mark: Any) -> str:
    return mark if isinstance(mark, str) else "" if mark is None else json.dumps(mark)
