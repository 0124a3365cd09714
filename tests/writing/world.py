"""What a write path finds: a store, its engine, sessions, and tables of the application's own."""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import attrs
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    foreign,
    mapped_column,
    relationship,
    sessionmaker,
)

from taskstore import Store
from taskstore._cache.engine.guard import GuardedConnection
from taskstore._log.gate import Gate
from taskstore._log.layout import Layout
from taskstore._log.locks import directory_lock
from taskstore.models import StoredRecord
from tests.store.plans import Plan, read_log

BEFORE = {"a": "one", "b": "two"}
"""The plans that are there when a path begins, with their titles."""


class Base(DeclarativeBase):
    """The application's own tables."""


class Note(Base):
    """One of them."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Project(Base):
    """Another, whose records come and go with it."""

    __tablename__ = "projects"
    name: Mapped[str] = mapped_column(primary_key=True)
    records: Mapped[list[Any]] = relationship(
        StoredRecord,
        primaryjoin=name == foreign(StoredRecord.collection),
        cascade="save-update, merge, delete",
    )


@attrs.define
class World:
    """One store with two plans, and what a path may use.

    Attributes:
        store: The store.
        database: The file of its cache.
        sessions: Makes sessions that are attached to it.
        drivers: Every connection of the driver that was handed out.
    """

    store: Store
    database: Path
    sessions: sessionmaker[Session]
    drivers: list[Any] = attrs.field(factory=list)

    @property
    def engine(self) -> Engine:
        """The engine of the cache."""
        return self.store.engine

    def unattached(self, **options: Any) -> Session:
        """A session on the engine that the store was never given."""
        return Session(self.engine, **options)

    def titles(self) -> dict[str, str]:
        """What the cache says."""
        with self.engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT data_json FROM records").scalars().all()
        return {plan["id"]: plan["title"] for plan in map(json.loads, rows)}

    def replayed(self) -> dict[str, str]:
        """What the logs say."""
        plans, problems = self.store.list_tolerant(Plan)
        assert [] == problems
        return {plan.id: plan.title for plan in plans}

    def log(self) -> bytes:
        """The bytes of the log."""
        return read_log(self.store.path)

    def check_nothing_held(self) -> None:
        """No lock is held, no transaction open, no permission left, no connection out."""
        gc.collect()
        assert 0 == self.engine.pool.checkedout()  # type: ignore[attr-defined]
        assert [] == list(self.store._transactions._open)
        for driver in self.drivers:
            # A connection that was invalidated is closed, and has no state to speak of.
            with contextlib.suppress(sqlite3.ProgrammingError):
                assert not driver.in_transaction
                if isinstance(driver, GuardedConnection):
                    assert (0, False) == (driver.permits, driver.pending)
        layout = Layout(self.store.path)
        for lock in (Gate(layout), directory_lock(layout)):
            assert lock.try_acquire(), lock
            lock.close()
        with contextlib.closing(sqlite3.connect(self.database, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")


def row(id: str, title: str = "") -> StoredRecord:
    """A new ORM row of a plan."""
    return StoredRecord.from_record(Plan(id, title))


def get(session: Session, id: str) -> StoredRecord:
    """The ORM row of a plan that is there."""
    return session.get_one(StoredRecord, ("plans", id))


def retitle(session: Session, id: str, title: str) -> None:
    """Change a plan through its ORM row."""
    found = get(session, id)
    found.data = {**found.data, "title": title}


@contextlib.contextmanager
def opened(folder: Path, kind: str) -> Iterator[World]:
    """A world: with the store's own cache, or with the engine of an application."""
    directory = folder / ".taskstore"
    shutil.copytree(_template(kind), folder, dirs_exist_ok=True)
    # What is older than this world need not be looked at by each collection of garbage.
    gc.collect()
    gc.freeze()
    engine = None if kind == "own" else create_engine(f"sqlite:///{folder / 'application.db'}")
    with Store.open(directory, types=[Plan], engine=engine) as store:
        # A cache that was copied is rebuilt, without them.
        Base.metadata.create_all(store.engine)
        sessions = sessionmaker(store.engine)
        store.attach(sessions)
        database = directory / "taskstore.db" if engine is None else folder / "application.db"
        world = World(store, database, sessions)
        event.listen(store.engine, "checkout", lambda driver, *_: world.drivers.append(driver))
        yield world
    if engine is not None:
        engine.dispose()


@cache
def _template(kind: str) -> Path:
    """A folder with the files of a world, made once."""
    folder = Path(tempfile.mkdtemp(prefix="taskstore-world-"))
    atexit.register(shutil.rmtree, folder)
    engine = None if kind == "own" else create_engine(f"sqlite:///{folder / 'application.db'}")
    with Store.open(
        folder / ".taskstore", types=[Plan], engine=engine, migrate=None if engine is None else True
    ) as store:
        store.create_many([Plan(id, title) for id, title in BEFORE.items()])
        Base.metadata.create_all(store.engine)
    if engine is not None:
        engine.dispose()
    return folder
