"""Brings mirrored tables to what the log says, row by row where a constraint is in the way.

Rows are written in batches, parents first, and deleted children first. What is refused is tried
again once the rest is there, then with the foreign keys deferred, so that rows may refer to each
other in circles and exchange unique values. What is still refused is a problem, and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import Any

import attrs
from sqlalchemy import Table, UniqueConstraint, literal_column, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, StatementError
from sqlalchemy.sql.ddl import sort_tables_and_constraints

from taskstore._mirror.links import ACTING, Link, Links, dangling, enforced, quoted, referring
from taskstore._mirror.references import parents_first
from taskstore._mirror.shape import Mirror, Row
from taskstore._mirror.writing import condition_of, delete_row, insert_rows, update_rows

__all__ = ["Projector", "Wish"]

Key = tuple[str, str]


@attrs.frozen(eq=False)
class Wish:
    """What a row is to become.

    Attributes:
        mirror: whose row it is.
        id: its id.
        row: what it is to be; None for no row.
        current: what it is; None for no row.
    """

    mirror: Mirror
    id: str
    row: Row | None
    current: Row | None

    @property
    def key(self) -> Key:
        """Collection and id."""
        return self.mirror.collection, self.id

    @property
    def kind(self) -> str:
        """One of "update", "delete", "insert" and, by a row of another class, "replace"."""
        if self.row is None:
            return "delete"
        if self.current is None:
            return "insert"
        return "update" if self.current.shape is self.row.shape else "replace"

    @property
    def deletes(self) -> bool:
        """Whether a row goes, be it for another one."""
        return self.kind in {"delete", "replace"}


@attrs.define
class Projector:
    """One projection, in an open write transaction.

    Attributes:
        connection: of the transaction.
        links: the foreign keys of its database.
        refused: why a row could not be brought to what the log says.
    """

    connection: Connection
    links: Links
    refused: dict[Key, str] = attrs.field(factory=dict)
    _enforced: bool = False

    def run(self, wishes: Iterable[Wish]) -> dict[Key, str]:
        """Grant wishes; return why the others were refused."""
        self._enforced = enforced(self.connection)
        pending = _in_order(list(wishes))
        pending = self._batches(pending)
        for _ in range(2):
            pending = [wish for wish in pending if not self._one(wish)]
        if pending:
            pending = self._deferred(pending)
        return {wish.key: self.refused[wish.key] for wish in pending}

    def _batches(self, wishes: list[Wish]) -> list[Wish]:
        """Write what is alike together; return what is left to be tried one by one."""
        left: list[Wish] = []
        for (_, kind, _), group in groupby(wishes, key=_alike):
            some = list(group)
            if kind == "insert":
                some = parents_first(some, _row_of)
            alone = kind in {"delete", "replace"}
            if alone or not self._attempt(partial(_write, self.connection, some), some):
                left += [wish for wish in some if not self._one(wish)]
        return left

    def _one(self, wish: Wish) -> bool:
        if not wish.deletes:
            return self._attempt(partial(_write, self.connection, [wish]), [wish])
        reason = self._why_not_deleted(wish, ())
        if reason is not None:
            self.refused[wish.key] = reason
            return False
        return self._attempt(partial(_write, self.connection, [wish]), [wish])

    def _attempt(self, work: Callable[[], object], wishes: Sequence[Wish]) -> bool:
        try:
            with _savepoint(self.connection, "taskstore_attempt_rows"):
                work()
        except (StatementError, OverflowError) as error:
            if not _is_constraint(error):
                raise
            reason = _reason(error)
            for wish in wishes:
                self.refused[wish.key] = reason
            return False
        return True

    def _why_not_deleted(self, wish: Wish, doomed: Sequence[Wish]) -> str | None:
        """Say which rows a deletion would change behind everybody's back."""
        assert wish.current is not None
        if not self._enforced:
            return None
        shape = wish.current.shape
        own = {table.name for table in shape.tables}
        for table in shape.tables:
            for link in self.links.to(self.connection, table.name):
                inherits = link.child in own and link.child != table.name
                if link.on_delete not in ACTING or inherits:
                    continue
                condition = condition_of(wish.mirror, shape, table, wish.current)
                if self._is_referred(link, table, condition, doomed):
                    return (
                        f"rows of {link.child!r} refer to it, and the database would change them "
                        f"(ON DELETE {link.on_delete}): delete or change those rows first"
                    )
        return None

    def _is_referred(self, link: Link, table: Any, condition: Any, doomed: Sequence[Wish]) -> bool:
        """Whether rows refer to a row by a foreign key, other than rows that go as well."""
        going = [wish for wish in doomed if wish.mirror.table.name == link.child]
        if not going:
            return bool(referring(self.connection, link, table, condition))
        mirror = going[0].mirror
        columns = [field.column for field in mirror.key_fields]
        found = referring(self.connection, link, table, condition, columns)
        return not {mirror.id_of(row) for row in found} <= {wish.id for wish in going}

    def _deferred(self, pending: list[Wish]) -> list[Wish]:
        """Try what is left together, with foreign keys deferred and unique values parked."""
        left: list[Wish] = []
        while pending:
            bad: list[Wish] = []
            try:
                with _savepoint(self.connection, "taskstore_deferred"), self._deferring():
                    bad = self._together(pending)
                    if bad:
                        raise _RefusedError
            except _RefusedError:
                left += bad
                pending = [wish for wish in pending if wish not in bad]
            else:
                break
        return left

    def _together(self, pending: list[Wish]) -> list[Wish]:
        bad = []
        doomed = [wish for wish in pending if wish.row is None]
        for wish in pending:
            reason = self._why_not_deleted(wish, doomed) if wish.deletes else None
            if reason is not None:
                self.refused[wish.key] = reason
                bad.append(wish)
        if bad:
            return bad
        for wish in pending:
            if wish.kind == "update":
                self._park(wish)
        bad = [
            wish
            for wish in pending
            if not self._attempt(partial(_write, self.connection, [wish]), [wish])
        ]
        return bad or [wish for wish in pending if self._dangles(wish)]

    def _park(self, wish: Wish) -> None:
        """Free the unique values of a row that is about to get others."""
        assert wish.current is not None
        for table in wish.current.shape.tables:
            columns = _unique_columns(table) & _settable(wish, table)
            if columns:
                condition = condition_of(wish.mirror, wish.current.shape, table, wish.current)
                parked: dict[str, Any] = {
                    name: literal_column("randomblob(16)") for name in columns
                }
                # A CHECK or a STRICT table may refuse: then the row is tried as it is.
                self._attempt(
                    partial(self.connection.execute, update(table).where(condition).values(parked)),
                    [wish],
                )

    def _dangles(self, wish: Wish) -> bool:
        """Whether a row was left that refers, or is referred to, by nothing but hope."""
        shape = (wish.row or wish.current).shape  # type: ignore[union-attr]
        for table in shape.tables:
            if wish.row is not None:
                condition = condition_of(wish.mirror, shape, table, wish.row)
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
            broken = self.connection.execute(
                text(f"PRAGMA foreign_key_check({quoted(link.child)})")
            ).all()
            if any(row[2].lower() == table.name.lower() for row in broken):
                self.refused[wish.key] = f"rows of {link.child!r} refer to it"
                return True
        return False

    @contextmanager
    def _deferring(self) -> Iterator[None]:
        cursor = self.connection.connection.cursor()
        try:
            cursor.execute("PRAGMA defer_foreign_keys = ON")
            yield
        finally:
            cursor.execute("PRAGMA defer_foreign_keys = OFF")
            cursor.close()


