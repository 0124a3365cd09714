"""The unique keys of a table, as a trigger can compare them with a row that is about to come.

SQLite does not run DELETE triggers for the rows that REPLACE removes, unless the application turns
recursive triggers on. Which rows those will be is known before: they share a unique key with the
new row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

_EXPRESSION = -2
_DIRECTION = re.compile(r"\s+(?:ASC|DESC)\s*$", re.IGNORECASE)
_PIECE = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|.""", re.DOTALL
)


@attrs.frozen
class UniqueKey:
    """One unique constraint or index.

    Attributes:
        columns: The names of its plain columns.
        parts: SQL of each part, with the collation by which it is compared. A part is a quoted
            column or an expression over columns.
        is_binary: Whether equal values are always stored alike.
    """

    columns: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    is_binary: bool = True

    def condition(self, columns: Sequence[str], row: str) -> str:
        """Return SQL that is true for the rows of the table that share this key with another row.

        Args:
            columns: All columns of the table.
            row: The other row in a trigger, NEW or OLD.
        """
        return " AND ".join(
            f"{part} = {_of_row(part, columns, row)} COLLATE {quoted(collation)}"
            for part, collation in self.parts
        )

    def changes(self, columns: Sequence[str]) -> str:
        """Return SQL that is true in an UPDATE trigger if the key gets another value."""
        return " OR ".join(
            f"{_of_row(part, columns, 'NEW')} COLLATE BINARY IS NOT {_of_row(part, columns, 'OLD')}"
            for part, _ in self.parts
        )


def unique_keys(cursor: Any, schema: str, table: str) -> tuple[list[str], list[UniqueKey]]:
    """Return the columns of a table, and its unique keys.

    Args:
        cursor: Of the driver.
        schema: The database that has the table: main, or the name of an attached one.
        table: Its name.
    """
    place = f"{quoted(schema)}."
    info = cursor.execute(f"PRAGMA {place}table_xinfo({quoted(table)})").fetchall()
    columns = [row[1] for row in info]
    primary = [row[1] for row in sorted(info, key=lambda row: row[5]) if row[5]]
    found = []
    has_index = False
    for _, name, is_unique, origin, *_ in cursor.execute(
        f"PRAGMA {place}index_list({quoted(table)})"
    ).fetchall():
        has_index = has_index or origin == "pk"
        if is_unique:
            found.append(_of_index(cursor, schema, name))
    if primary and not has_index:
        # It is the rowid itself, which has no index.
        found.append(UniqueKey(tuple(primary), ((quoted(primary[0]), "BINARY"),)))
    return columns, found


def _of_index(cursor: Any, schema: str, name: str) -> UniqueKey:
    parts = []
    columns = []
    is_binary = True
    rows = cursor.execute(f"PRAGMA {quoted(schema)}.index_xinfo({quoted(name)})").fetchall()
    terms: list[str] = []
    for place, column, column_name, _, collation, is_key in rows:
        if not is_key:
            continue
        if column == _EXPRESSION:
            terms = terms or list(_terms(_sql_of(cursor, schema, name)))
            parts.append((f"({_DIRECTION.sub('', terms[place])})", collation))
        else:
            columns.append(column_name)
            parts.append((quoted(column_name), collation))
            is_binary = is_binary and collation.upper() == "BINARY"
    return UniqueKey(tuple(columns), tuple(parts), is_binary)


def _sql_of(cursor: Any, schema: str, index: str) -> str:
    [sql] = cursor.execute(
        f"SELECT sql FROM {quoted(schema)}.sqlite_master WHERE type = 'index' AND name = ?",
        (index,),
    ).fetchone()
    return str(sql)


def _terms(sql: str) -> Iterator[str]:
    """The terms in the first parentheses of a CREATE INDEX."""
    depth, term = 0, ""
    for piece in _PIECE.findall(sql):
        if piece == ")":
            depth -= 1
            if not depth:
                break
        if depth == 1 and piece == ",":
            yield term
            term = ""
        elif depth:
            term += piece
        if piece == "(":
            depth += 1
    yield term


def _of_row(part: str, columns: Sequence[str], row: str) -> str:
    if not part.startswith("("):
        return f"{row}.{part}"
    # The expression names columns alone: it is evaluated over a row that has them.
    values = ", ".join(f"{row}.{quoted(name)} AS {quoted(name)}" for name in columns)
    return f"(SELECT {part} FROM (SELECT {values}))"


def quoted(name: str) -> str:
    """Return an identifier as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
