"""Which rows of the outbox of PostgreSQL are from before an evolution.

A row in the outbox has the columns and types that its table had when it was written. A revision
that evolves the log notes up to which row, and in which transaction, that may be another table
than the one that it leaves behind.
"""

from __future__ import annotations

from typing import Self

import attrs

from taskstore._cache.schema.names import quoted

_BEGIN = "evolved"


@attrs.frozen
class Mark:
    """The last evolution of a collection.

    Attributes:
        seq: The last row of the outbox before it.
        transaction: The transaction of the migration, whose rows are on either side of it.
    """

    seq: int
    transaction: int

    @classmethod
    def parsed(cls, text: str) -> Self | None:
        """Return the mark that a migration has noted; None for any other note."""
        kind, _, rest = text.partition(":")
        seq, _, transaction = rest.partition(":")
        if kind != _BEGIN or not (seq.isdecimal() and transaction.isdecimal()):
            return None
        return cls(int(seq), int(transaction))

    def covers(self, alias: str) -> str:
        """Return the SQL condition that a row of the outbox may be from before the evolution."""
        return f"({alias}.seq <= {self.seq} OR {alias}.xid = '{self.transaction}'::xid8)"


def mark_sql(collection: str, states: str, outbox: str) -> str:
    """Return the statement that notes a mark, in the transaction of a migration.

    It locks the tables of the collection against writers first, so that no row comes in between.
    In a database without an outbox it does nothing.

    Args:
        collection: The collection, by the name of its log.
        states: The table of the states of mirrored tables.
        outbox: The table of the outbox.
    """
    return f"""
DO $taskstore$
DECLARE
  one regclass;
BEGIN
  IF to_regclass('{quoted(outbox)}') IS NULL THEN
    RETURN;
  END IF;
  FOR one IN
    SELECT t.tgrelid::regclass FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgname = 'taskstore_truncate' AND NOT t.tgisinternal
    AND position('SELECT ''{collection}'', true, ' IN p.prosrc) > 0 ORDER BY 1
  LOOP
    EXECUTE 'LOCK TABLE ' || one::text || ' IN SHARE ROW EXCLUSIVE MODE';
  END LOOP;
  INSERT INTO {quoted(states)} (collection, digest) VALUES (
    '{collection}',
    concat_ws(
      ':',
      '{_BEGIN}',
      coalesce(pg_sequence_last_value(pg_get_serial_sequence('{quoted(outbox)}', 'seq')), 0),
      pg_current_xact_id()
    )
  ) ON CONFLICT (collection) DO UPDATE SET digest = excluded.digest;
END
$taskstore$
"""
