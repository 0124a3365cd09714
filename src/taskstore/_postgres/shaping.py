"""In which shape a database has the rows of each collection, and its lines.

The shape of a mirrored collection is that of its table: the evolutions that the migrations of this
database have applied. Its lines are stored in the same shape. After a migration they are brought to
the new one before anything else is written or read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from sqlalchemy.engine import Connection

from taskstore._cache.evolution.fingerprint_rows import State
from taskstore._cache.evolution.marks import Mark
from taskstore._cache.rows.records import Stored
from taskstore._evolution.decoding import encode_evolution
from taskstore._evolution.names import names_given
from taskstore._format.names import EVOLUTIONS
from taskstore._mirror.model.shape import Mirror, Row
from taskstore._mirror.projection.wanted_rows import equals
from taskstore._postgres.cache import CacheTables, Recorded
from taskstore._postgres.context import PostgresContext
from taskstore._postgres.outbox import Change, rows_now
from taskstore._store.shapes import Shapes, load_shapes
from taskstore.errors import InvalidDeclarationError, UnsupportedError

_AT_ONCE = 5000


@attrs.frozen
class _Rows:
    """The part of the cache that `load_shapes` reads."""

    stated: Mapping[str, str]
    recorded: Recorded

    def lines(self, collection: str) -> Iterator[tuple[str, str]]:
        yield from self.stated.items()

    def evolutions(self) -> dict[str, list[State]]:
        return self.recorded.evolutions

    def fingerprint(self, collection: str) -> None:
        return None

    def mirror_states(self) -> dict[str, str]:
        # A table whose log was read or written was there, too.
        return {name: name for name in {*self.recorded.shapes, *self.recorded.tables}}


@attrs.define
class Shaping:
    """The shapes of the collections, in a transaction.

    Attributes:
        context: The store.
        connection: In the transaction.
        shapes: The shapes.
    """

    context: PostgresContext
    connection: Connection
    shapes: Shapes = attrs.field(init=False)
    _recorded: Recorded = attrs.field(init=False)
    _tables: CacheTables = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tables = CacheTables(self.connection, self.context.store.models)
        self._load()

    def _load(self) -> None:
        context = self.context
        self._recorded = self._tables.recorded()
        rows: Any = _Rows(context.stated.lines(), self._recorded)
        self.shapes = load_shapes(rows, context.mirrors)
        for log, shape in self.shapes.by_collection.items():
            if log not in context.mirrors and names_given(shape.graph):
                raise UnsupportedError(
                    operation=f"the renamed collection of records in {log}.jsonl",
                    remedy="use a store on SQLite for it",
                )

    def use(self) -> None:
        """Let the store read and write lines in these shapes. The caller holds the log lock."""
        self.context.store.shapes = self.shapes
        notes = {name: Mark.parsed(text) for name, text in self._recorded.tables.items()}
        self.context.hidden = self._recorded.hidden
        self.context.marks = {name: mark for name, mark in notes.items() if mark is not None}

    def begin(self) -> None:
        """Record, when a store is opened, which shape its tables have.

        A table that was never seen here has the newest shape, unless migrations have said so.
        """
        recorded = self._recorded
        for name, shape in self.shapes.by_collection.items():
            is_new = name not in recorded.tables and name not in recorded.shapes
            if name in self.context.mirrors and name not in recorded.evolutions and is_new:
                self._tables.note_evolutions(
                    name,
                    [
                        State(revision, encode_evolution(one).decode(), applied=True)
                        for revision, one in shape.graph.evolutions.items()
                    ],
                )
        missing = self.context.mirrors.keys() - recorded.tables.keys()
        if missing:
            self._tables.note_tables(sorted(missing))
        self._load()
        self.context.reached = {name: self._reached(name) for name in self.context.mirrors}
        self.use()

    def _reached(self, name: str) -> tuple[frozenset[str], frozenset[str]]:
        shape = self.shapes.of(name)
        return shape.position, shape.reverted

    def check_reached(self) -> None:
        """Raise if the tables were migrated since the store was opened.

        Raises:
            InvalidDeclarationError: They were, so the models of the program are those of before.
        """
        for name, mirror in self.context.mirrors.items():
            if self.context.reached.get(name, self._reached(name)) != self._reached(name):
                raise InvalidDeclarationError(
                    mirror.name,
                    reason=f"the table {mirror.table.name!r} was migrated while the store was "
                    "open: start the program again, with the models of the new revision; what "
                    "waits for the log stays in the database",
                )

    def late(self) -> list[str]:
        """Return the collections whose lines are stored in another shape."""
        return sorted(
            name
            for name, signature in self._recorded.shapes.items()
            if name != EVOLUTIONS and signature != self.shapes.of(name).signature
        )

    def state_pending(self) -> None:
        """Write evolutions into the log that only the database states."""
        store, pending = self.context.store, self.shapes.pending
        if not pending:
            return
        known = self._tables.fingerprints().get(EVOLUTIONS)
        appended = store.writer.append({EVOLUTIONS: list(pending.values())}, {EVOLUTIONS: known})
        # As with every line: if the commit fails, it is found there.
        appended.retire()
        store.recovered += appended.problems
        fingerprint = appended.fingerprints[EVOLUTIONS]
        if fingerprint is not None:
            self._tables.put_fingerprint(EVOLUTIONS, fingerprint, store.clock())

    def move(self, collection: str) -> None:
        """Bring the stored lines of a collection to its shape.

        A line that cannot be brought to it is dropped here: the log has it.
        """
        shape, signature = self.shapes.of(collection), self._recorded.shapes[collection]
        for ids in _pages(self._tables.ids(collection)):
            moved: dict[str, Stored] = {}
            lost: list[str] = []
            for id, known in self._tables.stored(collection, ids).items():
                assert known.line is not None
                line = shape.moved(known.line, signature)
                if line is None:
                    lost.append(id)
                elif line != known.line:
                    moved[id] = Stored(line, known.order_us)
            self._tables.replace(collection, moved, lost)
        self._tables.set_shape(collection, shape.signature)


def rows_that_differ(
    connection: Connection, tables: CacheTables, mirror: Mirror, ids: Sequence[str]
) -> Iterator[list[Change]]:
    """Yield the rows of a migrated table that are not what their lines say.

    DDL that computes values fires no triggers, so nothing else tells of them. The time of a change
    is 0: its line is as old as it can be, so what others have edited meanwhile is newer.

    Args:
        connection: In a transaction that holds the table.
        tables: Our tables there.
        mirror: The model.
        ids: The records to look at.
    """
    for some in _pages(ids):
        stored = tables.stored(mirror.collection, some)
        there = rows_now(connection, mirror, some)
        found = [
            Change(seq, "", id, row, 0)
            for seq, (id, row) in enumerate(there.items())
            if not row.flaw and not _is_same(mirror, id, stored[id].line, row)
        ]
        if found:
            yield found


def _is_same(mirror: Mirror, id: str, line: str | None, row: Row) -> bool:
    if line is None:
        return False
    try:
        wanted = mirror.decoded(id, line)
    except ValueError:
        return False
    return wanted.shape is row.shape and equals(mirror, wanted, row)


def _pages(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]
