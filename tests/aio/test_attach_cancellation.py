"""A task is cancelled while its AsyncSession writes: all of it is there or nothing, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from taskstore import AsyncStore, Store
from taskstore.models import StoredRecord
from tests.aio.test_cancellation import WHOLE, cancel
from tests.crash.scene import TYPES, Plan, Task, check_cache, check_released, copy, steps, told
from tests.log.disk import OPERATIONS, Tap

MOST = 200


@attrs.frozen
class Application:
    """What a task works with."""

    store: AsyncStore
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]


async def create(application: Application) -> None:
    """One record."""
    async with application.sessions.begin() as session:
        session.add(StoredRecord.from_record(Plan("new", group=1)))


async def commit(application: Application) -> None:
    """Records of both collections, in a session with a savepoint and two flushes."""
    async with application.sessions() as session:
        session.add(StoredRecord.from_record(Plan("new", group=1)))
        await session.flush()
        async with session.begin_nested():
            session.add(StoredRecord.from_record(Task("new", group=1)))
        await session.commit()


@pytest.fixture
def tap(monkeypatch: Any) -> Tap:
    """File operations under control."""
    return Tap(monkeypatch, (*OPERATIONS, "read_at", "open_log"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: Any) -> Path:
    """The closed store of an application."""
    folder: Path = tmp_path_factory.mktemp("template") / "app"
    folder.mkdir()
    engine = create_engine(f"sqlite:///{folder / 'app.db'}")
    with Store.open(
        folder / ".taskstore", types=TYPES.values(), engine=engine, migrate=True
    ) as store:
        store.create_many([Plan("p1"), Plan("p2")])
        store.create(Task("t1"))
        store.delete(Plan, "p2")
    engine.dispose()
    return folder


async def opened_and_run(folder: Path, work: Callable[[Application], Awaitable[Any]]) -> Any:
    """Run a coroutine function with the application; then the store must be whole and free."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'app.db'}")
    try:
        async with AsyncStore.open(
            folder / ".taskstore", types=TYPES.values(), engine=engine
        ) as store:
            sessions = async_sessionmaker(engine)
            store.attach(sessions)
            application = Application(store, engine, sessions)
            result = await work(application)
            # The end of `sessions.begin()` is a task of its own, which SQLAlchemy shields.
            if others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)
            hooks: Any = store._hooks
            assert [] == list(hooks._transactions._open)
            pool: Any = engine.sync_engine.pool
            assert 0 == pool.checkedout()
            check_released(store.blocking)
            check_cache(store.blocking)
            async with sessions.begin() as session:
                session.add(StoredRecord.from_record(Plan("next")))
            await store.create(Task("next"))
            check_cache(store.blocking)
        return result
    finally:
        await engine.dispose()


async def cancel_at(
    tap: Tap, folder: Path, work: Callable[[Application], Awaitable[None]], number: int, times: int
) -> bool:
    """Run, cancel the task from within a file operation; say whether it came to that."""

    async def attempt(application: Application) -> bool:
        reached = False
        loop = asyncio.get_running_loop()
        await application.store.count(Plan)
        task = asyncio.ensure_future(work(application))

        def before(count: int, name: str, arguments: Any) -> None:
            nonlocal reached
            if count == number:
                reached = True
                # The loop has taken note before the operation goes on.
                asyncio.run_coroutine_threadsafe(cancel(task, times), loop).result()

        tap.count, tap.before = 0, before
        try:
            await task
        except asyncio.CancelledError:
            assert reached
        finally:
            tap.before = lambda *_: None
        return reached

    reached: bool = await opened_and_run(folder, attempt)
    return reached


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("work", [create, commit])
def test_cancelled_at_every_file_operation(
    tap: Tap, template: Path, tmp_path: Path, work: Any, times: int
) -> None:
    """Wherever a task is cancelled: all or nothing, no lock held, and the next write succeeds."""
    for number in steps(MOST, work, times):
        folder = copy(template, tmp_path / "app")
        reached = asyncio.run(cancel_at(tap, folder, work, number, times))
        found = {key for key in told(folder / ".taskstore") if key[1] == "new"}
        assert found in (set(), *WHOLE)
        if not reached:
            assert found
            return
    pytest.fail(f"it takes less than {MOST} operations")


