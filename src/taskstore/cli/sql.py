"""`taskstore sql`: queries on the cache."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import click

from taskstore.cli._arguments import standard_input
from taskstore.cli._errors import Failure, Status, hint
from taskstore.cli._formats import format_option, is_json, write_items, write_rows
from taskstore.cli._progress import waiting
from taskstore.cli._store import names_in, uses_store

if TYPE_CHECKING:
    from taskstore._api.store import Store


_RESERVED = "sqlite_"
"""The prefix that SQLite reserves; no view can have such a name."""

_UNKNOWN = re.compile(r"no such (?P<kind>table|column): (?P<name>.+)")


@click.command("sql")
@click.argument("query")
@click.option(
    "-p",
    "--param",
    "parameters",
    metavar="NAME VALUE",
    nargs=2,
    multiple=True,
    help="The value of :NAME in the query.",
)
@click.option(
    "--no-header", is_flag=True, help="In tsv and csv: leave out the line with the names."
)
@format_option
@uses_store(past=True)
def command(
    store: Store,
    query: str,
    parameters: tuple[tuple[str, str], ...],
    *,
    no_header: bool,
    format: str | None,
) -> None:
    """Run QUERY (- for stdin), one SELECT in SQLite's SQL, on the cache.

    Each collection is a view with its own name and a column for each field. NAME_history has every
    version of its records with time and commit, NAME_diff has each value that a version changed,
    and NAME_blame has who last changed each field. You can also query the tables of the schema,
    such as records, tombstones and record_indexes. Lists and objects are JSON text, for json_each
    and -> . SQLite refuses anything that would write.

    \b
    Examples:
      taskstore sql 'SELECT status, count(*) FROM plans GROUP BY status'
      taskstore sql 'SELECT id FROM plans WHERE title LIKE :t' -p t '%ship%'
    """
    from taskstore._cache.sql.reading_sql import QueryError, answered

    text = standard_input().read() if query == "-" else query
    views = list(_views(store, text))
    try:
        with (
            _history(store, text) as more,
            answered(store.engine, text, dict(parameters), [*views, *more]) as (columns, rows),
        ):
            _print(columns, rows, format, header=not no_header)
    except QueryError as error:
        message = f"{error}{_advice(store, text, error.reason)}"
        raise Failure(message, Status.USAGE) from error


def _print(
    columns: list[str], rows: Iterator[Sequence[Any]], format: str | None, *, header: bool
) -> None:
    if is_json(format):
        names = _distinct(columns)
        items = (dict(zip(names, map(_json, row), strict=True)) for row in rows)
        write_items(items, format)
    else:
        with waiting("Running the query"):
            found = [list(map(_json, row)) for row in rows]
        write_rows(columns, found, format, header=header, numbers=_numbers(columns, found))


def _views(store: Store, query: str) -> Iterator[str]:
    """Yield the statements that create views for the collections in a query."""
    from taskstore._cache.sql.reading_sql import view_sql
    from taskstore._survey.fields import field_names

    tables = {*store.models.table_names, store.models.version_table}
    logs = _logs(store)
    # SQL ignores case in names. If two names differ only in case, the exact spelling counts.
    for name in sorted(logs, key=lambda name: not _is_named(name, query)):
        folded = name.lower()
        if folded in tables or folded.startswith(_RESERVED):
            continue
        if _is_named(name, query, re.IGNORECASE):
            tables.add(folded)
            yield view_sql(name, logs[name], field_names(store, logs[name]))


def _logs(store: Store) -> dict[str, str]:
    """Return the name of the log, by each name of a collection that can be queried."""
    from taskstore._log.layout import Layout

    logs, _ = Layout(store.path).collections()
    names = names_in(store.path)
    return {log: log for log in logs} | {names.name_of(log): log for log in logs}


@contextlib.contextmanager
def _history(store: Store, query: str) -> Iterator[list[str]]:
    """Yield the statements that create views for the histories in a query."""
    from taskstore._survey.fields import field_names

    names = _logs(store)
    wanted = {
        f"{name}_{kind}": log
        for name, log in names.items()
        for kind in ("history", "diff", "blame")
        if _is_named(f"{name}_{kind}", query, re.IGNORECASE) and f"{name}_{kind}" not in names
    }
    if not wanted or store._context.past is not None:
        yield []
        return
    from taskstore._api.history_session import history_database
    from taskstore._cache.history.database import history_sql, view_sql

    with waiting("Reading the history"):
        opening = history_database(store._context, sorted({*wanted.values()}))
        path = opening.__enter__()
    try:
        views = [view_sql(view, name, field_names(store, name)) for view, name in wanted.items()]
        yield [*history_sql(path, from_memory=store.read_only)[:1], *views]
    finally:
        opening.__exit__(None, None, None)


def _is_named(name: str, query: str, flags: int = 0) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", query, flags) is not None


def _advice(store: Store, query: str, reason: str) -> str:
    """Return a suggestion for a query that names an unknown table or column."""
    from taskstore._log.layout import Layout
    from taskstore._survey.fields import field_names

    found = _UNKNOWN.match(reason)
    if found is None:
        return ""
    kind, name = found["kind"], found["name"].rpartition(".")[2]
    names, _ = Layout(store.path).collections()
    if kind == "column":
        named = [each for each in names if _is_named(each, query, re.IGNORECASE)]
        return hint(name, [field for each in named for field in field_names(store, each)])
    if name in names and name.lower().startswith(_RESERVED):
        return (
            f"; SQLite keeps names with {_RESERVED} for itself: "
            f"query records WHERE collection = '{name}'"
        )
    return hint(name, [*names, *store.models.table_names])


def _distinct(columns: Sequence[str]) -> list[str]:
    """Return the names of columns, with a number for repeated ones, as SQLite's shell does."""
    seen: Counter[str] = Counter()
    names = []
    for name in columns:
        names.append(f"{name}:{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def _json(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        # JSON cannot express it.
        return "Infinity" if value > 0 else "-Infinity"
    return value.hex() if isinstance(value, bytes) else value


def _numbers(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterable[str]:
    for position, name in enumerate(columns):
        if all(isinstance(row[position], int | float | None) for row in rows):
            yield name
