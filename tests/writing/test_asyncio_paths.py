"""Every way to write reaches the log, or is refused, also in what an AsyncSession is made of.

The methods of an `AsyncSession` call those of its `sync_session` in a greenlet; so do these tests,
with the tables of paths that sessions of threads pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from taskstore import AsyncStore
from taskstore._log.gate import Gate
from taskstore._log.layout import Layout
from taskstore._log.locks import directory_lock
from tests.aio.clones import Followed, async_cloned, in_greenlet
from tests.store.plans import Plan
from tests.writing.checks import FILTERS, check_mirrored_path, check_path
from tests.writing.mirrored_paths import PATHS as MIRRORED_PATHS
from tests.writing.paths import EXCEPTED, PATHS, WritePath
from tests.writing.world import World, opened


@attrs.define
class AsyncWorld(World):
    """A world in which sessions are those of asyncio; used within a greenlet."""

    followed: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The one that the application uses."""
        assert self.followed is not None
        return self.followed

    def check_nothing_held(self) -> None:
        """No lock is held, no transaction open, no connection out."""
        gc.collect()
        for engine in (self.engine, self.store.engine):
            assert 0 == engine.pool.checkedout()  # type: ignore[attr-defined]
        assert [] == list(self.store._transactions._open)
        for driver in self.drivers:
            with contextlib.suppress(ValueError, sqlite3.ProgrammingError):
                assert not driver.driver_connection.in_transaction
        layout = Layout(self.store.path)
        for lock in (Gate(layout), directory_lock(layout)):
            assert lock.try_acquire(), lock
            lock.close()
        with contextlib.closing(sqlite3.connect(self.database, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")


async def take(folder: Path, outcome: str, path: WritePath) -> None:
    """Take one path in a world of its own."""
    with opened(folder, "application"):
        pass
    database = folder / "application.db"
    engine = create_async_engine(f"sqlite+aiosqlite:///{database}")
    try:
        async with AsyncStore.open(folder / ".taskstore", types=[Plan], engine=engine) as store:
            factory = async_sessionmaker(engine)
            store.attach(factory)
            followed: Any = Followed(store)
            sync = engine.sync_engine
            sessions = sessionmaker(sync, class_=factory().sync_session_class)
            world = AsyncWorld(followed, database, sessions, followed=sync)
            event.listen(sync, "checkout", lambda driver, *_: world.drivers.append(driver))
            await in_greenlet(check_path, world, outcome, path)
    finally:
        await engine.dispose()


CASES = [
    pytest.param(path, id=f"{path.name}: {path.outcome('asyncio')}", marks=FILTERS)
    for path in PATHS
    if path.outcome("asyncio") != EXCEPTED
]


@pytest.mark.parametrize("path", CASES)
def test_a_write_path(path: WritePath, tmp_path: Path) -> None:
    """Each path reaches the log whole, or raises and changes nothing; neither leaves a trace."""
    asyncio.run(take(tmp_path, path.outcome("asyncio"), path))


async def take_mirrored(folder: Path, outcome: str, work: Any, *, foreign_keys: bool) -> None:
    """Take a path of the mirrored models."""
    async with async_cloned(folder, foreign_keys=foreign_keys) as clone:
        await in_greenlet(check_mirrored_path, clone.inner(), outcome, work)


@pytest.mark.parametrize(
    ("outcome", "work", "foreign_keys"),
    [
        # The paths of threads meet both settings; here each path meets one of them.
        pytest.param(outcome, work, number % 2 == 0, id=f"{name}: {outcome}")
        for number, (name, outcome, work) in enumerate(MIRRORED_PATHS)
    ],
)
def test_a_write_path_of_mirrored_models(
    tmp_path: Path, outcome: str, work: Any, *, foreign_keys: bool
) -> None:
    """Each path reaches log and table whole, or raises and changes neither."""
    asyncio.run(take_mirrored(tmp_path / "app", outcome, work, foreign_keys=foreign_keys))
