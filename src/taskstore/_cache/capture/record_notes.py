"""Has a database note what the rows of records were before somebody changed them.

A changed row of another table is compared with its record. A row of `records` is the record: what
it was is gone with the statement that changes it, unless a trigger keeps it.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

import attrs

from taskstore._cache.capture.unique_keys import quoted
from taskstore._cache.rows.records import Stored

DERIVED = "taskstore: this table is derived from the log"
"""The database's message about a write to a table that only the store may write."""

_COLUMNS = frozenset({"collection", "id", "data_json", "updated_at", "updated_at_us"})


@attrs.frozen
class RecordTables:
    """The tables of one store.

    Attributes:
        records: The table of records.
        indexes: That of their index rows.
        derived: Those that only the store may write; none, where something else protects them.
    """

    records: str
    indexes: str
    derived: tuple[str, ...] = ()


@attrs.define
class NotedRecord:
    """A record that was touched.

    Attributes:
        now: Its line and its version in ms and in us as the row has them; None for no row.
        before: What it was; None for one that was not there.
        origin: What it was under another key, which it had before.
    """

    now: tuple[str, int, int] | None
    before: Stored | None = None
    origin: Stored | None = None


def record_triggers(
    cursor: Any,
    tables: RecordTables,
    schema: str,
    name: str,
    refusal: str,
    there: Container[str],
) -> Iterator[str]:
    """Yield the statements that make the triggers of one store, and the table of their notes.

    Args:
        cursor: Of the driver.
        tables: Which tables.
        schema: The database that has them.
        name: What the names of triggers begin with; of the table of notes; and of the function
            that says whether to note (1), to pass over (0) or to refuse (2).
        refusal: What to say where it refuses.
        there: The names of the tables in that database, in lower case.
    """
    target = f"{quoted(schema)}.{quoted(tables.records)}"
    info = cursor.execute(f"PRAGMA {quoted(schema)}.table_info({quoted(tables.records)})")
    if not {row[1] for row in info.fetchall()} >= _COLUMNS:
        # An older layout, which must be upgraded first.
        return
    # REPLACE fires no trigger for the row that it removes.
    replaced = (
        f"SELECT NEW.collection, NEW.id, r.data_json, r.updated_at_us, 0 FROM (SELECT 1) "
        f"LEFT JOIN {target} r ON r.collection = NEW.collection AND r.id = NEW.id"
    )
    old = "SELECT OLD.collection, OLD.id, OLD.data_json, OLD.updated_at_us, 0"
    moved = "SELECT NEW.collection, NEW.id, OLD.data_json, OLD.updated_at_us, 1"
    is_moved = "(OLD.collection IS NOT NEW.collection OR OLD.id IS NOT NEW.id)"
    is_noted = f"CASE {name}() WHEN 1 THEN 1 WHEN 0 THEN 0 ELSE RAISE(ABORT, '{refusal}') END"
    note = f"INSERT INTO {name} (collection, id, line, us, moved)"
    # The foreign key of the index rows would refuse another key.
    clear = (
        f"DELETE FROM {quoted(tables.indexes)} WHERE collection = OLD.collection AND id = OLD.id"
    )
    for event, when, body in (
        ("BEFORE INSERT", is_noted, f"{note} {replaced}"),
        ("AFTER UPDATE", is_noted, f"{note} {old}"),
        ("AFTER DELETE", is_noted, f"{note} {old}"),
        ("BEFORE UPDATE OF collection, id", f"{is_moved} AND {is_noted}", f"{note} {replaced}"),
        (
            "AFTER UPDATE OF collection, id",
            f"{is_moved} AND {is_noted}",
            f"{note} {moved}; {clear}",
        ),
    ):
        label = f"{name}_{event.replace(', ', '_').replace(' ', '_').lower()}"
        yield (
            f"CREATE TEMP TRIGGER IF NOT EXISTS {label} {event} ON {target} WHEN {when} "
            f"BEGIN {body}; END"
        )
    yield from _guards(tables, schema, name, there)


def _guards(tables: RecordTables, schema: str, name: str, there: Container[str]) -> Iterator[str]:
    """Yield triggers that refuse what nobody but the store may write."""
    for place, table in enumerate(tables.derived):
        if table.lower() not in there:
            continue
        for event in ("INSERT", "UPDATE", "DELETE"):
            when = f"{name}() <> 0"
            if table == tables.indexes and event == "DELETE":
                # A cascade comes when the record is gone.
                when += (
                    f" AND EXISTS (SELECT 1 FROM {quoted(schema)}.{quoted(tables.records)} r "
                    "WHERE r.collection = OLD.collection AND r.id = OLD.id)"
                )
            yield (
                f"CREATE TEMP TRIGGER IF NOT EXISTS {name}_{place}_{event.lower()} "
                f"BEFORE {event} ON {quoted(schema)}.{quoted(table)} WHEN {when} "
                f"BEGIN SELECT RAISE(ABORT, '{DERIVED}'); END"
            )


def notes_sql(name: str) -> str:
    """Return the statement that makes the table of notes."""
    return (
        f"CREATE TEMP TABLE IF NOT EXISTS {name} "
        "(seq INTEGER PRIMARY KEY, collection, id, line, us, moved)"
    )


def noted_records(
    cursor: Any, tables: RecordTables, name: str
) -> dict[tuple[str, str], NotedRecord]:
    """Return the records that were touched, in the order of the first touch."""
    found: dict[tuple[str, str], NotedRecord] = {}
    for collection, id, line, us, moved, now, ms, now_us in cursor.execute(
        "SELECT n.collection, n.id, n.line, n.us, n.moved, r.data_json, r.updated_at, "
        f"r.updated_at_us FROM {name} n LEFT JOIN {quoted(tables.records)} r "
        "ON r.collection = n.collection AND r.id = n.id ORDER BY n.seq"
    ):
        if collection is None:
            # It marks what was collected before.
            continue
        key = (collection, id)
        known = found.get(key)
        if known is None:
            row = None if now is None else (now, ms, now_us)
            known = found[key] = NotedRecord(row)
            if line is not None and not moved:
                known.before = Stored(line, us)
        if moved:
            known.origin = Stored(line, us)
    return found
