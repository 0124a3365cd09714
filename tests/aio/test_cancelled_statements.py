"""A task is cancelled in a statement of a flush: the next writer finds no lock, garbage or not."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiosqlite.core
import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from taskstore import AsyncStore, mirrored

MOST = 80


class Base(DeclarativeBase):
    """The application's models."""


@mirrored("tasks")
class Task(Base):
    """Something to be done."""

    __tablename__ = "tasks"
    id: Mapped[str] = mapped_column(primary_key=True)
    updated_at: Mapped[int]


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage in a circle is found meanwhile."""
    gc.disable()
    yield
    gc.enable()


async def cancelled_at(folder: Path, number: int, monkeypatch: Any) -> bool:
    """Cancel a flush in its statement of a number; say whether it came to that."""
    folder.mkdir()
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{folder / 'app.db'}", connect_args={"timeout": 0.2}
    )
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncStore.open(
        folder / ".taskstore", engine=engine, mirrors=[Task], migrate=True
    ) as store:
        sessions = async_sessionmaker(engine)
        store.attach(sessions)
        async with sessions.begin() as session:
            session.add(Task(id="first"))

        async def write() -> None:
            async with sessions() as session:
                session.add(Task(id="cancelled"))
                await session.flush()
                await session.rollback()

        count = 0
        execute = aiosqlite.core.Connection._execute

        async def counted(self: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                # It is in the thread's queue by then.
                asyncio.get_running_loop().call_soon(task.cancel)
            return await execute(self, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(aiosqlite.core.Connection, "_execute", counted)
            task = asyncio.ensure_future(write())
            await asyncio.wait([task])
        reached = task.cancelled()
        async with sessions.begin() as session:
            session.add(Task(id="next"))
        assert () == (await store.verify()).differences
        assert {"first", "next"} == {row["id"] for row in await store.list("tasks")}
    await engine.dispose()
    return reached


def test_cancelled_in_every_statement(tmp_path: Path, monkeypatch: Any, uncollected: None) -> None:
    """Wherever it is cancelled, the next task writes at once, and log and table stay equal."""
    for number in range(1, MOST):
        if not asyncio.run(cancelled_at(tmp_path / str(number), number, monkeypatch)):
            assert number > 5
            return
    pytest.fail(f"it takes less than {MOST} statements")
