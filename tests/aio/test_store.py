"""The asyncio store: the same calls, and an event loop that goes on."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from taskstore import (
    AsyncStore,
    InvalidRecordError,
    RecordExistsError,
    Store,
    StoreClosedError,
    StoreNotFoundError,
    TransactionOpenError,
    where,
)
from taskstore._log.gate import Gate
from taskstore._log.layout import Layout
from taskstore.models import StoredRecord
from tests.store.plans import Plan, append, log_lines

pytestmark = pytest.mark.public

Work = Callable[[AsyncStore], Awaitable[Any]]


def run(directory: Path, work: Work) -> Any:
    """Run a function with an open store in an event loop of its own."""

    async def main() -> Any:
        async with AsyncStore.open(directory, types=[Plan]) as store:
            return await work(store)

    return asyncio.run(main())


def signature(function: Any) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults of a function's parameters."""
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]


def test_it_has_the_calls_of_the_store() -> None:
    """Every public call of a store is there, with the same parameters."""
    apart = {"engine", "models", "read_only"}
    names = {name for name in dir(Store) if not name.startswith("_")} - apart
    assert names == {name for name in dir(AsyncStore) if not name.startswith("_")} - {"blocking"}
    different = [
        name
        for name in sorted(names - {"path"})
        if signature(getattr(Store, name)) != signature(getattr(AsyncStore, name))
    ]
    assert [] == different


def test_reads_and_writes(directory: Path) -> None:
    """Each call does what that of the store does."""

    async def work(store: AsyncStore) -> None:
        plan = await store.create(Plan("a", "one", status="open"))
        await store.create_many(Plan(f"b{n}", priority=n) for n in range(3))
        plan.title = "two"
        assert "two" == (await store.update(plan)).title
        await store.save(Plan("c"))
        await store.save_many([Plan("d"), Plan("e")])
        assert (
            "done"
            == (await store.patch(Plan, "a", where("status") == "open", status="done")).status
        )
        assert await store.delete(Plan, "e")
        assert 1 == await store.delete_where(Plan, where("id") == "d")
        assert "two" == (await store.get_one(Plan, "a")).title
        assert await store.get(Plan, "e") is None
        assert (await store.first(Plan, where("status") == "done")) == await store.get(Plan, "a")
        assert ["b2", "b1"] == [
            p.id for p in await store.list(Plan, where("priority") > 0, order_by="-priority")
        ]
        assert 5 == await store.count("plans")
        assert await store.exists("plans", where("id") == "c")
        page = await store.page(Plan, order_by="id", limit=2)
        assert ["a", "b0"] == [p.id for p in page.items]
        assert ["a", "b0", "b1", "b2", "c"] == [
            p.id async for p in store.iterate(Plan, order_by="id")
        ]
        assert ["one", "two", "two"] == [
            v.record.title for v in await store.history(Plan, "a") if v.record
        ]
        assert 5 == len((await store.list_tolerant(Plan))[0])
        append(directory, {"id": "outside"})
        assert await store.is_stale()
        assert 6 == (await store.sync()).collections["plans"].records
        assert (await store.verify()).ok
        assert 6 == await store.rebuild_indexes(Plan)
        assert 6 == (await store.compact(Plan, keep_tombstones_ms=0)).lines_after
        with pytest.raises(RecordExistsError):
            await store.create(Plan("a"))
        assert directory == store.path
        assert str(directory) in repr(store)

    run(directory, work)


def test_it_is_opened_by_await_too(directory: Path) -> None:
    """`await` gives an open store, errors are raised there, and closing twice is fine."""

    async def main() -> None:
        with pytest.raises(StoreNotFoundError):
            await AsyncStore.open(directory, create=False)
        store = await AsyncStore.open(directory)
        found = await AsyncStore.find(directory / "below")
        assert directory == found.path == store.path
        await found.close()
        await store.close()
        await store.close()
        with pytest.raises((StoreClosedError, RuntimeError)):
            await store.count("plans")

    asyncio.run(main())


def test_the_event_loop_goes_on(directory: Path) -> None:
    """While a write waits for a lock, other tasks run, reads among them."""

    async def work(store: AsyncStore) -> None:
        with Gate(Layout(directory)).hold(60):
            write = asyncio.create_task(store.create(Plan("a")))
            for _ in range(20):
                assert 0 == await store.count(Plan)
            assert not write.done()
        await write
        assert 1 == await store.count(Plan)

    run(directory, work)


def test_many_tasks_write_at_once(directory: Path) -> None:
    """Sixty tasks, single writes and transactions of two records: every record is there once."""

    async def work(store: AsyncStore) -> None:
        async def pair(number: int) -> None:
            async with store.transaction():
                await store.create(Plan(f"x{number}"))
                await store.create(Plan(f"y{number}"))

        single = [store.create(Plan(str(number))) for number in range(40)]
        await asyncio.gather(*single, *map(pair, range(20)))
        assert 80 == await store.count(Plan)

    run(directory, work)
    assert 80 == len(log_lines(directory))


