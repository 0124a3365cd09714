"""`taskstore sql`: queries on the cache."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskstore.cli._arguments import standard_input
from taskstore.cli._errors import Failure, Status, hint
from taskstore.cli._formats import format_option, is_json, write_items, write_rows
from taskstore.cli._progress import waiting
from taskstore.cli._store import (
    complete_revision,
    names_in,
    opened,
    opened_at,
    past_of,
    store_option,
)

if TYPE_CHECKING:
    from taskstore._api.store import Store


_RESERVED = "sqlite_"
"""The prefix that SQLite reserves; no view can have such a name."""

_NAMED = re.compile(r"([A-Za-z_]\w*)=(.+)", re.ASCII | re.DOTALL)
"""A value of --at that names its revision."""

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
@click.option(
    "--at",
    metavar="[NAME=]REV",
    multiple=True,
    shell_complete=complete_revision,
    help="As it was in a commit, or at a time; see `taskstore list --help`. With a NAME, the "
    "collections as they were are NAME.plans and so on, beside the present ones; repeatable.",
)
@format_option
@store_option
def command(
    store_path: Path | None,
    query: str,
    parameters: tuple[tuple[str, str], ...],
    at: tuple[str, ...],
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
      taskstore sql 'SELECT id FROM plans EXCEPT SELECT id FROM old.plans' --at old=v1.2
    """
    from taskstore._cache.sql.reading_sql import QueryError, answered

    with _opened(store_path, _named(at)) as (store, past):
        text = standard_input().read() if query == "-" else query
        attached = [_attached(store, name, each, text) for name, each in past.items()]
        # Views that are not temporary may use our functions only on a connection that trusts them.
        # All caches here have the seal of this clone.
        trust = ["PRAGMA trusted_schema = ON"] if attached else []
        views = [*attached, *trust, *_views(store, text)]
        try:
            with (
                _history(store, text) as more,
                answered(store.engine, text, dict(parameters), [*views, *more]) as (columns, rows),
            ):
                _print(columns, rows, format, header=not no_header)
        except QueryError as error:
            message = f"{error}{_advice(store, text, error.reason)}"
            raise Failure(message, Status.USAGE) from error


def _named(values: Sequence[str]) -> dict[str, str]:
    """Return the revisions of --at by their names, and one without a name by ""."""
    found: dict[str, str] = {}
    for value in values:
        parts = _NAMED.fullmatch(value)
        name, revision = ("", value) if parts is None else parts.groups()
        if name in found or (found and "" in {name, *found}):
            again = f"there are two revisions {name}" if name else "one revision has no name"
            raise Failure(f"{again}: give each a name, as in --at old=v1 --at new=v2", Status.USAGE)
        found[name] = revision
    return found


@contextlib.contextmanager
def _opened(path: Path | None, named: dict[str, str]) -> Iterator[tuple[Store, dict[str, Store]]]:
    """Open the store, or the only revision in its place, and the revisions that have names."""
    if "" in named:
        with opened_at(path, named[""]) as store:
            yield store, {}
        return
    if named:
        from taskstore._api.revisions import check_names

        try:
            check_names(named)
        except ValueError as error:
            raise Failure(str(error), Status.USAGE) from error
    with opened(path) as store, contextlib.ExitStack() as stack:
        past = {name: stack.enter_context(past_of(store, each)) for name, each in named.items()}
        yield store, past


def _attached(store: Store, name: str, past: Store, query: str) -> str:
    """Return the statement that attaches a revision, after making views of its collections."""
    from taskstore._cache.sql.reading_sql import attach_sql, put_views, view_sql

    views = {}
    # A collection that did not exist yet is empty.
    for view, log in _viewed(past, {**_logs(store), **_logs(past)}, query).items():
        fields = dict.fromkeys((*_field_names(past, log), *_field_names(store, log)))
        views[view] = view_sql(view, log, list(fields), create="CREATE VIEW")
    put_views(past.engine, views)
    place = Path(past.engine.url.database or "")
    return attach_sql(place, name, from_memory=store.read_only)


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

    for name, log in _viewed(store, _logs(store), query).items():
        yield view_sql(name, log, _field_names(store, log))


def _viewed(store: Store, logs: dict[str, str], query: str) -> dict[str, str]:
    """Return the collections in a query that can have a view, each with the name of its log."""
    tables = {*store.models.table_names, store.models.version_table}
    found = {}
    # SQL ignores case in names. If two names differ only in case, the exact spelling counts.
    for name in sorted(logs, key=lambda name: not _is_named(name, query)):
        folded = name.lower()
        is_taken = folded in tables or folded.startswith(_RESERVED)
        if not is_taken and _is_named(name, query, re.IGNORECASE):
            tables.add(folded)
            found[name] = logs[name]
    return found


def _field_names(store: Store, log: str) -> list[str]:
    """Return the fields of a collection's records."""
    from taskstore._survey.fields import field_names

    return list(field_names(store, log))


def _logs(store: Store) -> dict[str, str]:
    """Return the name of the log, by each name of a collection that can be queried."""
    from taskstore._log.layout import Layout

    logs, _ = Layout(store.path).collections()
    names = names_in(store.path)
    return {log: log for log in logs} | {names.name_of(log): log for log in logs}


@contextlib.contextmanager
def _history(store: Store, query: str) -> Iterator[list[str]]:
    """Yield the statements that create views for the histories in a query."""
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
        views = [view_sql(view, name, _field_names(store, name)) for view, name in wanted.items()]
        yield [*history_sql(path, from_memory=store.read_only)[:1], *views]
    finally:
        opening.__exit__(None, None, None)


def _is_named(name: str, query: str, flags: int = 0) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", query, flags) is not None


def _advice(store: Store, query: str, reason: str) -> str:
    """Return a suggestion for a query that names an unknown table or column."""
    from taskstore._log.layout import Layout

    found = _UNKNOWN.match(reason)
    if found is None:
        return ""
    kind, name = found["kind"], found["name"].rpartition(".")[2]
    names, _ = Layout(store.path).collections()
    if kind == "column":
        named = [each for each in names if _is_named(each, query, re.IGNORECASE)]
        return hint(name, [field for each in named for field in _field_names(store, each)])
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
