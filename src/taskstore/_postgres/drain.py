"""From the outbox into the logs, one batch after the other.

A batch is appended and on the disk before the transaction that deletes its rows commits. Where a
crash comes in between, its rows are still there, and the same lines are made of them again. Then
the log does not look as the database knows it, so it is searched for them, and those that it has
are not appended once more.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

import attrs
from sqlalchemy import update
from sqlalchemy.engine import Connection

from taskstore._evolution.shape import with_stamp
from taskstore._format.fingerprint import NOTHING_READ, Fingerprint
from taskstore._log import files
from taskstore._log.files import access
from taskstore._log.lines import read_lines
from taskstore._mirror.capture.missing_logs import missing_error
from taskstore._mirror.model.shape import Mirror
from taskstore._postgres.cache import CacheTables
from taskstore._postgres.context import PostgresContext, projecting
from taskstore._postgres.joined import Joiner
from taskstore._postgres.lines import LineMaker
from taskstore._postgres.numbers import Naming
from taskstore._postgres.outbox import (
    Batch,
    Change,
    ChangeReader,
    brought_up,
    delete_batch,
    ids_of_problems,
    mirror_of,
    next_batch,
    put_problems,
)
from taskstore._postgres.pulled import Pulled, read_pulled
from taskstore._postgres.records.rows import own_lines
from taskstore._sync.freshness import looks_fresh


@attrs.frozen
class Drained:
    """What a drain did.

    Attributes:
        lines: How many lines were appended.
        more: Whether there may be another batch.
    """

    lines: int
    more: bool


class BatchGrownError(Exception):
    """A batch has rows of tables that could be migrated while it is read.

    To a snapshot from before, a rewritten table looks empty, and its rows look deleted.
    """

    def __init__(self, collections: Collection[str]) -> None:
        super().__init__(collections)
        self.collections = collections


@attrs.define
class Drain:
    """One batch, in a transaction and under the log lock.

    Attributes:
        context: The store.
        connection: In the transaction.
        reshaped: The collections whose lines have just got another shape, so that their logs may
            have lines that could not be read before.
        tables: Our tables there.
    """

    context: PostgresContext
    connection: Connection
    reshaped: Collection[str] = ()
    tables: CacheTables = attrs.field(init=False)
    _known: dict[str, Fingerprint] | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.tables = CacheTables(self.connection, self.context.store.models)

    def run(self) -> Drained:
        """Append the next batch, and delete its rows from the outbox.

        Raises:
            LogWriteError, CommitUncertainError: The lines could not be written.
            MissingLogError: A log that had lines is gone.
            InvalidDeclarationError: The outbox has rows of a model that the store does not know.
            BatchGrownError: The tables of its collections are not all held.
        """
        outbox = self.context.outbox
        found = next_batch(self.connection, outbox)
        if found is None:
            return Drained(0, more=False)
        if self.context.held is not None and not self.context.held.issuperset(found.collections):
            raise BatchGrownError(found.collections)
        mirrors = [mirror_of(self.context.mirrors, name) for name in sorted(found.collections)]
        naming = Naming(
            self.connection, self.context.store.models, outbox, self.context.store.mark.id
        )
        naming.load(mirrors, found.end)
        # Rows that are read from their tables have ids, too.
        naming.save()
        makers = [self._made(mirror, naming, found) for mirror in mirrors]
        batch = {maker.mirror.collection: list(maker.lines.values()) for maker in makers}
        if found.has_own:
            batch |= self._own_lines(found.end)
        written = self._append({name: lines for name, lines in batch.items() if lines})
        for maker in makers:
            self._store(maker)
        refused = [change for maker in makers for change in maker.refused]
        solved = {maker.mirror.collection: maker.solved for maker in makers if maker.solved}
        is_doubtful = refused or found.has_problems
        put_problems(self.connection, outbox, refused, solved if is_doubtful else {})
        delete_batch(self.connection, outbox, found.end)
        return Drained(written, more=not found.is_last)

    def _made(self, mirror: Mirror, naming: Naming, batch: Batch) -> LineMaker:
        connection, outbox = self.connection, self.context.outbox
        changes = [
            change
            for table in mirror.tables
            for change in ChangeReader(
                connection, outbox, mirror, table, naming, self.context.marks.get(mirror.collection)
            ).read(batch.end)
        ]
        ids = list({change.id for change in changes if change.id})
        maker = self._maker(mirror, ids)
        maker.pulled = self._pulled(maker, ids)
        if mirror.is_joined:
            doubtful = {change.id for change in changes if change.problem or change.is_stale}
            if batch.has_problems:
                doubtful |= ids_of_problems(connection, outbox, mirror.collection)
            changes = Joiner(connection, mirror, maker.stored, doubtful & {*ids}).joined(changes)
        else:
            changes = brought_up(connection, mirror, changes)
        maker.add(changes)
        return maker

    def _maker(self, mirror: Mirror, ids: Sequence[str]) -> LineMaker:
        stored = self.tables.stored(mirror.collection, ids)
        return LineMaker(mirror, stored, self.context.store.shapes.of(mirror.collection))

    def _pulled(self, maker: LineMaker, ids: Sequence[str]) -> Pulled | None:
        """Read what the log has of some records that the tables do not have; None for nothing."""
        name, layout = maker.mirror.collection, self.context.store.layout
        is_fresh = looks_fresh(self._fingerprints().get(name), layout.stat_log(name))
        is_hidden = not self.context.hidden.get(name, set()).isdisjoint(ids)
        if is_fresh and not is_hidden and name not in self.reshaped:
            return None
        return read_pulled(layout, name, maker.evolved, maker.stored, ids)

    def write(self, mirror: Mirror, changes: Sequence[Change]) -> None:
        """Append lines of rows that nothing has put into the outbox."""
        maker = self._maker(mirror, [change.id for change in changes])
        maker.add(changes)
        self._append({mirror.collection: list(maker.lines.values())} if maker.lines else {})
        self._store(maker)

    def _store(self, maker: LineMaker) -> None:
        collection = maker.mirror.collection
        changed = {id: maker.stored[id] for id in maker.touched if id in maker.stored}
        self.tables.put(collection, changed, maker.before)
        self._restamp(maker)

    def _own_lines(self, end: int) -> dict[str, list[bytes]]:
        """Return the lines of the store's own records, in the shape that they were written in."""
        known = self._fingerprints()
        shapes = self.context.store.shapes
        found = {}
        for name, lines in own_lines(self.connection, self.context.outbox, end).items():
            signature = known[name].shape if name in known else shapes.of(name).signature
            found[name] = [with_stamp(line.decode(), signature).encode() for line in lines]
        return found

    def _fingerprints(self) -> dict[str, Fingerprint]:
        """Return what was recorded of the logs before this batch."""
        if self._known is None:
            self._known = self.tables.fingerprints()
        return self._known

    def _append(self, batch: Mapping[str, Sequence[bytes]]) -> int:
        if not batch:
            return 0
        store = self.context.store
        known = self._fingerprints()
        missing = {
            name: self._missing(name, lines, known.get(name)) for name, lines in batch.items()
        }
        appended = store.writer.append(missing, known)
        # Nothing is ever taken back: if the commit fails, the next drain finds the lines there.
        appended.retire()
        store.recovered += appended.problems
        for name, fingerprint in appended.fingerprints.items():
            if fingerprint is None and known.get(name) is None:
                # Rows without a trace of their log would outlive it.
                fingerprint = NOTHING_READ
            if fingerprint is not None:
                if known.get(name) is None:
                    signature = store.shapes.of(name).signature
                    fingerprint = fingerprint._replace(shape=signature)
                self.tables.put_fingerprint(name, fingerprint, store.clock())
        return sum(map(len, missing.values()))

    def _missing(
        self, collection: str, lines: Sequence[bytes], known: Fingerprint | None
    ) -> list[bytes]:
        """The lines that a log does not have yet."""
        found = self.context.store.layout.stat_log(collection)
        if known is not None and known.size and (found is None or not found.st_size):
            mirror = self.context.mirrors.get(collection)
            rows = self.tables.count(collection)[0]
            if rows and mirror is not None:
                raise missing_error(self.context.store, mirror, rows)
        if found is None or looks_fresh(known, found):
            return list(lines)
        there = self._there(collection, frozenset(lines))
        return [line for line in lines if line not in there]

    def _there(self, collection: str, lines: frozenset[bytes]) -> set[bytes]:
        path = self.context.store.layout.log_path(collection)
        with access(path):
            fd = files.open_log(path)
            try:
                return {line.raw for line in read_lines(fd) if line.raw in lines}
            finally:
                os.close(fd)

    def _restamp(self, maker: LineMaker) -> None:
        """Write versions that had to change into their rows, if these are still the same."""
        mirror = maker.mirror
        if mirror.version is None or not maker.restamps:
            return
        self.context.begin_projecting(self.connection)
        projecting(self.connection, mirror)
        version = mirror.version.column
        for one in maker.restamps.values():
            keys = [
                field.typed(field.column) == one.row.values[field.name]
                for field in mirror.key_fields
            ]
            self.connection.execute(
                update(mirror.table)
                .where(*keys, version.is_not_distinct_from(one.row.version))
                .values({version: mirror.version_value(one.version)})
            )
