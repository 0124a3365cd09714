"""Update mirrored tables from the log, row by row if a constraint fails.

Rows are written in batches, parents first, and deleted children first. What is refused is tried
again once the rest is there, then with the foreign keys deferred, so that rows may refer to each
other in circles and exchange unique values. What is still refused is a problem, and is left out.

Where a schema defers foreign keys itself, a refusal would come with the COMMIT and end all. So they
are looked at before; if one is broken, all is undone, and done again with each row looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from functools import lru_cache, partial
from typing import Any

import attrs
from sqlalchemy import Table, text
from sqlalchemy.engine import Connection
from sqlalchemy.sql.ddl import sort_tables_and_constraints

from taskstore._mirror.model.links import (
    Link,
    Links,
    dangling,
    enforced,
    parents_first,
    quoted,
    refers,
)
from taskstore._mirror.model.shape import Row
from taskstore._mirror.projection.foreign_key_effects import Effects
from taskstore._mirror.projection.unique_values import (
    Parking,
    RolledBackError,
    deferring,
    is_refusal,
    reason_of,
    savepoint,
)
from taskstore._mirror.projection.wanted import Key, WantedRow
from taskstore._mirror.tables.writing import (
    condition_of,
    delete_row,
    insert_rows,
    reinsert_row,
    update_rows,
)
from taskstore.errors import InvalidRecordError


@attrs.define
class Projector:
    """One projection, in an open write transaction.

    Attributes:
        connection: Of the transaction.
        links: The foreign keys of its database.
        refused: Why a row could not be brought to what the log says.
    """

    connection: Connection
    links: Links
    refused: dict[Key, str] = attrs.field(factory=dict)
    _effects: Effects = attrs.field(init=False)
    _parking: Parking = attrs.field(init=False)

    def run(self, targets: Iterable[WantedRow]) -> dict[Key, str]:
        """Write the wanted rows; return why the others were refused."""
        some = list(targets)
        is_enforced = enforced(self.connection)
        self._effects = Effects(self.connection, self.links, is_enforced)
        touched = {table.name.lower() for target in some for table in target.shape.tables}
        late = [
            link
            for link in (self.links.deferred(self.connection) if is_enforced else ())
            if link.child.lower() in touched or link.parent in touched
        ]
        if not late:
            return self._applied(some)
        try:
            with savepoint(self.connection, "taskstore_projection"):
                refused = self._applied(some)
                if any(self._broken(child) for child in {link.child for link in late}):
                    raise _RefusedError
        except _RefusedError:
            names = {name.lower() for link in late for name in (link.child, link.parent)}
            return self._applied(some, looked_at=names)
        return refused

    def _applied(
        self, targets: list[WantedRow], looked_at: Set[str] = frozenset()
    ) -> dict[Key, str]:
        """Apply wanted rows; those of tables that must be checked first come last."""
        self.refused.clear()
        self._parking = Parking(self.connection, self._effects, self._attempt)
        held: list[WantedRow] = []
        others: list[WantedRow] = []
        for target in targets:
            is_held = any(table.name.lower() in looked_at for table in target.shape.tables)
            (held if is_held else others).append(target)
        pending = self._batches(others)
        for _ in range(2):
            pending = [target for target in pending if not self._one(target)]
        pending = _in_order(held) + pending
        if pending:
            pending = self._unreferred(self._deferred(pending), pending)
        return {target.key: self.refused[target.key] for target in pending}

    def _unreferred(self, left: list[WantedRow], pending: list[WantedRow]) -> list[WantedRow]:
        """Delete what only other pending rows had referred to; return what is left then."""
        deletions = [target for target in left if target.kind == "delete"]
        if not deletions or len(left) == len(pending):
            return left
        return [target for target in left if target.kind != "delete"] + self._deferred(deletions)

    def _batches(self, targets: list[WantedRow]) -> list[WantedRow]:
        """Write similar rows together; return those to try one by one."""
        left: list[WantedRow] = []
        for some in _groups(targets):
            kind = some[0].kind
            if kind == "insert":
                some = parents_first(some, _row_of)
            elif kind == "update":
                some, moving = self._parted(some)
                left += moving
            if not some:
                continue
            alone = kind in {"delete", "replace"}
            if alone or not self._attempt(partial(_write, self.connection, some), some):
                left += [target for target in some if not self._one(target)]
        return left

    def _parted(self, targets: Sequence[WantedRow]) -> tuple[list[WantedRow], list[WantedRow]]:
        """Part updates that the database may follow into other rows from the rest."""
        still: list[WantedRow] = []
        moving: list[WantedRow] = []
        for target in targets:
            (moving if self._effects.moved(target) else still).append(target)
        return still, moving

    def _one(self, target: WantedRow) -> bool:
        reason = None
        if target.deletes:
            reason = self._effects.why_not_deleted(target, ())
        return self._allowed(target, reason) and self._try(target)

    def _try(self, target: WantedRow) -> bool:
        if not self._allowed(target, self._effects.why_not_moved(target)):
            return False
        removed = self._parking.removed.get(target.key)
        if removed is not None:
            assert target.row is not None
            work = partial(reinsert_row, self.connection, target.mirror, target.row, removed)
        else:
            work = partial(_write, self.connection, [target])
        return self._attempt(work, [target])

    def _allowed(self, target: WantedRow, reason: str | None) -> bool:
        if reason is not None:
            self.refused[target.key] = reason
        return reason is None

    def _attempt(self, work: Callable[[], object], targets: Sequence[WantedRow]) -> bool:
        try:
            with savepoint(self.connection, "taskstore_attempt_rows"):
                work()
        except RolledBackError as error:
            raise InvalidRecordError(
                collection=targets[0].mirror.collection,
                id=targets[0].id if len(targets) == 1 else None,
                reason="the database rolls back the whole transaction because of it "
                f"({error}), so no row can be brought up to date: use RAISE(ABORT) in its trigger, "
                "or ON CONFLICT ABORT in its constraint, in place of ROLLBACK",
            ) from error
        except Exception as error:
            # Not SQLAlchemy's errors alone: a listener of the application's may have replaced one.
            if not is_refusal(error):
                raise
            reason = reason_of(error)
            for target in targets:
                self.refused[target.key] = reason
            return False
        return True

    def _deferred(self, pending: list[WantedRow]) -> list[WantedRow]:
        """Try the remaining rows together, with foreign keys deferred and unique values parked."""
        left: list[WantedRow] = []
        while pending:
            bad: list[WantedRow] = []
            try:
                with savepoint(self.connection, "taskstore_deferred"), deferring(self.connection):
                    bad = self._together(pending)
                    if bad:
                        raise _RefusedError
            except _RefusedError:
                left += bad
                pending = [target for target in pending if target not in bad]
            else:
                break
            finally:
                self._parking.removed.clear()
        return left

    def _together(self, pending: list[WantedRow]) -> list[WantedRow]:
        deleting = [target for target in pending if target.row is None]
        bad = [
            target
            for target in pending
            if target.deletes
            and not self._allowed(target, self._effects.why_not_deleted(target, deleting))
        ]
        if bad:
            return bad
        self._parking = Parking(self.connection, self._effects, self._attempt)
        for target in pending:
            if target.kind == "update":
                self._parking.park(target)
        still, moving = self._parted(pending)
        # Children before what they refer to: then there is nothing for the database to follow.
        bad = [target for target in (*still, *reversed(moving)) if not self._try(target)]
        return bad or [target for target in pending if self._dangles(target)]

    def _dangles(self, target: WantedRow) -> bool:
        """Return whether a row lacks the one it refers to, or others miss it; refuse it if so."""
        for table in target.shape.tables:
            if target.row is not None:
                condition = condition_of(target.mirror, target.shape, table, target.row)
                for link in self.links.of(self.connection, table.name):
                    if dangling(self.connection, link, table, condition):
                        self.refused[target.key] = (
                            f"it refers to a row of {link.parent!r} that is not there"
                        )
                        return True
            elif self._leaves_orphans(target, table):
                return True
        return False

    def _leaves_orphans(self, target: WantedRow, table: Any) -> bool:
        for link in self.links.to(self.connection, table.name):
            broken = any(row[2].lower() == table.name.lower() for row in self._broken(link.child))
            if broken and self._was_referred(target, table, link):
                self.refused[target.key] = f"rows of {link.child!r} refer to it"
                return True
        return False

    def _was_referred(self, target: WantedRow, table: Any, link: Link) -> bool:
        """Return whether this row is the one that others miss."""
        assert target.current is not None
        values = {
            column.name.lower(): (field.typed(column), target.current.values[name])
            for name, field in target.shape.fields.items()
            for column in field.columns
            if column.table is table and name in target.current.values
        }
        wanted = [values.get(name.lower()) for name in link.referred]
        known = [value for value in wanted if value is not None]
        # A column that is not mirrored says nothing against it.
        return len(known) < len(wanted) or refers(self.connection, link, known)

    def _broken(self, child: str) -> Sequence[Any]:
        """The rows of a table that refer to nothing: child, row, parent and number of the key."""
        return self.connection.execute(text(f"PRAGMA foreign_key_check({quoted(child)})")).all()


class _RefusedError(Exception):
    """Ends an attempt; its savepoint is rolled back."""


def _row_of(target: WantedRow) -> Row:
    assert target.row is not None
    return target.row


def _write(connection: Connection, targets: Sequence[WantedRow]) -> None:
    mirror = targets[0].mirror
    rows = [target.row for target in targets if target.row is not None]
    if targets[0].kind == "insert":
        insert_rows(connection, mirror, rows)
    elif targets[0].kind == "update":
        update_rows(connection, mirror, rows)
    else:
        for target in targets:
            assert target.current is not None
            delete_row(connection, mirror, target.current)
            if target.row is not None:
                insert_rows(connection, mirror, [target.row])


def _in_order(targets: list[WantedRow]) -> list[WantedRow]:
    """Updates and inserts with parents first, deletions between them with children first."""
    return [target for group in _groups(targets) for target in group]


def _groups(targets: Iterable[WantedRow]) -> list[list[WantedRow]]:
    """Group what one statement can write; the groups are in the order of `_in_order`."""
    found: dict[tuple[str, str, Any], list[WantedRow]] = {}
    for target in targets:
        found.setdefault(_alike(target), []).append(target)
    in_order = tables_in_order({group[0].mirror.table: None for group in found.values()})
    places = {table: place for place, table in enumerate(in_order)}
    turns = {"update": 0, "delete": 1, "replace": 2, "insert": 3}

    def order(likeness: tuple[str, str, Any]) -> tuple[int, int, str]:
        first = found[likeness][0]
        place = places[first.mirror.table]
        return turns[first.kind], -place if first.row is None else place, str(likeness[2])

    return [found[likeness] for likeness in sorted(found, key=order)]


def tables_in_order(tables: Iterable[Table]) -> list[Table]:
    """Return tables with parents first, as far as they do not refer to each other in circles."""
    found: Any = sort_tables_and_constraints(list(tables))  # type: ignore[no-untyped-call]
    return [table for table, _ in found if table is not None]


def _alike(target: WantedRow) -> tuple[str, str, Any]:
    """Return what rows must have in common to be written by one statement."""
    if target.row is None:
        return target.mirror.collection, target.kind, None
    shape = target.mirror.shapes.index(target.row.shape)
    return target.mirror.collection, target.kind, (shape, _sorted(tuple(target.row.values)))


@lru_cache(maxsize=256)
def _sorted(names: tuple[str, ...]) -> tuple[str, ...]:
    """Sort the attributes of a row; most rows have the same."""
    return tuple(sorted(names))
