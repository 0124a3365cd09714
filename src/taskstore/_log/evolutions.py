"""The evolutions that a store directory states, for readers without a cache."""

from __future__ import annotations

import os

from taskstore._evolution.decoding import COLLECTION
from taskstore._evolution.graph import Graph, graphs_of
from taskstore._evolution.names import Names
from taskstore._evolution.shape import Shape
from taskstore._format.lines import LineError, decode_key
from taskstore._log import files
from taskstore._log.files import access
from taskstore._log.layout import Layout
from taskstore._log.lines import BOM, split_lines
from taskstore._log.replay import LogChangedError, replay
from taskstore.errors import StoreAccessError

_ATTEMPTS = 10


def read_stated(layout: Layout) -> dict[str, bytes]:
    """Return the lines that state evolutions, by id; nothing where none are stated.

    Raises:
        StoreAccessError: They cannot be read.
    """
    path = layout.log_path(COLLECTION)
    for _ in range(_ATTEMPTS):
        with access(path):
            try:
                fd = files.open_log(path)
            except FileNotFoundError:
                return {}
            try:
                found = replay(fd, collection=COLLECTION, path=str(path))
                winners = [one for one in found.winners(fd) if not one.deleted]
            except LogChangedError:
                continue
            finally:
                os.close(fd)
        return {one.id: one.line.encode() for one in winners}
    raise StoreAccessError(path, operation="read", reason="another program keeps changing it")


def stated_in(data: bytes) -> dict[str, bytes]:
    """Return the lines that state evolutions in the content of such a file, by id."""
    found: dict[str, tuple[int, bool, bytes]] = {}
    for line in split_lines([data.removeprefix(BOM)]):
        raw = (line.raw or b"").strip()
        try:
            id, order_us, deleted, _, _ = decode_key(raw)
        except LineError:
            continue  # a problem of the log, which is reported where that is read
        if id not in found or found[id][0] <= order_us:
            found[id] = order_us, deleted, raw
    return {id: raw for id, (_, deleted, raw) in found.items() if not deleted}


def read_graphs(layout: Layout) -> dict[str, Graph]:
    """Return the evolutions of each collection.

    Raises:
        StoreAccessError: They cannot be read.
    """
    return graphs_of(sorted(read_stated(layout).items()))[0]


def newest_shapes(layout: Layout) -> dict[str, Shape]:
    """Return the newest shape of each collection that has evolved.

    Raises:
        StoreAccessError: The evolutions cannot be read.
    """
    return {name: Shape(graph, graph.whole) for name, graph in read_graphs(layout).items()}


def read_names(layout: Layout) -> Names:
    """Return the names of the collections.

    Raises:
        StoreAccessError: The evolutions cannot be read.
    """
    return Names(newest_shapes(layout))
