"""Makes and removes the outbox and its triggers in a migration of the application."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs
from sqlalchemy.engine import Connection
from sqlalchemy.sql import text

from taskstore._cache.schema.models import Models
from taskstore._mirror.model.resolve import resolve
from taskstore._mirror.model.shape import Mirror
from taskstore._postgres import codecs  # noqa: F401 - states how column types travel
from taskstore._postgres.checks import check_mirrors
from taskstore._postgres.names import Outbox, outbox_of
from taskstore._postgres.parts import columns_in
from taskstore._postgres.triggers import Triggers, drop_outbox_ddl, outbox_ddl, triggers_of


def capture_tables(op: Any, mirrors: Iterable[Any], models: Models, schema: str) -> None:
    """Create the outbox if there is none, and replace the triggers."""
    found = _resolved(op, mirrors, models)
    check_mirrors(found)
    outbox, triggers = _triggers(op, found, models, schema)
    if not op.get_context().as_sql:
        triggers = list(_fitted(op.get_bind(), triggers))
    statements = [*outbox_ddl(outbox), *(one for trigger in triggers for one in trigger.create())]
    _execute(op, statements)


def release_tables(
    op: Any, mirrors: Iterable[Any], models: Models, schema: str, *, outbox: bool
) -> None:
    """Remove triggers, and the outbox if it is to go."""
    found = _resolved(op, mirrors, models)
    place, triggers = _triggers(op, found, models, schema)
    _execute(op, [one for trigger in triggers for one in trigger.drop()])
    if outbox:
        _execute(op, drop_outbox_ddl(place))


def _resolved(op: Any, mirrors: Iterable[Any], models: Models) -> list[Mirror]:
    keys = models.MirrorKey.__table__.name
    return resolve(list(mirrors), op.get_context().dialect, models.table_names, keys)


def _triggers(
    op: Any, mirrors: list[Mirror], models: Models, schema: str
) -> tuple[Outbox, list[Triggers]]:
    context = op.get_context()
    if context.as_sql:
        outbox = Outbox(schema, models.prefix)
        return outbox, [
            Triggers(mirror, table, outbox, context.dialect, schema, schema)
            for mirror in mirrors
            for table in mirror.tables
        ]
    outbox = outbox_of(context.connection, models)
    return outbox, triggers_of(context.connection, outbox, mirrors)


def _fitted(connection: Connection, triggers: Iterable[Triggers]) -> Iterator[Triggers]:
    """Yield triggers that fit the tables as they are in this revision.

    The models are those of the present code. Later revisions may create tables and columns of
    theirs, and then call `capture` again: a store refuses to open without that.
    """
    for one in triggers:
        columns = set(connection.execute(_COLUMNS, {"name": one.table}).scalars())
        if columns:
            wanted = {column.name for column in columns_in(one.mirror, one.source)}
            yield attrs.evolve(one, absent=frozenset(wanted - columns))


_COLUMNS: Any = text(
    "SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass(:name) "
    "AND attnum > 0 AND NOT attisdropped"
)


def _execute(op: Any, statements: Iterable[str]) -> None:
    for statement in _escaped(statements):
        op.execute(statement)


def _escaped(statements: Iterable[str]) -> Iterator[str]:
    # Alembic takes a colon before a name for a parameter.
    return (statement.replace(":", r"\:") for statement in statements)
