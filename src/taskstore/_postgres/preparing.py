"""Checks, or creates, the tables and triggers that a store needs in a database."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.sql import text

from taskstore._cache.schema.models import Models
from taskstore._cache.schema.schema import ensure_schema
from taskstore._mirror.model.shape import Mirror
from taskstore._postgres.checks import check_database, check_mirrors, check_tables
from taskstore._postgres.names import Outbox, outbox_of
from taskstore._postgres.triggers import check_triggers, ensure_triggers, triggers_of
from taskstore.errors import MigrationRequiredError


def prepare_database(
    engine: Engine, models: Models, mirrors: Iterable[Mirror], *, migrate: bool
) -> Outbox:
    """Return the outbox of a database, after checking all that a store needs there.

    Args:
        engine: The application's.
        models: The models of our tables.
        mirrors: The mirrored models.
        migrate: Whether what is missing may be created.

    Raises:
        InvalidDeclarationError: A model or its table cannot be mirrored.
        MigrationRequiredError, SchemaVersionError: Our tables are not current.
        TriggersRequiredError: A mirrored table lacks its triggers.
        UnsupportedError: The database is not in UTF-8.
    """
    some = list(mirrors)
    check_mirrors(some)
    check_database(engine)
    ensure_schema(engine, models, migrate=migrate)
    with engine.begin() as connection:
        check_tables(connection, some)
        outbox = outbox_of(connection, models)
        triggers = triggers_of(connection, outbox, some)
        if migrate:
            ensure_triggers(connection, outbox, triggers)
        check_triggers(connection, triggers)
        check_outbox(connection, outbox)
    return outbox


def check_outbox(connection: Connection, outbox: Outbox) -> None:
    """Raise MigrationRequiredError if a database has no outbox."""
    name = {"name": outbox.table}
    found = connection.execute(text("SELECT pg_catalog.to_regclass(:name) IS NOT NULL"), name)
    if not found.scalar_one():
        raise MigrationRequiredError(found=None, expected="outbox", prefix=outbox.prefix)
