"""The database of the history: what git has of each log, and the tables that follow from it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from taskstore._cache.history.models import TABLES, HistoryBase
from taskstore._cache.sql.reading_sql import attach_sql, restrict

SCHEMA = "taskstore_history"
"""The name under which a connection has the database."""

TIMEOUT = 30.0
"""How long to wait for another process that writes, in seconds."""

_OWN = (
    "CREATE TABLE IF NOT EXISTS read_logs (collection TEXT PRIMARY KEY, head TEXT, state TEXT)",
    """
    CREATE TABLE IF NOT EXISTS commits (
        collection TEXT, position INTEGER, id TEXT, parents TEXT, facts TEXT,
        PRIMARY KEY (collection, position)) WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS lines (
        collection TEXT, position INTEGER, number INTEGER, raw BLOB,
        PRIMARY KEY (collection, position, number)) WITHOUT ROWID
    """,
)


class ReadCommit(NamedTuple):
    """A commit that changed a log, with the lines that it added.

    Attributes:
        id: Its id.
        parents: The ids of its parents, among the commits that changed the log.
        facts: Author, time and subject.
        is_boundary: Whether a shallow clone ends at it.
        lines: The lines that it added.
    """

    id: str
    parents: list[str]
    facts: tuple[str, str, str]
    is_boundary: bool
    lines: list[bytes]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database for writing in one transaction, which also creates what tables it lacks.

    Raises:
        sqlite3.Error: SQLite refused, or the file is damaged; see `remove`.
    """
    connecting = sqlite3.connect(path, isolation_level=None, timeout=TIMEOUT)
    with contextlib.closing(connecting) as connection:
        # Whoever is killed, or comes second, finds all tables or none.
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            for statement in _tables_sql():
                connection.execute(statement)
            yield connection


def remove(path: Path) -> None:
    """Remove a damaged database. It is a cache: it comes back from git."""
    for name in (f"{path.name}-journal", path.name):
        path.with_name(name).unlink(missing_ok=True)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database for queries of a user's own, in a block.

    Raises:
        sqlite3.Error: SQLite refused.
    """
    uri = f"{path.as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=TIMEOUT)) as connection:
        restrict(connection)
        yield connection


@cache
def _tables_sql() -> tuple[str, ...]:
    """Return the statements that create the tables and indexes that are missing."""
    found: list[CreateTable | CreateIndex] = []
    for table in HistoryBase.metadata.sorted_tables:
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        found.append(CreateTable(table, if_not_exists=True))
        found += [CreateIndex(index, if_not_exists=True) for index in indexes]
    return (*_OWN, *(str(one.compile(dialect=sqlite.dialect())) for one in found))


def read_state(connection: sqlite3.Connection, collection: str) -> tuple[str, str]:
    """Return the commit up to which a log was read, and what its tables were made of."""
    sql = "SELECT head, state FROM read_logs WHERE collection = ?"
    found = connection.execute(sql, (collection,)).fetchone()
    return ("", "") if found is None else (found[0], found[1])


def put_state(connection: sqlite3.Connection, collection: str, head: str, state: str) -> None:
    """Record both."""
    connection.execute("REPLACE INTO read_logs VALUES (?, ?, ?)", (collection, head, state))


def forget(connection: sqlite3.Connection, collection: str) -> None:
    """Forget what was read of a log."""
    for table in ("commits", "lines", "read_logs"):
        connection.execute(f"DELETE FROM {table} WHERE collection = ?", (collection,))


def add_commits(
    connection: sqlite3.Connection, collection: str, commits: Iterable[ReadCommit]
) -> None:
    """Add commits after those that are there."""
    sql = "SELECT coalesce(max(position), -1) + 1 FROM commits WHERE collection = ?"
    [start] = connection.execute(sql, (collection,)).fetchone()
    for position, commit in enumerate(commits, start):
        facts = json.dumps([*commit.facts, commit.is_boundary])
        row = (collection, position, commit.id, " ".join(commit.parents), facts)
        connection.execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?)", row)
        rows = [(collection, position, n, raw) for n, raw in enumerate(commit.lines)]
        connection.executemany("INSERT INTO lines VALUES (?, ?, ?, ?)", rows)


def commits_of(connection: sqlite3.Connection, collection: str) -> list[ReadCommit]:
    """Return the commits that are there, oldest first."""
    lines: dict[int, list[bytes]] = {}
    sql = "SELECT position, raw FROM lines WHERE collection = ? ORDER BY position, number"
    for position, raw in connection.execute(sql, (collection,)):
        lines.setdefault(position, []).append(raw)
    sql = "SELECT position, id, parents, facts FROM commits WHERE collection = ? ORDER BY position"
    found = []
    for position, id, parents, text in connection.execute(sql, (collection,)):
        author, time, subject, is_boundary = json.loads(text)
        facts = (author, time, subject)
        found.append(ReadCommit(id, parents.split(), facts, is_boundary, lines.get(position, [])))
    return found


def put_rows(
    connection: sqlite3.Connection, collection: str, rows: Iterable[tuple[str, Sequence[Any]]]
) -> None:
    """Replace the rows of a collection.

    Args:
        connection: To the database.
        collection: The collection.
        rows: For each the table's name, and its values in the order of the columns.
    """
    for table in TABLES:
        connection.execute(f"DELETE FROM {table} WHERE collection = ?", (collection,))
    statements = {}
    for table in TABLES:
        columns = [column.name for column in HistoryBase.metadata.tables[table].columns]
        marks = ", ".join("?" for _ in columns)
        statements[table] = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
    for table, values in rows:
        connection.execute(statements[table], values)


def history_sql(path: Path, *, from_memory: bool = False) -> list[str]:
    """Return the statements that attach the tables to a connection, for reading.

    The arguments are those of `attach_sql`.
    """
    views = [f"CREATE TEMP VIEW {table} AS SELECT * FROM {SCHEMA}.{table}" for table in TABLES]
    return [attach_sql(path, SCHEMA, from_memory=from_memory), *views]


def detach_history_sql() -> list[str]:
    """Return the statements that detach them."""
    return [*(f"DROP VIEW IF EXISTS temp.{table}" for table in TABLES), f"DETACH DATABASE {SCHEMA}"]


def view_sql(view: str, collection: str, fields: Iterable[str]) -> str:
    """Return the statement that makes a view of a collection's history, changes or blame.

    Args:
        view: Its name, which ends with "_history", "_diff" or "_blame".
        collection: The collection.
        fields: The columns of the history besides those of the table.
    """
    kind = view.rpartition("_")[2]
    table = dict(zip(("history", "diff", "blame"), TABLES, strict=True))[kind]
    names = [column.name for column in HistoryBase.metadata.tables[table].columns][1:]
    chosen = [f'"{name}"' for name in names]
    if kind == "history":
        chosen.remove('"data_json"')
        taken = {*(name.lower() for name in names), "data_json"}
        for name in fields:
            if '"' not in name and name.lower() not in taken:
                taken.add(name.lower())
                path = f'$."{name}"'.replace("'", "''")
                chosen.append(f"json_extract(data_json, '{path}') AS \"{name}\"")
    return (
        f'CREATE TEMP VIEW "{view}" AS SELECT {", ".join(chosen)} FROM {SCHEMA}.{table} '
        f"WHERE collection = '{collection}'"
    )
