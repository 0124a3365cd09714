"""A database that was filled before it was mirrored, and a process that is killed adopting it."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, event, text

from taskstore import Store, migrations
from taskstore._log import files
from tests.log.disk import OPERATIONS
from tests.mirror.clones import Clone, engine_of
from tests.mirror.graphs import MIRRORS, Graph

FILLED = [
    "INSERT INTO persons VALUES (3, 'chief', NULL, NULL, 1), (5, 'below', 3, NULL, 1)",
    "INSERT INTO books VALUES (9, 'atlas', 'atlas', 5, 1), (10, 'book', 'book', 3, 1)",
    "INSERT INTO atlases VALUES (9, 4)",
    "INSERT INTO tags VALUES (1, 'same'), (2, 'same'), (7, 'other')",
    "INSERT INTO book_tags VALUES (9, 1), (9, 7), (10, 2)",
    "INSERT INTO loans VALUES (10, 5, 2), (9, 3, 1)",
    "INSERT INTO covers VALUES (10, 'red', 9)",
    "UPDATE persons SET favourite_id = 10 WHERE id = 3",
]
ROWS = 13


def filled(folder: Path, *changes: str) -> Path:
    """An application's database with rows, before any store was opened on it."""
    folder.mkdir(exist_ok=True)
    engine = engine_of(folder / "app.db")
    Graph.metadata.create_all(engine)
    execute(engine, *FILLED, *changes)
    engine.dispose()
    return folder


def execute(engine: Engine, *statements: str) -> None:
    """Execute statements in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def ids(clone: Clone) -> set[tuple[str, str]]:
    """The collection and the id of every live record."""
    return {
        (path.stem, id) for path in clone.store.path.glob("*.jsonl") for id in clone.told(path.stem)
    }


def forget(engine: Engine) -> None:
    """Take the store's tables out of a database, as the documentation has it."""
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection))
        migrations.downgrade(operations, "base")


def adopt_until(folder: Path, step: int) -> None:
    """Adopt a database, and be killed ahead of a step: a statement, or a change of a file."""
    steps = itertools.count(1)

    def take(*_: Any) -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    for name in OPERATIONS:
        setattr(files, name, _after(take, getattr(files, name)))
    engine = engine_of(folder / "app.db")

    @event.listens_for(engine, "connect")
    def connect(driver: Any, record: Any) -> None:
        driver.set_trace_callback(take)

    with Store.open(folder / ".taskstore", engine=engine, mirrors=MIRRORS, migrate=True) as store:
        store.export()
    engine.dispose()


def _after(take: Any, real: Any) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        take()
        return real(*arguments, **options)

    return call
