"""Brings mirrored tables to what the log says, row by row where a constraint is in the way.

Rows are written in batches, parents first, and deleted children first. What is refused is tried
again once the rest is there, then with the foreign keys deferred, so that rows may refer to each
other in circles and exchange unique values. What is still refused is a problem, and is left out.

Where a schema defers foreign keys itself, a refusal would come with the COMMIT and end all. So they
are looked at before; if one is broken, all is undone, and done again with each row looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from functools import partial
from itertools import groupby
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
from taskstore._mirror.projection.wanted import Key, Wish
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

    def run(self, wishes: Iterable[Wish]) -> dict[Key, str]:
        """Grant wishes; return why the others were refused."""
        some = list(wishes)
        is_enforced = enforced(self.connection)
        self._effects = Effects(self.connection, self.links, is_enforced)
        touched = {table.name.lower() for wish in some for table in wish.shape.tables}
        late = [
            link
            for link in (self.links.deferred(self.connection) if is_enforced else ())
            if link.child.lower() in touched or link.parent in touched
        ]
        if not late:
            return self._granted(some)
        try:
            with savepoint(self.connection, "taskstore_projection"):
                refused = self._granted(some)
                if any(self._broken(child) for child in {link.child for link in late}):
                    raise _RefusedError
        except _RefusedError:
            names = {name.lower() for link in late for name in (link.child, link.parent)}
            return self._granted(some, looked_at=names)
        return refused

    def _granted(self, wishes: list[Wish], looked_at: Set[str] = frozenset()) -> dict[Key, str]:
        """Apply wanted rows; those of tables that must be checked first come last."""
        self.refused.clear()
        self._parking = Parking(self.connection, self._effects, self._attempt)
        held: list[Wish] = []
        others: list[Wish] = []
        for wish in wishes:
            is_held = any(table.name.lower() in looked_at for table in wish.shape.tables)
            (held if is_held else others).append(wish)
        pending = self._batches(_in_order(others))
        for _ in range(2):
            pending = [wish for wish in pending if not self._one(wish)]
        pending = _in_order(held) + pending
        if pending:
            pending = self._deferred(pending)
        return {wish.key: self.refused[wish.key] for wish in pending}

    def _batches(self, wishes: list[Wish]) -> list[Wish]:
        """Write similar rows together; return those to try one by one."""
        left: list[Wish] = []
        for (_, kind, _), group in groupby(wishes, key=_alike):
            some = list(group)
            if kind == "insert":
                some = parents_first(some, _row_of)
            elif kind == "update":
                some, moving = self._parted(some)
                left += moving
            if not some:
                continue
            alone = kind in {"delete", "replace"}
            if alone or not self._attempt(partial(_write, self.connection, some), some):
                left += [wish for wish in some if not self._one(wish)]
        return left

    def _parted(self, wishes: Sequence[Wish]) -> tuple[list[Wish], list[Wish]]:
        """Part updates that the database may follow into other rows from the rest."""
        still: list[Wish] = []
        moving: list[Wish] = []
        for wish in wishes:
            (moving if self._effects.moved(wish) else still).append(wish)
        return still, moving

    def _one(self, wish: Wish) -> bool:
        reason = None
        if wish.deletes:
            reason = self._effects.why_not_deleted(wish, ())
        return self._allowed(wish, reason) and self._try(wish)

    def _try(self, wish: Wish) -> bool:
        if not self._allowed(wish, self._effects.why_not_moved(wish)):
            return False
        removed = self._parking.removed.get(wish.key)
        if removed is not None:
            assert wish.row is not None
            work = partial(reinsert_row, self.connection, wish.mirror, wish.row, removed)
        else:
            work = partial(_write, self.connection, [wish])
        return self._attempt(work, [wish])

    def _allowed(self, wish: Wish, reason: str | None) -> bool:
        if reason is not None:
            self.refused[wish.key] = reason
        return reason is None

    def _attempt(self, work: Callable[[], object], wishes: Sequence[Wish]) -> bool:
        try:
            with savepoint(self.connection, "taskstore_attempt_rows"):
                work()
        except RolledBackError as error:
            raise InvalidRecordError(
                collection=wishes[0].mirror.collection,
                id=wishes[0].id if len(wishes) == 1 else None,
                reason="the database rolls back the whole transaction because of it "
                f"({error}), so no row can be brought up to date: use RAISE(ABORT) in its trigger, "
                "or ON CONFLICT ABORT in its constraint, in place of ROLLBACK",
            ) from error
        except Exception as error:
            # Not SQLAlchemy's errors alone: a listener of the application's may have replaced one.
            if not is_refusal(error):
                raise
            reason = reason_of(error)
            for wish in wishes:
                self.refused[wish.key] = reason
            return False
        return True

    def _deferred(self, pending: list[Wish]) -> list[Wish]:
        """Try the remaining rows together, with foreign keys deferred and unique values parked."""
        left: list[Wish] = []
        while pending:
            bad: list[Wish] = []
            try:
                with savepoint(self.connection, "taskstore_deferred"), deferring(self.connection):
                    bad = self._together(pending)
                    if bad:
                        raise _RefusedError
            except _RefusedError:
                left += bad
                pending = [wish for wish in pending if wish not in bad]
            else:
                break
            finally:
                self._parking.removed.clear()
        return left

    def _together(self, pending: list[Wish]) -> list[Wish]:
        doomed = [wish for wish in pending if wish.row is None]
        bad = [
            wish
            for wish in pending
            if wish.deletes and not self._allowed(wish, self._effects.why_not_deleted(wish, doomed))
        ]
        if bad:
            return bad
        self._parking = Parking(self.connection, self._effects, self._attempt)
        for wish in pending:
            if wish.kind == "update":
                self._parking.park(wish)
        still, moving = self._parted(pending)
        # Children before what they refer to: then there is nothing for the database to follow.
        bad = [wish for wish in (*still, *reversed(moving)) if not self._try(wish)]
        return bad or [wish for wish in pending if self._dangles(wish)]

    def _dangles(self, wish: Wish) -> bool:
        """Whether a row was left that refers, or is referred to, by nothing but hope."""
        for table in wish.shape.tables:
            if wish.row is not None:
                condition = condition_of(wish.mirror, wish.shape, table, wish.row)
                for link in self.links.of(self.connection, table.name):
                    if dangling(self.connection, link, table, condition):
                        self.refused[wish.key] = (
                            f"it refers to a row of {link.parent!r} that is not there"
                        )
                        return True
            elif self._leaves_orphans(wish, table):
                return True
        return False

    def _leaves_orphans(self, wish: Wish, table: Any) -> bool:
        for link in self.links.to(self.connection, table.name):
            broken = any(row[2].lower() == table.name.lower() for row in self._broken(link.child))
            if broken and self._was_referred(wish, table, link):
                self.refused[wish.key] = f"rows of {link.child!r} refer to it"
                return True
        return False

    def _was_referred(self, wish: Wish, table: Any, link: Link) -> bool:
        """Whether it is this row that others miss."""
        assert wish.current is not None
        values = {
            column.name.lower(): (field.typed(column), wish.current.values[name])
            for name, field in wish.shape.fields.items()
            for column in field.columns
            if column.table is table and name in wish.current.values
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


def _row_of(wish: Wish) -> Row:
    assert wish.row is not None
    return wish.row


def _write(connection: Connection, wishes: Sequence[Wish]) -> None:
    mirror = wishes[0].mirror
    rows = [wish.row for wish in wishes if wish.row is not None]
    if wishes[0].kind == "insert":
        insert_rows(connection, mirror, rows)
    elif wishes[0].kind == "update":
        update_rows(connection, mirror, rows)
    else:
        for wish in wishes:
            assert wish.current is not None
            delete_row(connection, mirror, wish.current)
            if wish.row is not None:
                insert_rows(connection, mirror, [wish.row])


def _in_order(wishes: list[Wish]) -> list[Wish]:
    """Updates and inserts with parents first, deletions between them with children first."""
    tables = {wish.mirror.table: None for wish in wishes}
    in_order = tables_in_order(tables)
    places = {table: place for place, table in enumerate(in_order)}
    turns = {"update": 0, "delete": 1, "replace": 2, "insert": 3}

    def order(wish: Wish) -> tuple[int, int, str]:
        place = places[wish.mirror.table]
        return turns[wish.kind], -place if wish.row is None else place, str(_alike(wish)[2])

    return sorted(wishes, key=order)


def tables_in_order(tables: Iterable[Table]) -> list[Table]:
    """Return tables with parents first, as far as they do not refer to each other in circles."""
    found: Any = sort_tables_and_constraints(list(tables))  # type: ignore[no-untyped-call]
    return [table for table, _ in found if table is not None]


def _alike(wish: Wish) -> tuple[str, str, Any]:
    """What rows have in common that can be written by one statement."""
    if wish.row is None:
        return wish.mirror.collection, wish.kind, None
    shape = wish.mirror.shapes.index(wish.row.shape)
    return wish.mirror.collection, wish.kind, (shape, tuple(sorted(wish.row.values)))