class _RefusedError(Exception):
    """Ends an attempt whose savepoint is to be undone."""


@contextmanager
def _savepoint(connection: Connection, name: str) -> Iterator[None]:
    cursor = connection.connection.cursor()
    try:
        cursor.execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            cursor.execute(f"ROLLBACK TO {name}")
            raise
        finally:
            cursor.execute(f"RELEASE {name}")
    finally:
        cursor.close()


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
    in_order = _sorted(tables)
    places = {table: place for place, table in enumerate(in_order)}
    turns = {"update": 0, "delete": 1, "replace": 2, "insert": 3}

    def order(wish: Wish) -> tuple[int, int, str]:
        place = places[wish.mirror.table]
        return turns[wish.kind], -place if wish.row is None else place, str(_alike(wish)[2])

    return sorted(wishes, key=order)


def _sorted(tables: Iterable[Table]) -> list[Table]:
    """Tables with parents first, as far as they do not refer to each other in circles."""
    found: Any = sort_tables_and_constraints(list(tables))  # type: ignore[no-untyped-call]
    return [table for table, _ in found if table is not None]


def _alike(wish: Wish) -> tuple[str, str, Any]:
    """What rows have in common that can be written by one statement."""
    if wish.row is None:
        return wish.mirror.collection, wish.kind, None
    shape = wish.mirror.shapes.index(wish.row.shape)
    return wish.mirror.collection, wish.kind, (shape, tuple(sorted(wish.row.values)))


def _settable(wish: Wish, table: Any) -> set[str]:
    """The names of the columns that an update of the row writes."""
    assert wish.row is not None
    fields = wish.row.shape.fields
    return {
        column.name
        for name in wish.row.values
        if name not in wish.mirror.key
        for column in fields[name].columns
        if column.table is table
    }


def _unique_columns(table: Any) -> set[str]:
    found = {column.name for column in table.columns if column.unique}
    for one in (*table.constraints, *table.indexes):
        if isinstance(one, UniqueConstraint) or getattr(one, "unique", False):
            found |= {column.name for column in one.columns}
    return found


def _is_constraint(error: BaseException) -> bool:
    """Whether it is the row that is refused, and not the database that is in trouble."""
    return not isinstance(error, DBAPIError) or isinstance(error, IntegrityError | InterfaceError)


def _reason(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    return f"the database refuses it: {cause}"
