"""The notes of the rows that were changed on one connection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any, Literal

from taskstore._cache.capture.record_notes import NotedRecord, noted_records
from taskstore._cache.capture.triggers import (
    DELETED,
    GUARD,
    INSERTED,
    UPDATED,
    Capture,
    RawKey,
    Touched,
)
from taskstore._cache.capture.unique_keys import quoted
from taskstore._cache.engine.bridge import closing
from taskstore._cache.engine.guard import GuardedConnection
from taskstore._cache.engine.permission import follow_writes, permitted
from taskstore._cache.rows.driver import NOTING

_FEW = 100
"""So many notes are looked at one by one."""

State = Literal["paused", "noting", "refusing"]

_STATES: dict[State, int] = {"paused": 0, "noting": 1, "refusing": 2}


class Notes:
    """The notes that one connection has taken of changed rows.

    Args:
        capture: The tables.
        driver: The driver's connection.

    Attributes:
        capture: The tables.
        seen: How many rows the connection had changed when nothing was left to be logged.
        is_guarded: Whether there are triggers that refuse deletions.
    """

    def __init__(self, capture: Capture, driver: Any) -> None:
        self.capture = capture
        self.seen = -1
        self.is_guarded = False
        self._known: tuple[tuple[str, str, int], ...] = ()
        self._followed: frozenset[int] = frozenset()
        # Their lengths are the states. A function of Python's own runs no bytecode, so that
        # nothing can be raised in it, and costs a row a quarter of a microsecond.
        self._state: list[None] = []
        self._records_state: list[None] = []
        self._pauses = 0
        self._had_records = False
        driver.create_function(capture.name, 0, self._state.__len__)
        if capture.records is not None:
            driver.create_function(capture.records_name, 0, self._records_state.__len__)
            follow_writes(driver, capture.records.records, self)
        self.start("noting")

    def guard(self, cursor: Any, *, wanted: bool) -> None:
        """Make the triggers that refuse deletions, or remove them: they slow all deletions down."""
        if wanted:
            for statement in self.capture.guards(cursor, self._known or _schemas(cursor)):
                cursor.execute(statement)
        else:
            for name in self._triggers(cursor):
                if name.endswith(GUARD):
                    cursor.execute(f"DROP TRIGGER temp.{quoted(name)}")
        self.is_guarded = wanted

    def start(self, state: State) -> None:
        """Make the triggers note rows, ignore them, or refuse writes, whatever they did before.

        Deleted rows are noted in any case, and refused only after `guard`.
        """
        self._pauses = 0
        self._records_state[:] = [None] * _STATES[state]
        self.turn(state)

    @property
    def state(self) -> State:
        """What the triggers of tables that are not the store's do."""
        return next(state for state, length in _STATES.items() if length == len(self._state))

    def turn(self, state: State) -> None:
        """Make the triggers of other tables note rows, ignore them, or refuse the statement."""
        self._state[:] = [None] * _STATES[state]

    def pause(self) -> None:
        """Pass over what the store writes itself, until as many calls of `resume`."""
        if not self._pauses:
            self._paused = self._records_state[:]
            self._records_state.clear()
        self._pauses += 1

    def resume(self) -> None:
        """Undo one `pause`."""
        if self._pauses:
            self._pauses -= 1
            if not self._pauses:
                self._records_state[:] = self._paused

    def renew(self, cursor: Any) -> bool:
        """Create missing triggers if the schema has changed, and return whether it has.

        Not in a transaction, except the first time: it would fix what that can see of the
        database.
        """
        if self.is_current(cursor) or cursor.execute("PRAGMA query_only").fetchone()[0]:
            return False  # a connection that cannot write has nothing to note
        schemas = _schemas(cursor)
        records = self.capture.records
        for statement in self.capture.tables_sql():
            cursor.execute(statement)
        # Their tables may have other unique keys.
        self.suspend(cursor)
        with permitted(cursor.connection, records.records if records is not None else ""):
            for statement in self.capture.script(cursor, schemas):
                cursor.execute(statement)
        self._followed = self._places(cursor)
        self._had_records = self.has_records(cursor)
        if records is not None and isinstance(cursor.connection, GuardedConnection):
            names = (records.records.lower(), records.indexes.lower())
            cursor.connection.noted = names if self._had_records else None
        # A rollback of the transaction removes them.
        self._known = () if cursor.connection.in_transaction else schemas
        return True

    @property
    def is_settled(self) -> bool:
        """Whether the triggers are there, and no rollback can remove them."""
        return self._had_records and bool(self._known)

    def is_current(self, cursor: Any) -> bool:
        """Return whether the schema is the one that the triggers were made for."""
        return self._known == _schemas(cursor)

    def lost(self, cursor: Any) -> frozenset[int]:
        """Return the places of the tables whose triggers are gone, as where one was dropped.

        What was written since to a table rebuilt under the name was not noted.
        """
        return self._followed - self._places(cursor)

    def unfollowed(self, cursor: Any) -> frozenset[int]:
        """Return the places of the tables that have had no triggers in this transaction.

        Where such a table is there now, what was written to it was not noted.
        """
        return frozenset(range(len(self.capture.tables))) - self._followed - self._places(cursor)

    def has_records(self, cursor: Any) -> bool:
        """Return whether changed records are noted."""
        wanted = f"{self.capture.records_name}_after_update"
        return wanted in self._triggers(cursor)

    def lost_records(self, cursor: Any) -> bool:
        """Return whether the table of records has lost its triggers, as after a rebuild."""
        return self._had_records and not self.has_records(cursor)

    def records(self, cursor: Any) -> dict[tuple[str, str], NotedRecord]:
        """Return the records that were touched since their notes were cleared, in order."""
        tables = self.capture.records
        if tables is None or not self._had_records:
            return {}
        return noted_records(cursor, tables, self.capture.records_name)

    def clear_records(self, cursor: Any) -> None:
        """Delete the notes of records, and all marks. A rollback restores them."""
        cursor.execute(f"DELETE FROM {self.capture.records_name}")

    def clear_marks(self, cursor: Any) -> int:
        """Delete all marks, and return how many there were. A rollback restores them."""
        cursor.execute(f"DELETE FROM {self.capture.records_name} WHERE collection IS NULL")
        return int(cursor.rowcount)

    def mark_records(self, cursor: Any) -> None:
        """Forget what was noted of records, and leave a mark instead.

        It is there as long as the lines that were collected are right: it goes with a savepoint or
        a transaction that is rolled back behind SQLAlchemy's back, and stays with a commit.
        """
        name = self.capture.records_name
        cursor.execute(f"DELETE FROM {name} WHERE collection IS NOT NULL")
        cursor.execute(f"INSERT INTO {name} (moved) VALUES (0)")

    def marks(self, cursor: Any) -> int:
        """Return how many marks there are."""
        found = cursor.execute(
            f"SELECT count(*) FROM {self.capture.records_name} WHERE collection IS NULL"
        ).fetchone()
        return int(found[0])

    def any(self, cursor: Any) -> bool:
        """Return whether there are notes. A rollback may have removed their tables."""
        names = [self.capture.name] if self.capture.tables else []
        names += [self.capture.records_name] if self.capture.records is not None else []
        tables = {name for (name,) in cursor.execute("SELECT name FROM sqlite_temp_master")}
        return any(
            cursor.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() is not None
            for name in names
            if name in tables
        )

    def count(self, cursor: Any) -> int:
        """Return how many notes there are."""
        return int(cursor.execute(f"SELECT count(*) FROM {self.capture.name}").fetchone()[0])

    def touched(self, cursor: Any, since: int = 0) -> dict[Any, Touched]:
        """Return which rows were changed since the notes were cleared, by owner.

        Args:
            cursor: Of the driver.
            since: What `last` gave, to leave out what was noted before.
        """
        if not self.capture.tables:
            return {}
        names = [f"{kind}{n}" for kind in "kp" for n in range(self.capture.width)]
        rows: Iterable[Any] = cursor.execute(
            f"SELECT tbl, op, {', '.join(names)} FROM {self.capture.name} "
            "WHERE seq > ? ORDER BY seq",
            (since,),
        )
        first = list(islice(rows, _FEW))
        if len(first) == _FEW:
            with closing(cursor.connection.cursor()) as other:
                alike = self._alike(other, since)
            if alike is not None:
                return alike
        rows = chain(first, rows)
        owners = self.capture.owners
        found = {owner: Touched() for owner in owners}
        of_place = [found[owner] for owner in owners]
        is_first = self.capture.is_first
        if self.capture.width == 1:
            for place, op, key, former in rows:
                touched = of_place[place]
                if former is not None:
                    touched.move((key,), (former,))
                    continue
                touched.add((key,), op, is_first=is_first[place])
        else:
            self._take_wide(rows, of_place, is_first)
        return {owner: touched for owner, touched in found.items() if touched.keys}

    def _alike(self, cursor: Any, since: int) -> dict[Any, Touched] | None:
        """Return what `touched` does, if one thing was done to many rows; None in other cases."""
        former = ", ".join(f"p{n}" for n in range(self.capture.width))
        kinds = cursor.execute(
            f"SELECT tbl, op, count(coalesce({former}, NULL)) FROM {self.capture.name} "
            "WHERE seq > ? GROUP BY tbl, op LIMIT 2",
            (since,),
        ).fetchall()
        if len(kinds) != 1 or kinds[0][1] not in (INSERTED, UPDATED, DELETED) or kinds[0][2]:
            return None
        [(place, op, _)] = kinds
        names = ", ".join(f"k{n}" for n in range(len(self.capture.tables[place].key)))
        keys = dict.fromkeys(
            cursor.execute(
                f"SELECT {names} FROM {self.capture.name} WHERE seq > ? ORDER BY seq", (since,)
            ).fetchall()
        )
        touched = Touched(keys, existed=op != INSERTED)
        if self.capture.is_first[place] and op == DELETED:
            touched.lost.update(keys)
        return {self.capture.owners[place]: touched}

    def _take_wide(
        self, rows: Iterable[Any], of_place: Sequence[Touched], is_first: Sequence[bool]
    ) -> None:
        width = self.capture.width
        lengths = [len(table.key) for table in self.capture.tables]
        for place, op, *values in rows:
            touched, length = of_place[place], lengths[place]
            key = tuple(values[:length])
            former = tuple(values[width : width + length])
            if op == UPDATED and former.count(None) < length:
                touched.move(key, former)
                continue
            touched.add(key, op, is_first=is_first[place])

    def last(self, cursor: Any) -> int:
        """Return the number of the last note, or 0 if there is none."""
        found = cursor.execute(f"SELECT max(seq) FROM {self.capture.name}").fetchone()[0]
        return found or 0

    def put(self, cursor: Any, owner: Any, keys: Sequence[RawKey]) -> None:
        """Note rows that were touched."""
        place = self.capture.owners.index(owner)
        width = len(self.capture.tables[place].key)
        names = ", ".join(f"k{n}" for n in range(width))
        cursor.executemany(
            f"INSERT INTO {self.capture.name} (tbl, op, {names}) "
            f"VALUES (?, ?, {', '.join('?' * width)})",
            [(place, UPDATED, *key) for key in keys],
        )

    def has_others(self, cursor: Any) -> bool:
        """Return whether the application has triggers, which may react to a write."""
        schemas = [name for name, _, _ in self._known] or ["main"]
        others = [
            f"SELECT 1 FROM {quoted(name)}.sqlite_master WHERE type = 'trigger'" for name in schemas
        ]
        others.append(
            "SELECT 1 FROM sqlite_temp_master WHERE type = 'trigger' "
            f"AND substr(name, 1, {len(NOTING)}) <> '{NOTING}'"
        )
        found = cursor.execute(f"{' UNION ALL '.join(others)} LIMIT 1").fetchone()
        return found is not None

    def clear(self, cursor: Any, since: int = 0) -> None:
        """Delete the notes. A rollback of the transaction restores them.

        Args:
            cursor: Of the driver.
            since: What `last` gave, to keep what was noted before.
        """
        if since:
            cursor.execute(f"DELETE FROM {self.capture.name} WHERE seq > ?", (since,))
        else:
            cursor.execute(f"DELETE FROM {self.capture.name}")

    def suspend(self, cursor: Any) -> None:
        """Take the triggers off until the next `renew`."""
        self._known = ()
        self.is_guarded = False
        if isinstance(cursor.connection, GuardedConnection):
            cursor.connection.noted = None
        for name in self._triggers(cursor):
            cursor.execute(f"DROP TRIGGER IF EXISTS temp.{quoted(name)}")

    def remove(self, cursor: Any) -> None:
        """Take triggers and tables off the connection; the functions stay, and are of no use."""
        self.start("paused")
        self.suspend(cursor)
        for name in (self.capture.name, self.capture.records_name):
            cursor.execute(f"DROP TABLE IF EXISTS temp.{name}")

    def _places(self, cursor: Any) -> frozenset[int]:
        there = set(self._triggers(cursor))
        places = range(len(self.capture.tables))
        return frozenset(n for n in places if f"{self.capture.name}_{n}_insert" in there)

    def _triggers(self, cursor: Any) -> list[str]:
        found = cursor.execute(
            "SELECT name FROM sqlite_temp_master WHERE type = 'trigger' AND substr(name, 1, ?) = ?",
            (len(self.capture.name) + 1, f"{self.capture.name}_"),
        ).fetchall()
        return [name for (name,) in found]


def _schemas(cursor: Any) -> tuple[tuple[str, str, int], ...]:
    """The databases of a connection: name, file, and the version of the schema."""
    return tuple(
        (name, file or "", cursor.execute(f"PRAGMA {quoted(name)}.schema_version").fetchone()[0])
        for _, name, file in cursor.execute("PRAGMA database_list").fetchall()
        if name != "temp"
    )
