"""An asyncio application: its engine, its sessions, and a store that follows them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
from sqlalchemy import event
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import sessionmaker
from sqlalchemy.util import greenlet_spawn

from taskstore import AsyncStore
from tests.mirror.clones import Clone, cloned
from tests.mirror.models import MIRRORS

T = TypeVar("T")


def async_engine_of(path: Path, *, foreign_keys: bool = True) -> AsyncEngine:
    """The engine of an application."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    if foreign_keys:

        @event.listens_for(engine.sync_engine, "connect")
        def connect(driver: Any, record: Any) -> None:
            cursor = driver.cursor()
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.close()

    return engine


class Followed:
    """A store as functions in a greenlet see it: what they attach is hooked for asyncio."""

    def __init__(self, store: AsyncStore) -> None:
        assert store._hooks is not None
        self._blocking = store.blocking
        self._hook = store._hooks._hook
        self._transactions = store._hooks._transactions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blocking, name)

    def attach(self, target: Any) -> None:
        """Hook what sessions of asyncio are made of."""
        self._hook.attach(target)

    def detach(self, target: Any) -> None:
        """Take the hook off."""
        self._hook.detach(target)


@attrs.define
class AsyncClone:
    """One clone.

    Attributes:
        folder: Where it is.
        engine: The application's.
        store: Open on it.
        sessions: attached.
    """

    folder: Path
    engine: AsyncEngine
    store: AsyncStore
    sessions: async_sessionmaker[AsyncSession]

    def inner(self) -> Clone:
        """It, as functions in a greenlet see it."""
        followed: Any = Followed(self.store)
        sync = self.engine.sync_engine
        kind = self.sessions().sync_session_class
        return Clone(self.folder, sync, followed, sessionmaker(sync, class_=kind))


@asynccontextmanager
async def async_cloned(
    folder: Path, mirrors: Sequence[Any] = MIRRORS, *, foreign_keys: bool = True, **options: Any
) -> AsyncIterator[AsyncClone]:
    """Open a clone in a folder, which is made if it is not there."""
    if not folder.exists():
        with cloned(folder, mirrors):
            pass
    engine = async_engine_of(folder / "app.db", foreign_keys=foreign_keys)
    try:
        async with AsyncStore.open(
            folder / ".taskstore", engine=engine, mirrors=mirrors, **options
        ) as store:
            sessions = async_sessionmaker(engine)
            store.attach(sessions)
            yield AsyncClone(folder, engine, store, sessions)
    finally:
        await engine.dispose()


def in_greenlet(call: Callable[..., T], *arguments: Any) -> Any:
    """A coroutine that calls a function as SQLAlchemy calls those of an AsyncSession."""
    return greenlet_spawn(call, *arguments)
