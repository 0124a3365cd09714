"""Alembic's environment for the cache's own schema.

The database is named by `-x url=...` or the environment variable TASKSTORE_DATABASE_URL; a prefix
to the tables by `-x prefix=...`.
"""

from __future__ import annotations

import os
from logging.config import fileConfig
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from taskstore._cache.engine.sqlite import begin_explicitly
from taskstore._cache.schema.models import build_models
from taskstore._cache.schema.revisions import adopt


def _url(arguments: dict[str, str]) -> str:
    url = arguments.get("url") or os.environ.get("TASKSTORE_DATABASE_URL")
    if not url:
        raise CommandError(
            "no database named: run `alembic -x url=sqlite:///path/to/taskstore.db ...`, "
            "or set TASKSTORE_DATABASE_URL"
        )
    return url


def _run() -> None:
    arguments = context.get_x_argument(as_dictionary=True)
    url = _url(arguments)
    models = build_models(prefix=arguments.get("prefix", ""))
    options: dict[str, Any] = {
        "target_metadata": models.metadata,
        "version_table": models.version_table,
        "taskstore_prefix": models.prefix,
        "transactional_ddl": True,
    }
    if context.is_offline_mode():
        context.configure(url=url, literal_binds=True, **options)
        with context.begin_transaction():
            context.run_migrations()
        return
    engine = create_engine(url, poolclass=NullPool)
    begin_explicitly(engine)
    with engine.execution_options(taskstore_write=True).begin() as connection:
        adopt(connection, models)
        context.configure(connection=connection, **options)
        context.run_migrations()


if context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)
_run()
