"""Walks the revisions of the schema on a connection, within whatever migration is running.

The scripts are Alembic's; here they run one by one on the `op` that is at hand, so that an
application can take our steps inside a revision of its own. Alembic is imported only when there is
something to do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from taskstore._cache.engine.bridge import driver_cursor
from taskstore._cache.schema.models import Models
from taskstore._cache.schema.names import HEAD, REVISIONS
from taskstore.errors import InvalidDeclarationError, SchemaVersionError

if TYPE_CHECKING:
    from types import ModuleType

    from alembic.operations import Operations


BASE = "base"
"""For a database without our tables."""

MIRRORED = "taskstore_mirrors"
"""Under this name a connection of Alembic's knows what is mirrored in its database."""

_RECORDS = {"collection", "id", "data_json", "updated_at"}
_SINCE = "taskstore_revisions"


def scripts() -> Path:
    """Return the folder of the revision scripts: in the wheel, or beside `src` in a checkout."""
    package = Path(__file__).resolve().parents[2]
    packed = package / "_migrations"
    return packed if packed.is_dir() else package.parents[1] / "migrations"


def read_revision(connection: Connection, version_table: str) -> str | None:
    """Return the revision that the database says it has; None if it says nothing.

    Several rows, which we never write, are returned joined by commas.
    """
    # As text, because a new engine would have to compile it first.
    table = connection.dialect.identifier_preparer.quote(version_table)
    statement = f"SELECT version_num FROM {table}"
    if connection.dialect.name != "sqlite":
        # A failed SELECT would end the transaction.
        if not sa.inspect(connection).has_table(version_table):
            return None
        found = connection.exec_driver_sql(statement).scalars().all()
    else:
        cursor = driver_cursor(connection)
        try:
            # By the driver: an application's listener for errors may replace the exception.
            found = [row[0] for row in cursor.execute(statement).fetchall()]
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return None
        finally:
            cursor.close()
    return ",".join(sorted(found)) or None


def detect(connection: Connection, models: Models) -> str | None:
    """Return the revision whose layout the tables have; None if none of them is ours."""
    inspector = sa.inspect(connection)
    tables = set(inspector.get_table_names())
    prefix = models.prefix
    if not {f"{prefix}records", f"{prefix}record_indexes"} <= tables:
        return None
    columns = {column["name"] for column in inspector.get_columns(f"{prefix}records")}
    if not columns >= _RECORDS:
        return None
    if "updated_at_us" in columns:
        problems, states = f"{prefix}mirror_problems", f"{prefix}mirror_states"
        keys, evolutions = f"{prefix}mirror_keys", f"{prefix}log_evolutions"
        if not set(models.table_names) - {problems, states, keys, evolutions} <= tables:
            return None
        if evolutions in tables:
            return "0009"
        if keys in tables:
            return "0008"
        if states in tables:
            read = inspector.get_columns(f"{prefix}sync_metadata")
            return "0007" if "digest" in {column["name"] for column in read} else "0006"
        return "0005" if problems in tables else "0004"
    if f"{prefix}sync_metadata" not in tables:
        return "0001"
    return "0003" if f"{prefix}record_index_fields" in tables else "0002"


def adopt(connection: Connection, models: Models) -> str | None:
    """Stamp a database that has our tables and no revision, as older directories do.

    Returns:
        The revision that the database has now; None if it has none of our tables.
    """
    found = read_revision(connection, models.version_table)
    if found is None:
        found = detect(connection, models)
        if found is not None:
            version = version_table_of(models.version_table)
            version.create(connection, checkfirst=True)
            connection.execute(version.insert().values(version_num=found))
    return found


