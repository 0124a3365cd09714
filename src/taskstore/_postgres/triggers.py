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
from sqlalchemy import BigInteger, Column, Integer, Table
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import text
from sqlalchemy.types import JSON, TypeDecorator

from taskstore._mirror.model.shape import Mirror
from taskstore._postgres.names import (
    SCHEMA_VERSION,
    Outbox,
    execute_sql,
    literal,
    quoted,
    quoted_columns,
    quoted_table,
)
from taskstore._postgres.parts import columns_in, content_of, keys_in
from taskstore.errors import TriggersRequiredError

PROJECTING = "taskstore.projecting"
"""The setting that names the collection that a transaction of the scribe brings into its table; the
table of the scribe must confirm it."""

_NOW_MS = "pg_catalog.floor(extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::bigint"
_VALUES = "SET extra_float_digits = 1 SET datestyle = 'ISO' "
"""Options of a function: values have all digits, and dates one form, in whichever session."""

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
        source: The table: that of the model, or of a subclass.
        outbox: Where they write.
        dialect: Of the database.
        schema: The schema that the table is in.
        base_schema: The schema of the table that every row of the model is in.
        absent: The columns that a later migration adds to the table.
    """

    mirror: Mirror
    source: Table
    outbox: Outbox
    dialect: Dialect
    schema: str
    base_schema: str
    absent: frozenset[str] = frozenset()

    @property
    def table(self) -> str:
        """The table, quoted."""
        return quoted_table(self.source, self.dialect)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the triggers."""
        found = tuple(self._events())
        return (*found, "taskstore_stamp") if self._stamps else found

    @property
    def _is_base(self) -> bool:
        return self.source is self.mirror.table

    @property
    def _stamps(self) -> bool:
        """Whether the version column is in this table."""
        version = self.mirror.version
        return version is not None and self._is_base and version.column.name not in self.absent

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
        yield self._made("capture", self._capture_body(), f"SECURITY DEFINER {_VALUES}")
        yield self._noted("capture", digest)
        for name, event in self._events().items():
            yield (
                f"CREATE TRIGGER {name} {event} FOR EACH STATEMENT "
                f"EXECUTE FUNCTION {self._function('capture')}()"
            )
        if self._stamps:
            assert self.mirror.version is not None
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
        # No collection has a point in its name.
        part = "" if self._is_base else f".{self.source.name}"
        return self.outbox.function(kind, f"{self.mirror.collection}{part}")

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
        """Return the SQL condition under which changes are not captured."""
        table = self.source
        if any(key.column.table is table for key in table.foreign_keys):
            # A cascade within the table cannot be told from what has set it off. What is captured
            # without need makes no line.
            return "false"
        return self._projecting()

    def _capture_body(self) -> str:
        keys = keys_in(self.mirror, self.source)
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
      EXECUTE {literal(self._insert("true", "k", f"({gone}) k"))};
    END IF;
    IF TG_OP <> 'DELETE' THEN
      EXECUTE {literal(self._insert("false", "t", present))};
    END IF;
    {self._touch()}RETURN NULL;
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
  {self._touch()}RETURN NULL;
END
"""

    def _touch(self) -> str:
        """Let the row of the base have a new version if one of a subclass's table has changed."""
        version = self.mirror.version
        if version is None or self._is_base:
            return ""
        keys = keys_in(self.mirror, self.source)
        pairs = list(zip(keys, self.mirror.key_fields, strict=True))
        changed = " OR ".join(
            _distinct(column, "n", "o") for column in self._columns() if column not in keys
        )
        if not changed:
            return ""
        same = " AND ".join(f"n.{quoted(one.name)} = o.{quoted(one.name)}" for one in keys)
        base = " AND ".join(
            f"b.{quoted(field.column.name)} = n.{quoted(column.name)}" for column, field in pairs
        )
        # A row that this transaction has written already has a new version.
        return f"""
  IF TG_OP = 'UPDATE' THEN
    UPDATE {self._base} b SET {quoted(version.column.name)} = NULL
      FROM new_rows n JOIN old_rows o ON {same}
      WHERE {base} AND ({changed}) AND b.xmin <> pg_current_xact_id()::xid;
  END IF;
"""

    @property
    def _qualified(self) -> str:
        """The table, for a function whose search path has none of the application's schemas."""
        name = quoted_table(self.source, self.dialect)
        return name if self.source.schema else f"{quoted(self.schema)}.{name}"

    @property
    def _base(self) -> str:
        """The table of the base, likewise."""
        table = self.mirror.table
        name = quoted_table(table, self.dialect)
        return name if table.schema else f"{quoted(self.base_schema)}.{name}"

    def _insert(self, deleted: str, alias: str, source: str) -> str:
        collection = self.mirror.collection
        content = content_of(self.mirror, self.source, alias)
        return (
            f"INSERT INTO {self.outbox.table} (collection, deleted, content) "
            f"SELECT '{collection}', {deleted}, {content} FROM {source}"
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
        version = self.mirror.version
        return " OR ".join(
            _distinct(column, "NEW", "OLD")
            for column in self._columns()
            if version is None or column is not version.column
        )

    def _columns(self) -> list[Column[Any]]:
        columns = columns_in(self.mirror, self.source)
        return [column for column in columns if column.name not in self.absent]


def _distinct(column: Column[Any], new: str, old: str) -> str:
    name = quoted(column.name)
    type_: Any = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    # The type json has no equality.
    cast = "::text" if isinstance(type_, JSON) else ""
    return f"{new}.{name}{cast} IS DISTINCT FROM {old}.{name}{cast}"


def _equal(keys: Iterable[Column[Any]], other: str) -> str:
    return " AND ".join(
        f"{quoted_columns([key], 't')} = {quoted_columns([key], other)}" for key in keys
    )


def triggers_of(
    connection: Connection, outbox: Outbox, mirrors: Iterable[Mirror]
) -> list[Triggers]:
    """Return the triggers of mirrored tables that are there."""

    def schema_of(table: Table) -> str:
        name = quoted_table(table, connection.dialect)
        found = connection.execute(_NAMESPACE, {"name": name}).scalar_one_or_none()
        return found or outbox.schema

    found = []
    for mirror in mirrors:
        base = schema_of(mirror.table)
        for table in mirror.tables:
            schema = schema_of(table)
            found.append(Triggers(mirror, table, outbox, connection.dialect, schema, base))
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
            late.append(one.source.fullname)
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
        if one.source.fullname in late:
            statements += one.create()
    for statement in statements:
        execute_sql(connection, statement)
