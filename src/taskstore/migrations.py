"""The schema's revisions, for applications that have an Alembic history of their own.

One revision of the application takes ours along::

    import taskstore.migrations

    def upgrade() -> None:
        taskstore.migrations.upgrade(op, "0009")

    def downgrade() -> None:
        taskstore.migrations.downgrade(op, "base", since="0009")

and its `env.py` keeps autogenerate away from our tables::

    context.configure(..., include_name=taskstore.migrations.include_name)

Name the revision rather than `HEAD`, so that the step stays the same when the library grows.

A revision that changes the shape of mirrored rows states that next to its DDL, with
`op.evolve_log`. In `env.py`, `logged` writes to the log what a revision wrote to the rows.

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
    """Bring our tables up to `revision`; nothing is done where they are there already.

    Our tables without a version, from before there were versions, are adopted with their data.

    Args:
        op: The `alembic.op` of the running migration, online or with `--sql`.
        revision: One of `REVISIONS`.
        prefix: What the names of the tables begin with.
        since: Only for `--sql`: the revision that the database has before this step, where the
            same script has not come to it. Without it a first step starts from nothing.

    Raises:
        SchemaVersionError: A revision that this library does not know.
        InvalidDeclarationError: The database has another table with one of our names.
    """
    move(op, revision, models=_models(prefix), since=since, down=False)


def downgrade(op: Any, revision: str, *, prefix: str = "", since: str | None = None) -> None:
    """Take our tables back to `revision`, or away with "base".

    Data is kept as far as the older layout can hold it; the log has all of it in any case.

    Args:
        op: The `alembic.op` of the running migration, online or with `--sql`.
        revision: One of `REVISIONS`, or "base".
        prefix: What the names of the tables begin with.
        since: Only for `--sql`: the revision that the database has before this step, where the
            same script has not come to it. Without it `HEAD` is taken.

    Raises:
        SchemaVersionError: A revision that this library does not know.
    """
    move(op, revision, models=_models(prefix), since=since, down=True)


def capture(op: Any, mirrors: Iterable[Any], *, prefix: str = "", schema: str = "public") -> None:
    """Make the outbox, and the triggers of mirrored tables that fill it; elsewhere do nothing.

    Call it again in a later revision where the key or the version of a model changes, or a model is
    mirrored: the triggers of the models are made in place of those that are there.

    Args:
        op: The `alembic.op` of the running migration, online or with `--sql`. The tables are there.
        mirrors: The mirrored models, as for `Store.open`.
        prefix: What the names of our tables begin with.
        schema: Only for `--sql`: the schema of our tables, and of models that state none.

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
    """Remove the triggers of mirrored tables; what is written then does not reach the log.

    Args:
        op: The `alembic.op` of the running migration, online or with `--sql`.
        mirrors: The mirrored models, as for `Store.open`.
        prefix: What the names of our tables begin with.
        schema: Only for `--sql`: the schema of our tables, and of models that state none.
        outbox: Whether to remove the outbox as well, with what is not in the log yet.
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
    """Run migrations in one transaction, and log what they have written.

    It is a block of `env.py`::

        with taskstore.migrations.logged(connection, ".taskstore", [mirror_all(Base)]):
            context.configure(connection=connection, ...)
            with context.begin_transaction():
                context.run_migrations()

    The block begins a transaction and commits it; an exception leaves tables and log as they were.
    Rows that the revisions inserted, changed or deleted are logged after the commit. Should the
    process end in between, the next open of the store with these models logs them. Nothing is
    logged of a table that had rows which no store has ever logged: `Store.export` does that.

    After a downgrade, or an upgrade to an earlier revision, the models do not fit the tables. Then
    a warning says so, and the next open with models that fit logs the rows.

    Args:
        connection: That of the migrations, without a transaction.
        path: The store directory.
        mirrors: The mirrored models, as for `Store.open`.
        prefix: What the names of our tables begin with.

    Raises:
        TransactionOpenError: A transaction has begun on the connection.
        UntrackedWriteError: The connection is one for asyncio.
        TaskstoreError: As for `Store.open` and `Store.export`; the upgrade is committed then.
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
                # Or the driver would begin with the first row, and keep DDL out of it.
                begin_as_writer(connection.connection.driver_connection)
                if os.path.isdir(path):
                    from taskstore._api.upgrading import Upgrade  # most uses are without a store

                    upgrade = Upgrade(connection, path, mirrors, _models(prefix))
            yield
            # Commands that only look, as autogenerate, come this way as well.
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
    """Tell Alembic's autogenerate to leave our tables alone, as its `include_name`.

    Tables with a prefix need `functools.partial(include_name, prefix=...)`.
    """
    models = _models(prefix)
    outbox = {f"{prefix}taskstore_outbox", f"{prefix}taskstore_scribe"}
    return type_ != "table" or name not in {*models.table_names, models.version_table, *outbox}


# In a run of Alembic it is there already; who only asks for a revision need not wait for it.
if "alembic" in sys.modules:
    import taskstore._api.autogenerate
    import taskstore._cache.evolution.operations  # noqa: F401


def _models(prefix: str) -> Models:
    return DEFAULT if not prefix else build_models(prefix=prefix)
