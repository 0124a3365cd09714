"""Verifying mirrored tables against the records that they are made of."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
from sqlalchemy.engine import Connection

from taskstore._cache.rows.rows import Rows
from taskstore._format.problems import Problem
from taskstore._mirror.model.registry import registry
from taskstore._mirror.model.shape import Mirror
from taskstore._mirror.projection.sync import problems_of
from taskstore._mirror.projection.wanted_rows import equals
from taskstore._mirror.tables.reading import ids_in, read_rows
from taskstore._store.context import StoreContext
from taskstore._sync.verification import Difference


@attrs.define
class MirrorVerification:
    """Compares mirrored tables with the records that they are made of."""

    context: StoreContext
    connection: Connection
    rows: Rows
    problems: list[Problem] = attrs.field(factory=list)

    def run(self) -> Iterator[Difference]:
        """Yield the differences; rows that were never logged, or are refused, are problems."""
        for mirror in registry(self.context):
            refused = self.rows.problems(mirror.collection)
            self.problems += problems_of(self.context, mirror, refused)
            seen: set[str] = set()
            flaws: list[str] = []
            for page in ids_in(self.connection, mirror, flaws):
                yield from self._page(mirror, page, refused, seen)
            for flaw in flaws:
                self._flawed(mirror, None, flaw)
            for id, line in self.rows.lines(mirror.collection):
                if id not in seen and id not in refused:
                    yield Difference(mirror.collection, id, "row", line, None)

    def _page(
        self, mirror: Mirror, page: list[str], refused: dict[str, str], seen: set[str]
    ) -> Iterator[Difference]:
        collection = mirror.collection
        stored = self.rows.stored(collection, page)
        current = read_rows(self.connection, mirror, page, lenient=True)
        # A record without its row in the table of its class is not there.
        seen.update(current)
        for id in page:
            known, row = stored.get(id), current.get(id)
            if id in refused or row is None:
                continue
            if row.flaw:
                self._flawed(mirror, id, row.flaw)
            elif known is None:
                self._unlogged(mirror, id)
            if known is None:
                continue
            if known.line is None:
                yield Difference(collection, id, "row", None, row.values)
            else:
                try:
                    wanted = mirror.decoded(id, known.line)
                    is_same = wanted.shape is row.shape and equals(mirror, wanted, row)
                except ValueError:
                    is_same = False
                if not is_same:
                    yield Difference(collection, id, "row", known.line, row.values)

    def _flawed(self, mirror: Mirror, id: str | None, flaw: str) -> None:
        path = str(self.context.layout.log_path(mirror.collection))
        self.problems.append(Problem(mirror.collection, path, None, flaw, id))

    def _unlogged(self, mirror: Mirror, id: str) -> None:
        path = str(self.context.layout.log_path(mirror.collection))
        self.problems.append(
            Problem(
                mirror.collection,
                path,
                None,
                f"a row of {mirror.table.name!r} that was never logged: "
                f"store.export({mirror.name}) writes it",
                id,
            )
        )