def test_a_transaction_is_all_or_nothing(directory: Path) -> None:
    """The calls of the task take part; an exception rolls all back; one within is a savepoint."""

    async def work(store: AsyncStore) -> None:
        with pytest.raises(ZeroDivisionError):
            async with store.transaction():
                await store.create(Plan("lost"))
                assert 1 == await store.count(Plan)
                _ = 1 / 0
        async with store.transaction() as transaction:
            await store.create(Plan("a"))
            with pytest.raises(ZeroDivisionError):
                async with store.transaction():
                    await store.create(Plan("lost too"))
                    _ = 1 / 0
            async with store.transaction():
                await store.create(Plan("b"))
            await transaction.run_sync(add, "c")
            await transaction.flush()
            assert ["a", "b", "c"] == [p.id async for p in store.iterate(Plan, order_by="id")]
            assert [] == log_lines(directory)
        assert ["a", "b", "c"] == sorted(line["id"] for line in log_lines(directory))

    run(directory, work)


def add(session: Session, id: str) -> None:
    """Add a row."""
    session.add(StoredRecord.from_record(Plan(id)))


def test_a_session_is_committed_by_its_user(directory: Path) -> None:
    """`commit` writes, `rollback` and the block's end do not."""

    async def work(store: AsyncStore) -> None:
        async with store.session() as session:
            await session.run_sync(add, "a")
            await session.commit()
            await session.run_sync(add, "b")
            await session.rollback()
            await session.run_sync(add, "c")
        async with store.session(read_only=True) as session:
            row = await session.run_sync(lambda inner: inner.get(StoredRecord, ("plans", "a")))
            assert row is not None

    run(directory, work)
    assert ["a"] == [line["id"] for line in log_lines(directory)]


def test_a_task_started_in_a_transaction_is_not_in_it(directory: Path) -> None:
    """It reads what was committed; its writes would wait for ever, and are refused."""

    async def work(store: AsyncStore) -> None:
        go_on = asyncio.Event()

        async def later() -> None:
            await go_on.wait()
            await store.create(Plan("later"))

        async with store.transaction():
            await store.create(Plan("a"))
            assert 0 == await asyncio.create_task(store.count(Plan))
            with pytest.raises(TransactionOpenError, match="create a record in a task"):
                await asyncio.create_task(store.create(Plan("b")))
            with pytest.raises(TransactionOpenError):
                await asyncio.create_task(enter(store))
            task = asyncio.create_task(later())
        go_on.set()
        await task
        assert 2 == await store.count(Plan)

    run(directory, work)


async def enter(store: AsyncStore) -> None:
    """Open a transaction."""
    async with store.transaction():
        pass


def test_an_iteration_serves_what_came_before_an_error(directory: Path) -> None:
    """A stored row that does not fit its class is raised in its place, not before."""

    async def work(store: AsyncStore) -> None:
        await store.create_many([Plan("a"), Plan("b")])
        append(directory, {"id": "c", "priority": "no number"}, {"id": "d"})
        walk = store.iterate(Plan, order_by="id")
        assert ["a", "b"] == [(await anext(walk)).id for _ in range(2)]
        with pytest.raises(InvalidRecordError):
            await anext(walk)

    run(directory, work)


def test_an_iteration_may_be_left(directory: Path) -> None:
    """A loop that is left early holds nothing: writes go on, and the store closes."""

    async def work(store: AsyncStore) -> None:
        await store.create_many(Plan(f"{n:04}") for n in range(1000))
        plans = store.iterate(Plan, order_by="id")
        assert "0000" == (await anext(plans)).id
        await plans.aclose()  # type: ignore[attr-defined]
        async with store.transaction():
            async for plan in store.iterate(Plan):
                await store.delete(Plan, plan.id)
                break
        assert 999 == await store.count(Plan)

    run(directory, work)


def test_progress_is_told_in_the_event_loop(directory: Path) -> None:
    """A function that hears of the progress runs in the loop's thread, and need not be locked."""

    async def work(store: AsyncStore) -> None:
        await store.create_many(Plan(str(n)) for n in range(10))
        told: list[int] = []
        await store.sync(force=True, on_progress=lambda *_: told.append(threading.get_ident()))
        await asyncio.sleep(0)
        assert {threading.get_ident()} == set(told)

    run(directory, work)


def test_closing_waits_for_what_runs(directory: Path) -> None:
    """A call that has begun when the store is closed is done to its end."""

    async def main() -> Coroutine[Any, Any, None] | None:
        store = await AsyncStore.open(directory, types=[Plan])
        await store.create(Plan("first"))
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def clock() -> int:
            loop.call_soon_threadsafe(started.set)
            return 5

        store.blocking._context.clock = clock
        write = asyncio.create_task(store.create(Plan("a")))
        await started.wait()
        await store.close()
        assert "a" == (await write).id
        return None

    asyncio.run(main())
    assert 2 == len(log_lines(directory))
