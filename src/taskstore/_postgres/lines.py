"""Makes the lines of a batch: of each transaction one line for each record, with its net state."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from taskstore._cache.rows.records import Stored
from taskstore._evolution.shape import NO_SHAPE
from taskstore._evolution.shape import Shape as Evolved
from taskstore._format.lines import raw_fields, tombstone_line
from taskstore._mirror.capture.versions import stamp_for
from taskstore._mirror.model.shape import Mirror, Row
from taskstore._mirror.tables.encoding import encoded_row, next_fields
from taskstore._postgres.outbox import Change
from taskstore._postgres.pulled import Pulled
from taskstore._records.reasons import StructureError
from taskstore._records.versions import Claim
from taskstore._unit.drafts import checked_line, line_of
from taskstore._unit.versions import Version
from taskstore.errors import InvalidRecordError, UnknownRevisionError

_REFUSED = (ValueError, InvalidRecordError, StructureError, UnknownRevisionError)


@attrs.frozen
class Restamp:
    """A row whose line has another version than its column.

    Attributes:
        row: The row as it was written.
        version: What its column is to have.
    """

    row: Row
    version: int | str


@attrs.define
class LineMaker:
    """Makes the lines of one mirrored model.

    The lines follow from the changes and from what was stored alone. So when a batch is drained
    again, because a crash has kept the database from learning that it is in the log, its lines
    are the same, byte by byte.

    Attributes:
        mirror: The model.
        stored: The last line of each record that changes; grows with the lines that are made.
        evolved: The shape of the table, in which lines are stored.
        pulled: What the log has of these records that is newer; None for nothing.
        before: What it was when the batch began.
        lines: By number of the change that each is made of.
        refused: The changes that no line can carry, with the reasons.
        restamps: The last rows whose versions had to be others.
        touched: The records that lines were made for.
        solved: Those of them that no later change was refused of.
    """

    mirror: Mirror
    stored: dict[str, Stored]
    evolved: Evolved = NO_SHAPE
    pulled: Pulled | None = None
    before: dict[str, Stored] = attrs.field(init=False)
    lines: dict[int, bytes] = attrs.field(factory=dict)
    refused: list[Change] = attrs.field(factory=list)
    restamps: dict[str, Restamp] = attrs.field(factory=dict)
    touched: set[str] = attrs.field(factory=set)
    solved: set[str] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.before = dict(self.stored)

    def add(self, changes: Iterable[Change]) -> None:
        """Make the lines of some changes, oldest first."""
        for change in net_changes(changes):
            if change.problem:
                self._refuse(change)
                continue
            before = self.stored.get(change.id)
            try:
                line = self._line(change)
                if line is not None and self.pulled is not None:
                    line = self.pulled.merged(before, line, self.stored[change.id])
            except _REFUSED as error:
                self._take_back(change, before)
                self._refuse(attrs.evolve(change, problem=str(error)))
                continue
            self.touched.add(change.id)
            self.solved.add(change.id)
            if line is not None:
                self.lines[change.seq] = line

    def _take_back(self, change: Change, before: Stored | None) -> None:
        if before is None:
            self.stored.pop(change.id, None)
        else:
            self.stored[change.id] = before

    def _refuse(self, change: Change) -> None:
        self.refused.append(change)
        self.solved.discard(change.id)

    def _line(self, change: Change) -> bytes | None:
        before = self.stored.get(change.id)
        if change.row is None:
            return self._tombstone(change, before)
        row = change.row
        like = before.line if before is not None else None
        previous = None if like is None else raw_fields(like)
        fields = {} if previous is None else next_fields(row, previous)
        claim = self._claim(row, before)
        if previous is not None and fields == previous and claim is None:
            return None
        version = stamp_for(self.mirror, row.id, before, claim, change.written_ms)
        if previous is None:
            line = encoded_row(row, version.value)
        else:
            fields.pop("updated_at", None)
            line = line_of(fields, version, like)
        checked_line(line, self.mirror.collection, row.id)
        stamped = self.evolved.stamped(line, self.mirror.collection)
        self._put(row.id, Stored(line.decode(), version.order_us))
        self._restamp(row, version)
        return stamped

    def _tombstone(self, change: Change, before: Stored | None) -> bytes | None:
        self.restamps.pop(change.id, None)
        if before is None or before.deleted:
            return None
        version = stamp_for(self.mirror, change.id, before, None, change.written_ms)
        text = version.value if isinstance(version.value, str) else None
        self._put(change.id, Stored(None, version.order_us, text))
        return tombstone_line(change.id, version.value)

    def _put(self, id: str, stored: Stored) -> None:
        self.stored[id] = stored

    def _claim(self, row: Row, before: Stored | None) -> Claim | None:
        if self.mirror.version is None:
            return None
        claim = self.mirror.claim(row.version)
        if claim is None or before is None:
            return claim
        known = before.order_us - before.order_us % claim.precision_us
        return claim if claim.order_us > known else None

    def _restamp(self, row: Row, version: Version) -> None:
        self.restamps.pop(row.id, None)
        if self.mirror.version is not None and self.mirror.order_of(row.version) != (
            version.order_us
        ):
            self.restamps[row.id] = Restamp(row, version.value)


def net_changes(changes: Iterable[Change]) -> list[Change]:
    """Return the last change of each record in each transaction, oldest first."""
    some = list(changes)
    last = {(one.transaction, one.id or str(one.seq)): one.seq for one in some}
    kept = set(last.values())
    return [one for one in some if one.seq in kept]
