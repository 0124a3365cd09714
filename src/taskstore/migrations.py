"""The schema's revisions, for applications with their own Alembic history.

A revision of the application calls ours::

    import taskstore.migrations

    def upgrade() -> None:
        taskstore.migrations.upgrade(op, "0009")

    def downgrade() -> None:
        taskstore.migrations.downgrade(op, "base", since="0009")

In `env.py`, exclude our tables from autogenerate::

    context.configure(..., include_name=taskstore.migrations.include_name)

Name a revision instead of `HEAD`, so that the step stays the same with later releases.

A revision that changes the shape of mirrored rows states the change next to its DDL, with
`op.evolve_log`. Use `logged` in `env.py` to write the rows that a revision changes to the log.

On PostgreSQL a revision also creates the outbox and the triggers that fill it, with `capture`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Connection

from taskstore._cache.engine.sqlite import begin_as_writer
from taskstore._cache.schema.models import DEFAULT, Models, build_models
from taskstore._cache.schema.names import HEAD, REVISIONS
from taskstore._cache.schema.revisions import MIRRORED, move
from taskstore.errors import TransactionOpenError, UntrackedWriteError

__all__ = [
    "HEAD",
    "REVISIONS",
    "capture",
    "downgrade",
    "include_name",
    "logged",
    "release",
    "upgrade",
]


def upgrade(op: Any, revision: str, *, prefix: str = "", since: str | None = None) -> None:
    """Create our tables, or upgrade them to `revision`. Do nothing if they are there already.

    Tables from before there were versions are adopted with their data.

    Args:
        op: The `alembic.op` of the running migration, online or with `--sql`.
        revision: One of `REVISIONS`.
        prefix: The prefix of the table names.
        since: Only for `--sql`: the revision that the database has before this step, if the same
            script did not create it. Without it, the first step starts from nothing.

    Raises:
        SchemaVersionError: A revision that this library does not know.
        InvalidDeclarationError: The database has another table with one of our names.
    """
    move(op, revision, models=_models(prefix), since=since, down=False)


def downgrade(op: Any, revision: str, *, prefix: str = "", since: str | None = None) -> None:
    """Downgrade our tables to `revision`, or remove them with "base".

    Data that the older layout can hold is kept. The log has all data in any case.

    Args:
        op: The `alembic.op` of the running migration, online or with `--sql`.
        revision: One of `REVISIONS`, or "base".
        prefix: The prefix of the table names.
        since: Only for `--sql`: the revision that the database has before this step, if the same
            script did not create it. `HEAD` by default.

    Raises:
        SchemaVersionError: A revision that this library does not know.
    """
    move(op, revision, models=_models(prefix), since=since, down=True)


def capture(op: Any, mirrors: Iterable[Any], *, prefix: str = "", schema: str = "public") -> None:
    """Create the outbox and the triggers that fill it. Do nothing if it is not PostgreSQL.

    Call it again in a later revision that mirrors another model, that changes the key or the
    version column of a model, or that adds a column to a model with a version column. It replaces
    the triggers of the models.

    The models may be ahead of the revision: tables and columns that are not there yet get their
    triggers in the later revision that creates them. With `--sql`, all must be there.

    Args:
        op: The `alembic.op` of the running migration, online or with `--sql`.
        mirrors: The mirrored models, as for `Store.open`.
        prefix: The prefix of our table names.
        schema: Only for `--sql`: the schema of our tables, and of models without a schema.

    Raises:
        InvalidDeclarationError: A model cannot be mirrored.
    """
    if op.get_context().dialect.name == "postgresql":
        from taskstore._postgres.migrating import capture_tables  # most databases are SQLite's

        capture_tables(op, mirrors, _models(prefix), schema)


def release(
    op: Any,
    mirrors: Iterable[Any],
    *,
    prefix: str = "",
    schema: str = "public",
    outbox: bool = False,
) -> None:
    """Remove the triggers of mirrored tables. Later changes do not reach the log.

    Args:
        op: The `alembic.op` of the running migration, online or with `--sql`.
        mirrors: The mirrored models, as for `Store.open`.
        prefix: The prefix of our table names.
        schema: Only for `--sql`: the schema of our tables, and of models without a schema.
        outbox: Also remove the outbox, with the changes that are not in the log yet.
    """
    if op.get_context().dialect.name == "postgresql":
        from taskstore._postgres.migrating import release_tables  # as above

        release_tables(op, mirrors, _models(prefix), schema, outbox=outbox)


@contextmanager
def logged(
    connection: Connection,
    path: str | os.PathLike[str],
    mirrors: Iterable[Any],
    *,
    prefix: str = "",
) -> Iterator[None]:
    """Run migrations in one transaction, and log the rows that they changed.

    Use it in `env.py`::

        with taskstore.migrations.logged(connection, ".taskstore", [mirror_all(Base)]):
            context.configure(connection=connection, ...)
            with context.begin_transaction():
                context.run_migrations()

    The block begins a transaction and commits it. After an exception, tables and log are as before.
    Rows that the revisions inserted, changed or deleted are logged after the commit. If the process
    ends before that, the next open of the store with these models logs them. A table whose rows
    were never logged is left out; call `Store.export` for it.

    After a downgrade, or an upgrade to an earlier revision, the models may not fit the tables. A
    warning says so, and the next open with models that fit logs the rows.

    Args:
        connection: The connection of the migrations, outside a transaction.
        path: The store directory.
        mirrors: The mirrored models, as for `Store.open`.
        prefix: The prefix of our table names.

    Raises:
        TransactionOpenError: The connection has an open transaction.
        UntrackedWriteError: The connection is for asyncio.
        TaskstoreError: As for `Store.open` and `Store.export`. The upgrade is committed by then.
    """
    if connection.in_transaction():
        raise TransactionOpenError(operation="log what migrations write")
    connection.info[MIRRORED] = mirrors = list(mirrors)
    if connection.dialect.name == "sqlite" and connection.dialect.is_async:
        raise UntrackedWriteError(
            statement="migrations on an engine for asyncio",
            remedy="run them on a synchronous one (sqlite:///... in env.py)",
        )
    upgrade, is_noted = None, False
    try:
        with connection.begin():
            if connection.dialect.name == "sqlite":
                # Otherwise the driver would begin a transaction at the first row, and DDL would be
                # outside it.
                begin_as_writer(connection.connection.driver_connection)
                if os.path.isdir(path):
                    from taskstore._api.upgrading import Upgrade  # most uses are without a store

                    upgrade = Upgrade(connection, path, mirrors, _models(prefix))
            yield
            # Commands that change nothing, such as autogenerate, also run through here.
            is_noted = upgrade is not None and upgrade.note()
    finally:
        connection.info.pop(MIRRORED, None)
        if upgrade is not None:
            upgrade.end()
    if upgrade is not None and is_noted:
        upgrade.log()


def include_name(
    name: str | None, type_: str, parent_names: Mapping[str, str | None], *, prefix: str = ""
) -> bool:
    """Exclude our tables from Alembic's autogenerate. Pass it as `include_name`.

    If the tables have a prefix, pass `functools.partial(include_name, prefix=...)`.
    """
    models = _models(prefix)
    outbox = {f"{prefix}taskstore_outbox", f"{prefix}taskstore_scribe"}
    return type_ != "table" or name not in {*models.table_names, models.version_table, *outbox}


# A run of Alembic has imported it already. A caller that only wants a revision need not wait.
if "alembic" in sys.modules:
    import taskstore._api.autogenerate
    import taskstore._cache.evolution.operations  # noqa: F401


def _models(prefix: str) -> Models:
    return DEFAULT if not prefix else build_models(prefix=prefix)
