"""Makes the store's own records what their logs say, after git has changed them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
from sqlalchemy.engine import Connection

from taskstore._postgres.cache import CacheTables
from taskstore._postgres.context import PostgresContext
from taskstore._postgres.incoming import Incoming, LogRead
from taskstore._sync.freshness import looks_fresh, stat_log
from taskstore._sync.report import CollectionReport

_NO_TEXT = "PostgreSQL cannot hold its text or its numbers"

# Not a function of the schema: it is needed while a log is read, and what it asks of a line is
# what `CAST(line AS jsonb)` in a filter does.
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

    Everything that waits in the outbox is in the logs, so the logs say all.

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

    def run(self, *, force: bool) -> dict[str, CollectionReport]:
        """Read the logs that have changed, or all; return what was read of each."""
        tables = CacheTables(self.connection, self.context.store.models)
        known = tables.fingerprints()
        reports = {}
        for name in self.names:
            if not force and looks_fresh(known.get(name), stat_log(self.context.store, name)):
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
        """A block in which the temporary table has what a log says, and PostgreSQL can hold.

        Why it cannot hold a record is noted.
        """
        incoming = Incoming(self.context.store, self.connection, name)
        with incoming.loaded() as read:
            refused = [*read.unusable, *self._hidden()]
            tables = CacheTables(self.connection, self.context.store.models)
            tables.put_refusals(name, dict.fromkeys(refused, _NO_TEXT))
            yield incoming, read

    def _hidden(self) -> list[str]:
        """Make the records that cannot be held dead ones, so that new versions are newer."""
        # Few lines have what JSONB may refuse: NUL, half a pair of surrogates, a huge exponent.
        self.connection.exec_driver_sql(_FITS)
        rows = self.connection.exec_driver_sql(
            "UPDATE pg_temp.taskstore_incoming SET dead = true WHERE NOT dead "
            r"AND line ~* '\\u(0000|d[89a-f])|[0-9]e[+-]?[0-9]{3}|[0-9]{250}' "
            "AND NOT pg_temp.taskstore_fits(line) RETURNING id"
        )
        return list(rows.scalars())
