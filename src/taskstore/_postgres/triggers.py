"""The DDL of the outbox, and of the triggers that fill it.

Statement triggers with transition tables see every client and every way to write: they put each
row, as JSON, into the outbox, in the transaction of the write. The scribe makes lines of them. A
row trigger stamps versions, under the lock of the row and with the database's clock.

While the scribe brings lines into a table its own writes to that table are not captured: its
transaction says so in a table that nobody else may write. What they set off elsewhere (cascades,
the triggers of the application) is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
from sqlalchemy import BigInteger, Column, Integer
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import text
from sqlalchemy.types import JSON, TypeDecorator

from taskstore._mirror.model.shape import Mirror
from taskstore._postgres.names import (
    SCHEMA_VERSION,
    Outbox,
    quoted,
    quoted_columns,
    quoted_table,
)
from taskstore.errors import TriggersRequiredError

PROJECTING = "taskstore.projecting"
"""The setting that names the collection that a transaction of the scribe brings into its table; the
table of the scribe must confirm it."""

_NOW_MS = "pg_catalog.floor(extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::bigint"
_NOW = "pg_catalog.date_trunc('milliseconds', pg_catalog.clock_timestamp())"


def outbox_ddl(outbox: Outbox) -> Iterator[str]:
    """Yield the statements that create the outbox if there is none."""
    yield (
        f"CREATE TABLE IF NOT EXISTS {outbox.table} ("
        "seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(), "
        "written timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(), "
        "collection text NOT NULL, deleted boolean NOT NULL, content json NOT NULL, "
        "id text, problem text)"
    )
    yield (
        f"CREATE TABLE IF NOT EXISTS {outbox.scribe} ("
        "one boolean PRIMARY KEY DEFAULT true CHECK (one), version integer NOT NULL, "
        "clone text, place text, projecting xid8)"
    )
    yield (
        f"INSERT INTO {outbox.scribe} (version) VALUES ({SCHEMA_VERSION}) ON CONFLICT DO NOTHING"
    )


def drop_outbox_ddl(outbox: Outbox) -> Iterator[str]:
    """Yield the statements that remove it."""
    yield f"DROP TABLE IF EXISTS {outbox.table}"
    yield f"DROP TABLE IF EXISTS {outbox.scribe}"


@attrs.frozen
class Triggers:
    """The triggers of one mirrored table.

    Attributes:
        mirror: The model.
        outbox: Where they write.
        dialect: Of the database.
        schema: The schema that the table is in.
    """

    mirror: Mirror
    outbox: Outbox
    dialect: Dialect
    schema: str

    @property
    def table(self) -> str:
        """The table, quoted."""
        return quoted_table(self.mirror.table, self.dialect)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the triggers."""
        found = tuple(self._events())
        return found if self.mirror.version is None else (*found, "taskstore_stamp")

    @property
    def digest(self) -> str:
        """A digest of the statements, which the database keeps as a comment."""
        told = "\n".join(self._statements(""))
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    def create(self) -> Iterator[str]:
        """Yield the statements that make the triggers, in place of those that are there."""
        yield from self._statements(self.digest)

    def drop(self) -> Iterator[str]:
        """Yield the statements that remove them."""
        for name in (*self._events(), "taskstore_stamp"):
            yield f"DROP TRIGGER IF EXISTS {name} ON {self.table}"
        for kind in ("capture", "stamp"):
            yield f"DROP FUNCTION IF EXISTS {self._function(kind)}()"

    def _statements(self, digest: str) -> Iterator[str]:
        yield from self.drop()
        yield self._made("capture", self._capture_body(), "SECURITY DEFINER ")
        yield self._noted("capture", digest)
        for name, event in self._events().items():
            yield (
                f"CREATE TRIGGER {name} {event} FOR EACH STATEMENT "
                f"EXECUTE FUNCTION {self._function('capture')}()"
            )
        if self.mirror.version is not None:
            yield self._made("stamp", self._stamp_body(self.mirror.version.column), "")
            yield self._noted("stamp", digest)
            yield (
                f"CREATE TRIGGER taskstore_stamp BEFORE INSERT OR UPDATE ON {self.table} "
                f"FOR EACH ROW EXECUTE FUNCTION {self._function('stamp')}()"
            )

    def _events(self) -> dict[str, str]:
        on = f"ON {self.table} REFERENCING"
        return {
            "taskstore_insert": f"AFTER INSERT {on} NEW TABLE AS new_rows",
            "taskstore_update": f"AFTER UPDATE {on} OLD TABLE AS old_rows NEW TABLE AS new_rows",
            "taskstore_delete": f"AFTER DELETE {on} OLD TABLE AS old_rows",
            "taskstore_truncate": f"BEFORE TRUNCATE ON {self.table}",
        }

    def _function(self, kind: str) -> str:
        return self.outbox.function(kind, self.mirror.collection)

    def _made(self, kind: str, body: str, options: str) -> str:
        return (
            f"CREATE FUNCTION {self._function(kind)}() RETURNS trigger LANGUAGE plpgsql {options}"
            f"SET search_path = pg_catalog, pg_temp AS $taskstore${body}$taskstore$"
        )

    def _noted(self, kind: str, digest: str) -> str:
        return f"COMMENT ON FUNCTION {self._function(kind)}() IS 'taskstore {digest}'"

    def _projecting(self) -> str:
        return (
            f"pg_trigger_depth() = 1 AND current_setting('{PROJECTING}', true) = "
            f"'{self.mirror.collection}' AND EXISTS ("
            f"SELECT 1 FROM {self.outbox.scribe} WHERE projecting = pg_current_xact_id())"
        )

    def _unseen(self) -> str:
        """When changes are not captured."""
        table = self.mirror.table
        if any(key.column.table is table for key in table.foreign_keys):
            # A cascade within the table cannot be told from what has set it off. What is captured
            # without need makes no line.
            return "false"
        return self._projecting()

    def _capture_body(self) -> str:
        keys = [field.column for field in self.mirror.key_fields]
        plain, old, table = quoted_columns(keys), quoted_columns(keys, "o"), self._qualified
        same, new = (_equal(keys, other) for other in ("o", "n"))
        absent = f"WHERE NOT EXISTS (SELECT 1 FROM {table} t WHERE {same})"
        gone = f"SELECT {old} FROM old_rows o {absent}"
        present = f"{table} t WHERE EXISTS (SELECT 1 FROM new_rows n WHERE {new})"
        # The plan of a statement is kept, and was made for other numbers of rows: EXECUTE makes
        # one for these.
        return f"""
DECLARE
  is_nested boolean;
BEGIN
  IF {self._unseen()} THEN
    RETURN NULL;
  END IF;
  IF TG_OP = 'TRUNCATE' THEN
    {self._insert("true", "k", f"(SELECT {plain} FROM {table}) k")};
    RETURN NULL;
  END IF;
  is_nested := current_setting('taskstore.nested', true) = pg_current_xact_id_if_assigned()::text;
  IF pg_trigger_depth() > 1 THEN
    PERFORM set_config('taskstore.nested', pg_current_xact_id()::text, true);
  END IF;
  IF is_nested THEN
    -- Triggers may have written these rows once more, and that was captured before this.
    IF TG_OP <> 'INSERT' THEN
      EXECUTE {_literal(self._insert("true", "k", f"({gone}) k"))};
    END IF;
    IF TG_OP <> 'DELETE' THEN
      EXECUTE {_literal(self._insert("false", "t", present))};
    END IF;
    RETURN NULL;
  END IF;
  IF TG_OP = 'INSERT' THEN
    {self._insert("false", "n", "new_rows n")};
  ELSIF TG_OP = 'DELETE' THEN
    {self._insert("true", "k", f"(SELECT {plain} FROM old_rows) k")};
  ELSE
    {
            self._insert(
                "true", "k", f"(SELECT {plain} FROM old_rows EXCEPT SELECT {plain} FROM new_rows) k"
            )
        };
    {self._insert("false", "n", "new_rows n")};
  END IF;
  RETURN NULL;
END
"""

    @property
    def _qualified(self) -> str:
        """The table, for a function whose search path has none of the application's schemas."""
        name = quoted_table(self.mirror.table, self.dialect)
        return name if self.mirror.table.schema else f"{quoted(self.schema)}.{name}"

    def _insert(self, deleted: str, alias: str, source: str) -> str:
        collection = self.mirror.collection
        return (
            f"INSERT INTO {self.outbox.table} (collection, deleted, content) "
            f"SELECT '{collection}', {deleted}, row_to_json({alias}) FROM {source}"
        )

    def _stamp_body(self, version: Column[Any]) -> str:
        name = quoted_columns([version])
        is_int = isinstance(version.type, Integer | BigInteger)
        nothing = f"NEW.{name} IS NULL" + (f" OR NEW.{name} = 0" if is_int else "")
        if is_int:
            now, after = _NOW_MS, f"OLD.{name} + 1"
        else:
            zoned = getattr(version.type, "timezone", False)
            now = _NOW if zoned else f"({_NOW} AT TIME ZONE 'UTC')"
            after = f"date_trunc('milliseconds', OLD.{name}) + interval '1 millisecond'"
        return f"""
BEGIN
  IF {self._projecting()} THEN
    RETURN NEW;
  END IF;
  IF TG_OP = 'INSERT' THEN
    IF {nothing} THEN
      NEW.{name} := {now};
    END IF;
  ELSIF NEW.{name} IS NULL OR NEW.{name} < OLD.{name} OR (
    NEW.{name} IS NOT DISTINCT FROM OLD.{name} AND ({self._changed()})
  ) THEN
    NEW.{name} := greatest({now}, {after});
  END IF;
  RETURN NEW;
END
"""

    def _changed(self) -> str:
        columns = {
            field.column.name: field.column
            for shape in self.mirror.shapes
            for field in shape.fields.values()
        }
        return " OR ".join(_distinct(column) for column in columns.values())


