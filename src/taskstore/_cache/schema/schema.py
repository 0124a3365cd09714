"""Upgrade a database to the current schema, once, even if several callers ask at a time.

An empty SQLite database, as a new cache is, gets the tables of the models at once, which takes a
fifth of the time of all revisions, and no Alembic. That both make the same is tested.
"""

from __future__ import annotations

import threading

from sqlalchemy import Dialect, Engine
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateIndex, CreateTable

from taskstore._cache.engine.bridge import closing, driver_cursor
from taskstore._cache.engine.permission import notes_of, permitted
from taskstore._cache.engine.sqlite import begin_as_writer
from taskstore._cache.schema.models import DEFAULT, Models, build_models
from taskstore._cache.schema.names import HEAD, REVISIONS
from taskstore._cache.schema.revisions import adopt, move, read_revision, version_table_of
from taskstore.errors import MigrationRequiredError, SchemaVersionError

# Alembic keeps the running migration in a global of its module.
_upgrading = threading.Lock()

_statements: dict[str, list[str]] = {}
"""The statements that create our tables in SQLite, by prefix. Compiling them is slow."""


def current_revision(connection: Connection, models: Models = DEFAULT) -> str | None:
    """Return the schema's revision with one SELECT; None if the database names none."""
    return read_revision(connection, models.version_table)


def ensure_schema(engine: Engine, models: Models = DEFAULT, *, migrate: bool = True) -> bool:
    """Upgrade the database to the current schema. If it is current, this takes one SELECT.

    Tables from before there were revisions are adopted with their data. Threads take turns here;
    between processes the caller holds a lock, and the database's own write lock is the last word.

    Args:
        engine: The cache's, or an application's.
        models: Whose tables are meant.
        migrate: Whether the schema may be changed.

    Returns:
        Whether anything was changed.

    Raises:
        SchemaVersionError: The database was upgraded by a newer library.
        MigrationRequiredError: The schema is not current and `migrate` is false.
        InvalidDeclarationError: The database has another table with one of our names.
    """
    with engine.connect() as connection:
        found = current_revision(connection, models)
    if _is_current(found):
        return False
    if not migrate:
        raise MigrationRequiredError(found=found, expected=HEAD, prefix=models.prefix)
    with _upgrading, engine.begin() as connection:
        return _upgrade(connection, models)


def _is_current(found: str | None) -> bool:
    if found is not None and found not in REVISIONS:
        raise SchemaVersionError(found=found, expected=HEAD)
    return found == HEAD


def _upgrade(connection: Connection, models: Models) -> bool:
    _lock(connection)
    driver = connection.connection.driver_connection
    notes = notes_of(driver, models.record_table)
    if notes is not None and driver is not None:
        # Triggers that name a table keep SQLite from renaming it; the next begin recreates them.
        with closing(driver.cursor()) as cursor:
            notes.suspend(cursor)
    with permitted(driver, models.record_table):
        return _bring_up(connection, models)


def _bring_up(connection: Connection, models: Models) -> bool:
    # Another process may have been here between the first look and the lock.
    if _is_current(current_revision(connection, models)):
        return False
    if _is_empty(connection):
        _make(connection, models)
        return True
    if adopt(connection, models) == HEAD:
        return True
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    context = MigrationContext.configure(connection, opts={"transactional_ddl": True})
    move(Operations(context), HEAD, models=models, since=None, down=False)
    return True


def _is_empty(connection: Connection) -> bool:
    """Return whether this is a SQLite database without any table, view or trigger."""
    if connection.dialect.name != "sqlite":
        return False
    with closing(driver_cursor(connection)) as cursor:
        return cursor.execute("SELECT 1 FROM main.sqlite_master LIMIT 1").fetchone() is None


def _make(connection: Connection, models: Models) -> None:
    if models.prefix not in _statements:
        _statements[models.prefix] = _worded(models.prefix, connection.dialect)
    with closing(driver_cursor(connection)) as cursor:
        for statement in _statements[models.prefix]:
            cursor.execute(statement)
    connection.execute(version_table_of(models.version_table).insert().values(version_num=HEAD))


def _worded(prefix: str, dialect: Dialect) -> list[str]:
    """Return the statements that make the tables and their indexes."""
    # Not the given models: an application's MetaData may have its own naming conventions.
    models = build_models(prefix=prefix) if prefix else DEFAULT
    tables = [version_table_of(models.version_table), *models.metadata.sorted_tables]
    found = []
    for table in tables:
        found.append(str(CreateTable(table).compile(dialect=dialect)))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        found += [str(CreateIndex(index).compile(dialect=dialect)) for index in indexes]
    return found


def _lock(connection: Connection) -> None:
    """Take the write lock, even if an application's engine did not begin as a writer."""
    if connection.dialect.name == "sqlite":
        begin_as_writer(connection.connection.driver_connection)