def move(op: Any, target: str, *, models: Models, since: str | None, down: bool) -> None:
    """Run the steps from where the database is to `target`, on the running migration's `op`.

    Args:
        op: The `alembic.op` of a running migration, or an `Operations` object.
        target: The revision to reach, or "base".
        models: Whose tables are meant.
        since: Where the database is, if that cannot be read (`--sql`).
        down: Whether to go back; a step in the other direction is never taken.

    Raises:
        SchemaVersionError: `target`, `since` or the database's revision is not known here.
        InvalidDeclarationError: The database has another table with one of our names.
    """
    context = op.get_context()
    here = _position(context, models, since, down=down)
    start, end = _place(here), _place(target)
    if start < end and here is None and not context.as_sql:
        _check_names(context.connection, models)
    modules = _modules()
    names = (None, *REVISIONS)
    with _running(op, models.prefix):
        if down:
            for place in range(start, end, -1):
                modules[place - 1].downgrade()
                _record(op, models, names[place], names[place - 1])
        else:
            for place in range(start, end):
                modules[place].upgrade()
                _record(op, models, names[place], names[place + 1])
    if (end > start) != down:
        context.opts.setdefault(_SINCE, {})[models.version_table] = target


def _check_names(connection: Connection, models: Models) -> None:
    there = {name.lower() for name in sa.inspect(connection).get_table_names()}
    taken = sorted(there & set(models.table_names) - {models.version_table})
    if taken:
        raise InvalidDeclarationError(
            "models",
            reason=f"the database has a table {taken[0]!r} that is not Taskstore's: give ours a "
            'prefix with Store.open(..., models=taskstore.models.build_models(prefix="ts_")), and '
            'in migrations with taskstore.migrations.upgrade(op, ..., prefix="ts_")',
        )


def _place(revision: str | None) -> int:
    """Return how many revisions a database at `revision` has behind it."""
    if revision is None or revision == BASE:
        return 0
    if revision == "head":
        return len(REVISIONS)
    if revision not in REVISIONS:
        raise SchemaVersionError(found=revision, expected=HEAD)
    return REVISIONS.index(revision) + 1


def _position(context: Any, models: Models, since: str | None, *, down: bool) -> str | None:
    if not context.as_sql:
        return adopt(context.connection, models)
    # A script cannot ask the database: what an earlier step of it reached is known, and else a
    # first step up starts from nothing and a first step down from the newest.
    passed: dict[str, str] = context.opts.get(_SINCE, {})
    return since or passed.get(models.version_table) or (HEAD if down else None)


def _modules() -> list[ModuleType]:
    from alembic.script import ScriptDirectory

    directory = ScriptDirectory(str(scripts()))
    return [_module(directory, revision) for revision in REVISIONS]


def _module(directory: Any, revision: str) -> ModuleType:
    module: ModuleType = directory.get_revision(revision).module
    return module


@contextmanager
def _running(op: Any, prefix: str) -> Iterator[None]:
    """Bind the scripts' `alembic.op` to `op`, and restore the former one."""
    import alembic.op

    options = op.get_context().opts
    before = options.get("taskstore_prefix")
    options["taskstore_prefix"] = prefix
    outer: Operations | None = getattr(alembic.op, "_proxy", None)
    ours: Operations | None = None
    if op is not alembic.op:
        ours = op
        op._install_proxy()
    try:
        yield
    finally:
        if ours is not None:
            ours._remove_proxy()
            if outer is not None:
                outer._install_proxy()
        options["taskstore_prefix"] = before if before is not None else ""


def _record(op: Any, models: Models, before: str | None, after: str | None) -> None:
    """Write in our version table what a step has reached, as Alembic itself would."""
    version = version_table_of(models.version_table)
    if before is None:
        op.create_table(
            version.name,
            sa.Column("version_num", sa.String(32), nullable=False),
            sa.PrimaryKeyConstraint("version_num", name=f"{version.name}_pkc"),
            if_not_exists=True,
        )
        op.execute(version.insert().values(version_num=op.inline_literal(after)))
    elif after is None:
        op.drop_table(version.name)
    else:
        op.execute(
            version.update()
            .where(version.c.version_num == op.inline_literal(before))
            .values(version_num=op.inline_literal(after))
        )


def version_table_of(name: str) -> sa.Table:
    """Return the table of a name that holds the revision."""
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("version_num", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("version_num", name=f"{name}_pkc"),
    )
