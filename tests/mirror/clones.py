"""A clone of an application: its database, its store, its sessions, its directory."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import attrs
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.orm import Session, sessionmaker

from taskstore import Store
from taskstore._cache.schema.schema import ensure_schema
from taskstore._mirror.model.registry import registry
from tests.mirror.models import MIRRORS, Base
from tests.store.reader import replay


@attrs.define
class Clone:
    """One clone.

    Attributes:
        folder: Where it is.
        engine: The application's, which enforces foreign keys.
        store: Open on it.
        sessions: attached.
    """

    folder: Path
    engine: Engine
    store: Store
    sessions: sessionmaker[Session]

    def log(self, collection: str) -> Path:
        """The path of a log."""
        return self.store.path / f"{collection}.jsonl"

    def lines(self, collection: str) -> list[dict[str, Any]]:
        """All lines of a log."""
        path = self.log(collection)
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def told(self, collection: str) -> dict[str, dict[str, Any]]:
        """The live records of a log, by an independent reader."""
        path = self.log(collection)
        data = path.read_bytes() if path.exists() else b""
        return {id: line.record for id, line in replay(data).items() if not line.deleted}

    def append(self, collection: str, *lines: Any) -> None:
        """Append lines as another program would."""
        with self.log(collection).open("a", encoding="utf-8") as log:
            for line in lines:
                log.write(line if isinstance(line, str) else json.dumps(line) + "\n")

    def take(self, other: Clone) -> None:
        """Copy the logs of another clone, like a pull."""
        for path in other.store.path.glob("*.jsonl"):
            shutil.copy(path, self.store.path / path.name)

    def rows(self, model: Any) -> list[Any]:
        """All rows of a model, in the order of their keys, detached."""
        with self.sessions(expire_on_commit=False) as session:
            keys = model.__mapper__.primary_key
            found = list(session.scalars(select(model).order_by(*keys)))
            session.expunge_all()
            return found

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """What all tables of the application hold, but for keys and values that stay local."""
        found = {}
        local = {("things", "number"), ("tasks", "opened")}
        with self.engine.connect() as connection:
            for table in Base.metadata.sorted_tables:
                names = [c.name for c in table.columns if (table.name, c.name) not in local]
                columns = ", ".join(f'"{name}"' for name in names)
                rows = connection.exec_driver_sql(f'SELECT {columns} FROM "{table.name}"').all()
                found[table.name] = sorted((tuple(row) for row in rows), key=repr)
        return found

    def check(self) -> None:
        """The log, the cache and the application's tables say the same."""
        report = self.store.verify()
        assert () == report.differences, "\n".join(map(str, report.differences))
        for mirror in registry(self.store._context):
            served = {row["id"]: row for row in self.store.list(mirror.collection)}
            assert self.told(mirror.collection) == served


def engine_of(path: Path, *, foreign_keys: bool = True) -> Engine:
    """The engine of an application."""
    engine = create_engine(f"sqlite:///{path}")
    if foreign_keys:

        @event.listens_for(engine, "connect")
        def connect(driver: Any, record: Any) -> None:
            driver.execute("PRAGMA foreign_keys = ON")

    return engine


@cache
def _template() -> Path:
    """A folder with an application's database that has all tables and no rows, made once."""
    folder = Path(tempfile.mkdtemp(prefix="taskstore-clone-"))
    atexit.register(shutil.rmtree, folder)
    engine = engine_of(folder / "app.db")
    Base.metadata.create_all(engine)
    ensure_schema(engine)
    engine.dispose()
    return folder


@contextmanager
def cloned(
    folder: Path,
    mirrors: Sequence[Any] = MIRRORS,
    base: Any = Base,
    *,
    foreign_keys: bool = True,
    directory: str = ".taskstore",
    **options: Any,
) -> Iterator[Clone]:
    """Open a clone in a folder, which is made if it is not there."""
    if not folder.exists() and base is Base:
        shutil.copytree(_template(), folder)
    folder.mkdir(exist_ok=True)
    engine = engine_of(folder / "app.db", foreign_keys=foreign_keys)
    base.metadata.create_all(engine)
    try:
        with Store.open(
            folder / directory, engine=engine, mirrors=mirrors, migrate=True, **options
        ) as store:
            sessions = sessionmaker(engine)
            store.attach(sessions)
            yield Clone(folder, engine, store, sessions)
    finally:
        engine.dispose()
