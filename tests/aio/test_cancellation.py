"""A task is cancelled at any point: what it wrote is whole or not there, and nothing is held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from taskstore import AsyncStore, Store
from taskstore._log.gate import Gate
from taskstore._log.layout import Layout
from tests.crash.scene import TYPES, Plan, Task, check_cache, check_released, copy, steps, told
from tests.log.disk import OPERATIONS, Tap

MOST = 200


async def create(store: AsyncStore) -> None:
    """One record."""
    await store.create(Plan("new", group=1))


async def transact(store: AsyncStore) -> None:
    """Records of both collections in one transaction."""
    async with store.transaction() as transaction:
        await store.create_many([Plan("new", group=1), Plan("other", group=1)])
        await store.create(Task("new", group=1))
        await transaction.flush()


async def commit(store: AsyncStore) -> None:
    """A session that is committed."""
    async with store.session() as session:
        await store.create(Plan("new", group=1))
        await store.create(Task("new", group=1))
        await session.commit()


async def look_after(store: AsyncStore) -> None:
    """A sync, a compaction and a verification."""
    await store.sync(force=True)
    await store.compact(Plan, keep_tombstones_ms=0)
    await store.verify()


@pytest.fixture
def tap(monkeypatch: Any) -> Tap:
    """File operations under control."""
    return Tap(monkeypatch, (*OPERATIONS, "read_at"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: Any) -> Path:
    """A closed store."""
    path: Path = tmp_path_factory.mktemp("template") / ".taskstore"
    with Store.open(path, types=TYPES.values()) as store:
        store.create_many([Plan("p1"), Plan("p2")])
        store.create(Task("t1"))
        store.delete(Plan, "p2")
    return path


async def cancel_at(
    tap: Tap, path: Path, work: Callable[[AsyncStore], Awaitable[None]], number: int, times: int
) -> bool:
    """Run, cancel the task from within a file operation; say whether it came to that."""
    reached = False
    loop = asyncio.get_running_loop()
    async with AsyncStore.open(path, types=TYPES.values()) as store:
        await store.count(Plan)
        task = asyncio.ensure_future(work(store))

        def before(count: int, name: str, arguments: Any) -> None:
            nonlocal reached
            if count == number:
                reached = True
                seen = asyncio.run_coroutine_threadsafe(cancel(task, times), loop)
                # The loop has taken note before the operation goes on.
                seen.result()

        tap.count, tap.before = 0, before
        try:
            await task
            assert not reached or task.done()
        except asyncio.CancelledError:
            assert reached
        finally:
            tap.before = lambda *_: None
        check_released(store.blocking)
        check_cache(store.blocking)
        await store.create(Plan("next"))
    return reached


async def cancel(task: asyncio.Future[None], times: int) -> None:
    """Cancel, and let the task notice; so many times."""
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("work", [create, transact, commit, look_after])
def test_cancelled_at_every_file_operation(
    tap: Tap, template: Path, tmp_path: Path, work: Any, times: int
) -> None:
    """Wherever a task is cancelled: all or nothing, no lock held, and the next write succeeds."""
    for number in steps(MOST, work, times):
        path = copy(template, tmp_path / "store")
        reached = asyncio.run(cancel_at(tap, path, work, number, times))
        found = {key for key in told(path) if key[1] in ("new", "other")}
        assert found in (set(), *WHOLE)
        if not reached:
            assert found or work is look_after
            return
    pytest.fail(f"it takes less than {MOST} operations")


WHOLE: list[set[tuple[str, str]]] = [
    {("plans", "new")},
    {("plans", "new"), ("plans", "other"), ("tasks", "new")},
    {("plans", "new"), ("tasks", "new")},
]


@pytest.mark.parametrize("work", [create, transact, commit])
def test_cancelled_while_it_waits_for_its_turn(template: Path, tmp_path: Path, work: Any) -> None:
    """A task that is cancelled while another writer is at work leaves nothing behind."""
    path = copy(template, tmp_path / "store")

    async def main() -> None:
        async with AsyncStore.open(path, types=TYPES.values()) as store:
            with Gate(Layout(path)).hold(60):
                task = asyncio.ensure_future(work(store))
                # It waits in a thread, where nothing can be awaited: let it get there.
                for _ in range(20):
                    await store.count(Plan)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            check_released(store.blocking)
            check_cache(store.blocking)
            await store.create(Plan("next"))

    asyncio.run(main())
    assert ("plans", "next") in told(path)


def test_cancelled_before_it_has_begun(template: Path, tmp_path: Path) -> None:
    """Calls that wait for a thread are withdrawn, and never happen."""
    path = copy(template, tmp_path / "store")

    async def main() -> None:
        async with AsyncStore.open(path, types=TYPES.values()) as store:
            with Gate(Layout(path)).hold(60):
                tasks = [asyncio.ensure_future(store.create(Plan(str(n)))) for n in range(30)]
                await asyncio.sleep(0)
                tasks[-1].cancel()
                with pytest.raises(asyncio.CancelledError):
                    await tasks[-1]
            await asyncio.gather(*tasks[:-1])

    asyncio.run(main())
    assert {str(n) for n in range(29)} == {id for _, id in told(path) if id.isdigit()}


def test_cancelled_while_it_opens(template: Path, tmp_path: Path) -> None:
    """A store whose opening is cancelled is closed again."""
    path = copy(template, tmp_path / "store")
    (path / "taskstore.db").unlink()

    async def main() -> None:
        with Gate(Layout(path)).hold(60):
            task = asyncio.ensure_future(AsyncStore.open(path)._open())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    with Store.open(path, types=TYPES.values()) as store:
        check_released(store)
        check_cache(store)