def _distinct(column: Column[Any]) -> str:
    name = quoted_columns([column])
    type_: Any = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    # The type json has no equality.
    cast = "::text" if isinstance(type_, JSON) else ""
    return f"NEW.{name}{cast} IS DISTINCT FROM OLD.{name}{cast}"


def _equal(keys: Iterable[Column[Any]], other: str) -> str:
    return " AND ".join(
        f"{quoted_columns([key], 't')} = {quoted_columns([key], other)}" for key in keys
    )


def _literal(sql: str) -> str:
    return "'" + sql.replace("'", "''") + "'"


def triggers_of(
    connection: Connection, outbox: Outbox, mirrors: Iterable[Mirror]
) -> list[Triggers]:
    """Return the triggers of mirrored tables that are there."""
    found = []
    for mirror in mirrors:
        name = quoted_table(mirror.table, connection.dialect)
        schema = connection.execute(_NAMESPACE, {"name": name}).scalar_one_or_none()
        found.append(Triggers(mirror, outbox, connection.dialect, schema or outbox.schema))
    return found


_NAMESPACE: Any = text(
    "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
    "ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass(:name)"
)


def missing_triggers(connection: Connection, triggers: Iterable[Triggers]) -> list[str]:
    """Return the tables that lack a trigger, or have an older or a disabled one."""
    late = []
    for one in triggers:
        found = connection.execute(_TRIGGERS, {"name": one.table}).all()
        wanted = {(name, f"taskstore {one.digest}") for name in one.names}
        if {(name, told) for name, told, enabled in found if enabled in ("O", "A")} != wanted:
            late.append(one.mirror.table.fullname)
    return late


_TRIGGERS: Any = text(
    "SELECT t.tgname, pg_catalog.obj_description(t.tgfoid, 'pg_proc'), t.tgenabled "
    "FROM pg_catalog.pg_trigger t WHERE t.tgrelid = pg_catalog.to_regclass(:name) "
    r"AND NOT t.tgisinternal AND t.tgname LIKE 'taskstore\_%'"
)


def check_triggers(connection: Connection, triggers: Iterable[Triggers]) -> None:
    """See that every mirrored table has its triggers.

    Raises:
        TriggersRequiredError: One lacks them, or has those of another model.
    """
    late = missing_triggers(connection, triggers)
    if late:
        raise TriggersRequiredError(tables=late)


def ensure_triggers(connection: Connection, outbox: Outbox, triggers: Iterable[Triggers]) -> None:
    """Make the outbox and the triggers that are missing, in the connection's transaction."""
    some = list(triggers)
    late = set(missing_triggers(connection, some))
    statements = [*outbox_ddl(outbox)]
    for one in some:
        if one.mirror.table.fullname in late:
            statements += one.create()
    for statement in statements:
        connection.exec_driver_sql(statement.replace("%", "%%"))
