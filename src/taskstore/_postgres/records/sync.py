"""Updates the store's own records from their logs, after git has changed these."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import attrs
from sqlalchemy.engine import Connection

from taskstore._postgres.cache import CacheTables
from taskstore._postgres.context import PostgresContext
from taskstore._postgres.incoming import Incoming, LogRead
from taskstore._postgres.names import execute_sql
from taskstore._sync.freshness import looks_fresh
from taskstore._sync.report import CollectionReport

_NO_TEXT = "PostgreSQL cannot hold its text or its numbers"

# A temporary function, because it is needed only while a log is read. It tries what
# `CAST(line AS jsonb)` does in a filter.
_FITS = """
CREATE OR REPLACE FUNCTION pg_temp.taskstore_fits(line text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $taskstore$
BEGIN
  PERFORM line::jsonb;
  RETURN true;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
  RETURN false;
END
$taskstore$
"""


@attrs.frozen
class RecordSync:
    """One sync of the store's own collections, in a transaction that holds their tables.

    The outbox was drained before, so the logs are complete.

    Attributes:
        context: The store.
        connection: In the transaction.
        names: The collections.
    """

    context: PostgresContext
    connection: Connection
    names: list[str] = attrs.field(init=False)

    @names.default
    def _own_collections(self) -> list[str]:
        return self.context.own_collections(self.connection)

    def run(self, *, force: bool, again: Collection[str] = ()) -> dict[str, CollectionReport]:
        """Read the logs that have changed, or all; return what was read of each.

        Args:
            force: Whether to read all.
            again: The collections to read in any case.
        """
        tables = CacheTables(self.connection, self.context.store.models)
        known = tables.fingerprints()
        reports = {}
        for name in self.names:
            is_fresh = looks_fresh(known.get(name), self.context.store.layout.stat_log(name))
            if is_fresh and not force and name not in again:
                reports[name] = CollectionReport(name, "fresh", 0, *tables.count(name))
                continue
            had = tables.count(name)
            with self.loaded(name) as (incoming, read):
                incoming.store_all(read)
                tables.mark_hidden(name, tables.refusals(name))
            if read.replay is None:
                action = "removed" if any(had) else "fresh"
                reports[name] = CollectionReport(name, action, 0, 0, 0)
                continue
            problems = tuple(read.replay.problems)
            reports[name] = CollectionReport(
                name, "replayed", read.replay.lines, *tables.count(name), problems, len(problems)
            )
        return reports

    @contextmanager
    def loaded(self, name: str) -> Iterator[tuple[Incoming, LogRead]]:
        """Yield while the temporary table has the records of a log that PostgreSQL can hold.

        The other records are recorded as refused.
        """
        incoming = Incoming(self.context.store, self.connection, name)
        with incoming.loaded() as read:
            refused = dict.fromkeys([*read.unusable, *self._hidden()], _NO_TEXT)
            incoming.bury_hidden()
            tables = CacheTables(self.connection, self.context.store.models)
            tables.put_refusals(name, refused | read.hidden)
            yield incoming, read

    def _hidden(self) -> list[str]:
        """Make records dead that PostgreSQL cannot hold, and return their ids.

        New versions of them are newer then.
        """
        # Few lines have what JSONB may refuse: NUL, half a pair of surrogates, a huge exponent.
        execute_sql(self.connection, _FITS)
        rows = execute_sql(
            self.connection,
            "UPDATE pg_temp.taskstore_incoming SET dead = true WHERE NOT dead "
            r"AND line ~* '\\u(0000|d[89a-f])|[0-9]e[+-]?[0-9]{3}|[0-9]{250}' "
            "AND NOT pg_temp.taskstore_fits(line) RETURNING id",
        )
        return list(rows.scalars())