@pytest.mark.parametrize("work", [create, commit])
def test_cancelled_at_every_turn_of_the_loop(template: Path, tmp_path: Path, work: Any) -> None:
    """Wherever a task awaits, flushes included, a cancellation leaves all or nothing."""
    outcomes = set()
    for number in range(MOST):
        folder = copy(template, tmp_path / "app")

        async def attempt(application: Application, number: int = number) -> bool:
            task = asyncio.ensure_future(work(application))
            for _ in range(number):
                await asyncio.sleep(0.0002)
            done: bool = task.done()
            task.cancel()
            await asyncio.wait([task])
            return done

        done = asyncio.run(opened_and_run(folder, attempt))
        found = {key for key in told(folder / ".taskstore") if key[1] == "new"}
        assert found in (set(), *WHOLE)
        outcomes.add(bool(found))
        if done:
            break
    assert {True, False} == outcomes


@pytest.mark.parametrize("work", [create, commit])
def test_cancelled_while_it_waits_for_the_database(
    template: Path, tmp_path: Path, work: Any
) -> None:
    """A task that is cancelled while another holds the write lock leaves all or nothing."""
    folder = copy(template, tmp_path / "app")

    async def attempt(application: Application) -> None:
        async with application.sessions() as holder:
            holder.add(StoredRecord.from_record(Plan("held")))
            await holder.flush()
            task = asyncio.ensure_future(work(application))
            for _ in range(20):
                await application.store.count(Plan)
            assert not task.done()
            task.cancel()
            await holder.commit()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(opened_and_run(folder, attempt))
    found = told(folder / ".taskstore").keys()
    assert {"held", "next"} <= {id for _, id in found}
    # The commit at the end of `sessions.begin()` is not cancelled.
    assert (WHOLE[0] if work is create else set()) == {key for key in found if key[1] == "new"}


def test_a_commit_is_over_before_its_cancellation_is_raised(
    tap: Tap, template: Path, tmp_path: Path
) -> None:
    """However often a task is cancelled, it goes on only when the log is written."""
    folder = copy(template, tmp_path / "app")
    seen = []

    async def attempt(application: Application) -> None:
        row = StoredRecord.from_record(Plan("new", group=1))

        async def write() -> None:
            async with application.sessions() as session:
                session.add(row)
                await session.commit()

        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(write())

        def before(count: int, name: str, arguments: Any) -> None:
            if name == "write":
                asyncio.run_coroutine_threadsafe(cancel(task, 10), loop).result(60)
                seen.append(task.done())

        tap.before = before
        with pytest.raises(asyncio.CancelledError):
            await task
        tap.before = lambda *_: None
        assert row.updated_at == told(folder / ".taskstore")["plans", "new"]["updated_at"]

    asyncio.run(opened_and_run(folder, attempt))
    assert [False] == seen


def test_a_timeout_is_told_as_one(tap: Tap, template: Path, tmp_path: Path) -> None:
    """What runs out of time while it commits is committed, and raises TimeoutError."""
    folder = copy(template, tmp_path / "app")

    async def attempt(application: Application) -> None:
        loop = asyncio.get_running_loop()
        scope = asyncio.timeout(None)

        def before(count: int, name: str, arguments: Any) -> None:
            if name == "write":

                async def run_out() -> None:
                    scope.reschedule(loop.time() - 1)
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)

                asyncio.run_coroutine_threadsafe(run_out(), loop).result()

        tap.before = before
        with pytest.raises(TimeoutError):
            async with scope:
                await create(application)
        tap.before = lambda *_: None

    asyncio.run(opened_and_run(folder, attempt))
    assert ("plans", "new") in told(folder / ".taskstore")
