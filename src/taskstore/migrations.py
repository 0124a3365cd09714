"""The schema's revisions, for applications that have an Alembic history of their own.

One revision of the application takes ours along::

    import taskstore.migrations

    def upgrade() -> None:
        taskstore.migrations.upgrade(op, "0006")

    def downgrade() -> None:
        taskstore.migrations.downgrade(op, "base", since="0006")

and its `env.py` keeps autogenerate away from our tables::

    context.configure(..., include_name=taskstore.migrations.include_name)

Name the revision rather than `HEAD`, so that the step stays the same when the library grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskstore._cache.models import DEFAULT, Models, build_models
from taskstore._cache.revisions import HEAD, REVISIONS, move

__all__ = ["HEAD", "REVISIONS", "downgrade", "include_name", "upgrade"]


def upgrade(op: Any, revision: str, *, prefix: str = "", since: str | None = None) -> None:
    """Bring our tables up to `revision`; nothing is done where they are there already.

    Tables of ours without a version, from before there were versions, are adopted with their data.

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


def include_name(
    name: str | None, type_: str, parent_names: Mapping[str, str | None], *, prefix: str = ""
) -> bool:
    """Tell Alembic's autogenerate to leave our tables alone, as its `include_name`.

    Tables with a prefix need `functools.partial(include_name, prefix=...)`.
    """
    models = _models(prefix)
    return type_ != "table" or name not in {*models.table_names, models.version_table}


def _models(prefix: str) -> Models:
    return DEFAULT if not prefix else build_models(prefix=prefix)
