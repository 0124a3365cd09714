"""Reads which numbers the rows of a counted table have, on the driver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from taskstore._cache.capture.unique_keys import quoted
from taskstore._mirror.model.shape import Mirror, Shape
from taskstore._mirror.tables.writing import key_columns

_AT_ONCE = 500


def numbers_there(cursor: Any, mirror: Mirror, numbers: Iterable[int]) -> set[int]:
    """Return those of some numbers that rows have."""
    name, table = _names(mirror)
    return {row[0] for row in _among(cursor, name, table, name, numbers)}


def span_of_numbers(cursor: Any, mirror: Mirror) -> tuple[int, int]:
    """Return the smallest and the greatest number, or 0 if there are no rows."""
    name, table = _names(mirror)
    # Two questions: SQLite answers both at once by a scan.
    sql = f"SELECT (SELECT min({name}) FROM {table}), (SELECT max({name}) FROM {table})"  # noqa: S608 - quoted
    least, greatest = cursor.execute(sql).fetchone()
    return least or 0, greatest or 0


def count_numbers(cursor: Any, mirror: Mirror) -> int:
    """Return how many rows there are."""
    return int(cursor.execute(f"SELECT count(*) FROM {_names(mirror)[1]}").fetchone()[0])  # noqa: S608 - quoted


def all_numbers(cursor: Any, mirror: Mirror) -> list[int]:
    """Return the numbers of all rows."""
    name, table = _names(mirror)
    sql = f"SELECT {name} FROM {table} ORDER BY {name}"  # noqa: S608 - quoted
    return [row[0] for row in cursor.execute(sql).fetchall()]


def keys_by_number(
    cursor: Any, mirror: Mirror, numbers: Iterable[int] | None = None
) -> list[tuple[int, Any]]:
    """Return number and key, as it is stored, of rows that another column identifies.

    Args:
        cursor: Of the driver.
        mirror: Whose rows are meant.
        numbers: Of the rows; None for all.
    """
    return _pairs(cursor, mirror, _names(mirror)[0], numbers)


def numbers_by_key(cursor: Any, mirror: Mirror, keys: Iterable[Any]) -> list[tuple[int, Any]]:
    """Return number and key, as it is stored, of the rows that have some keys."""
    return _pairs(cursor, mirror, quoted(mirror.key_fields[0].columns[-1].name), keys)


def referring_keys(
    cursor: Any, mirror: Mirror, collection: str, numbers: Iterable[int]
) -> list[tuple[Any, ...]]:
    """Return the keys of rows that refer to some numbers of a collection, as they are stored."""
    found = []
    for shape, column in _references(mirror, collection):
        table: Any = column.table
        keys = [quoted(one.name) for one in key_columns(mirror, shape, table)]
        found += _among(cursor, ", ".join(keys), _table(table), quoted(column.name), numbers)
    return found


def referred_numbers(
    cursor: Any, mirrors: Iterable[Mirror], collection: str, numbers: Iterable[int]
) -> set[int]:
    """Return those of some numbers of a collection that rows refer to."""
    found: set[int] = set()
    some = list(numbers)
    for mirror in mirrors:
        for _, column in _references(mirror, collection):
            name = quoted(column.name)
            rows = _among(cursor, f"DISTINCT {name}", _table(column.table), name, some)
            found.update(row[0] for row in rows)
    return found


def refers_to(mirror: Mirror, collection: str) -> bool:
    """Return whether rows of a mirror refer to numbers of a collection."""
    return any(_references(mirror, collection))


def _references(mirror: Mirror, collection: str) -> Iterator[tuple[Shape, Any]]:
    for shape in mirror.shapes:
        for field in shape.references:
            if field.translated is not None and field.translated.collection == collection:
                yield shape, field.column


def stored_values(
    cursor: Any, mirror: Mirror, table: Any, columns: Sequence[Any], numbers: Iterable[int]
) -> Iterator[tuple[int, list[tuple[str, Any]]]]:
    """Yield the number of each row, and what some columns store: type and value, text as bytes.

    Args:
        cursor: Of the driver.
        mirror: Whose rows are meant.
        table: One of its tables.
        columns: Of that table.
        numbers: Of the rows.
    """
    shape = next(shape for shape in mirror.shapes if table in shape.tables)
    [key] = key_columns(mirror, shape, table)
    names = [quoted(column.name) for column in columns]
    # Text need not be UTF-8.
    values = [
        f"typeof({name}), CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END"
        for name in names
    ]
    wanted = ", ".join([quoted(key.name), *values])
    for number, *found in _among(cursor, wanted, _table(table), quoted(key.name), numbers):
        yield number, list(zip(found[::2], found[1::2], strict=True))


def _pairs(
    cursor: Any, mirror: Mirror, by: str, values: Iterable[Any] | None
) -> list[tuple[int, Any]]:
    number, table = _names(mirror)
    wanted = f"{number}, {quoted(mirror.key_fields[0].columns[-1].name)}"
    if values is None:
        rows: list[tuple[int, Any]] = cursor.execute(f"SELECT {wanted} FROM {table}").fetchall()  # noqa: S608 - quoted
        return rows
    return _among(cursor, wanted, table, by, values)


def _among(cursor: Any, wanted: str, table: str, column: str, values: Iterable[Any]) -> list[Any]:
    found = []
    some = list(values)
    for start in range(0, len(some), _AT_ONCE):
        few = some[start : start + _AT_ONCE]
        places = ", ".join("?" * len(few))
        sql = f"SELECT {wanted} FROM {table} WHERE {column} IN ({places})"  # noqa: S608 - quoted
        found += cursor.execute(sql, few).fetchall()
    return found


def _names(mirror: Mirror) -> tuple[str, str]:
    """The counted column, and the table."""
    assert mirror.counted is not None
    return quoted(mirror.counted.name), _table(mirror.table)


def _table(table: Any) -> str:
    name = quoted(table.name)
    return name if table.schema is None else f"{quoted(table.schema)}.{name}"
