"""Sessions of asyncio that an application has: hooked, let go, refused, and never in the way."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import Engine, create_engine, delete, event, insert, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, sessionmaker

from taskstore import (
    AsyncStore,
    StaleRecordError,
    Store,
    StoreClosedError,
    TaskstoreError,
    UntrackedWriteError,
)
from taskstore.models import RecordIndexField, StoredRecord, Tombstone
from tests.aio.clones import AsyncClone, async_cloned
from tests.log.disk import OPERATIONS, Tap
from tests.mirror.models import Person, Step, Tag, Task
from tests.store.plans import Plan
from tests.writing.paths import ROW


def row(id: str, title: str = "") -> StoredRecord:
    """A new ORM row of a plan."""
    return StoredRecord.from_record(Plan(id, title))


def run(folder: Path, work: Any, **options: Any) -> None:
    """Run a coroutine function with a store and the asyncio engine that it follows."""

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'app.db'}")
        try:
            async with AsyncStore.open(
                folder / ".taskstore", types=[Plan], engine=engine, migrate=True, **options
            ) as store:
                await work(store, engine)
        finally:
            await engine.dispose()

    asyncio.run(main())


def told(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log of plans."""
    path = folder / ".taskstore" / "plans.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Marked(Session):
    """A class of sessions of the application's own."""


class MarkedAsync(AsyncSession):
    """An asyncio session that is made of it."""

    sync_session_class = Marked


@pytest.mark.parametrize(
    ("options", "given"),
    [({}, None), ({"sync_session_class": Marked}, Marked), ({"class_": MarkedAsync}, None)],
    ids=["plain", "given", "of the class"],
)
def test_a_factory_is_hooked_and_let_go(tmp_path: Path, options: Any, given: Any) -> None:
    """A factory makes sessions of a subclass while it is attached, and then its own again."""

    async def work(store: AsyncStore, engine: AsyncEngine) -> None:
        factory = async_sessionmaker(engine, **options)
        before = factory().sync_session_class
        store.attach(factory)
        store.attach(factory)
        assert issubclass(factory().sync_session_class, before)
        async with factory.begin() as session:
            session.add(row("a", "one"))
        assert ["a"] == [plan.id for plan in await store.list(Plan)]
        store.detach(factory)
        store.detach(factory)
        assert before is factory().sync_session_class
        assert given is factory.kw.get("sync_session_class")
        async with factory() as session:
            session.add(row("b"))
            await session.commit()

    run(tmp_path, work)
    assert ["a", "b"] == [line["id"] for line in told(tmp_path)]


def test_a_factory_that_somebody_else_configured_is_left_alone(tmp_path: Path) -> None:
    """Detaching takes back only what attaching has done."""

    async def work(store: AsyncStore, engine: AsyncEngine) -> None:
        factory = async_sessionmaker(engine)
        store.attach(factory)
        factory.configure(sync_session_class=Marked)
        store.detach(factory)
        assert Marked is factory().sync_session_class

    run(tmp_path, work)


def test_sessions_of_each_kind(tmp_path: Path) -> None:
    """A single session, a scoped one, and a synchronous factory on the second engine are hooked."""

    async def work(store: AsyncStore, engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            store.attach(session)
            session.add(row("single"))
            await session.commit()
            store.detach(session)
        scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        store.attach(scoped)
        scoped.add(row("scoped"))
        await scoped.commit()
        await scoped.remove()
        store.detach(scoped)
        blocking = sessionmaker(store.blocking.engine)
        store.attach(blocking)

        def write() -> None:
            with blocking.begin() as session:
                session.add(row("blocking"))

        await asyncio.to_thread(write)
        store.detach(blocking)
        async with AsyncSession(engine) as session:
            session.add(row("never"))
            await session.commit()
        assert () == (await store.verify()).differences

    run(tmp_path, work)
    assert ["single", "scoped", "blocking", "never"] == [line["id"] for line in told(tmp_path)]


def test_what_cannot_be_carried_is_refused(tmp_path: Path) -> None:
    """Writes of derived tables, and engines that cannot be followed, raise and say why."""

    async def work(store: AsyncStore, engine: AsyncEngine) -> None:
        factory = async_sessionmaker(engine)
        store.attach(factory)
        await store.create(Plan("a"))
        statements = (
            insert(Tombstone).values(collection="plans", id="c", updated_at=1, updated_at_us=1),
            delete(RecordIndexField),
            text("DELETE FROM sync_metadata"),
        )
        for statement in statements:
            async with factory() as session:
                with pytest.raises(UntrackedWriteError):
                    await session.execute(statement)
            async with engine.connect() as connection:
                with pytest.raises(UntrackedWriteError):
                    await connection.execute(statement)
        other = create_async_engine("sqlite+aiosqlite:///:memory:")
        for target in (
            async_sessionmaker(other),
            AsyncSession(other),
            AsyncSession,
            sessionmaker(create_engine("sqlite://")),
            "a session",
        ):
            with pytest.raises(UntrackedWriteError) as refusal:
                store.attach(target)
            assert refusal.value.remedy
        with pytest.raises(UntrackedWriteError, match="in memory"):
            await AsyncStore.open(tmp_path / "other", engine=other)
        shared = create_async_engine("sqlite+aiosqlite:///file::memory:?cache=shared&uri=true")
        with pytest.raises(UntrackedWriteError, match="in memory"):
            await AsyncStore.open(tmp_path / "other", engine=shared)
        await other.dispose()
        await shared.dispose()
        assert not (tmp_path / "other").exists()

    run(tmp_path, work)
    assert ["a"] == [line["id"] for line in told(tmp_path)]


def test_without_an_asyncio_engine_its_sessions_are_refused(tmp_path: Path) -> None:
    """A store with a cache of its own says what it would need."""

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'app.db'}")
        async with AsyncStore.open(tmp_path / ".taskstore") as store:
            factory = async_sessionmaker(engine)
            with pytest.raises(UntrackedWriteError, match=r"AsyncStore\.open"):
                store.attach(factory)
            store.detach(factory)
        with pytest.raises(UntrackedWriteError, match=r"AsyncStore\.open"):
            Store.open(tmp_path / ".taskstore", engine=engine)  # type: ignore[arg-type]
        await engine.dispose()

    asyncio.run(main())


def test_closing_takes_everything_off(tmp_path: Path) -> None:
    """After close, engine and factory are as they were, and what is still open cannot commit."""

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'app.db'}")
        store = await AsyncStore.open(tmp_path / ".taskstore", engine=engine, migrate=True)
        factory = async_sessionmaker(engine)
        store.attach(factory)
        session = factory()
        session.add(row("late"))
        await session.flush()
        await store.close()
        await store.close()
        with pytest.raises(StoreClosedError):
            await session.commit()
        await session.close()
        assert {"bind", "autoflush", "expire_on_commit"} == set(factory.kw)
        assert not [name for name in vars(engine.sync_engine.dialect) if name.startswith("do_")]
        async with factory.begin() as session:
            await session.execute(insert(StoredRecord).values(ROW))
        with pytest.raises(StoreClosedError):
            store.attach(factory)
        await engine.dispose()

    asyncio.run(main())
    assert not (tmp_path / ".taskstore" / "plans.jsonl").exists()


def test_files_are_used_away_from_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file operation of a flush or a commit is done by the thread of the event loop."""
    tap = Tap(monkeypatch, (*OPERATIONS, "open_log", "read_at", "same_file"))
    seen: dict[str, int] = {}

    async def main() -> None:
        async with async_cloned(tmp_path / "app") as clone:
            tap.before = lambda number, name, _: seen.update({name: threading.get_ident()})
            async with clone.sessions.begin() as session:
                session.add(Task(id="t", title="t", owner=Person(id="p", name="p")))
            # Another program's line, and a log whose time is another: the flush looks into it.
            log = clone.store.path / "people.jsonl"
            with log.open("a", encoding="utf-8") as file:
                file.write('{"id":"q","name":"q","updated_at":1}\n')
            async with clone.sessions.begin() as session:
                (await session.get_one(Person, "p")).name = "changed"
            tap.before = lambda *_: None
            assert [] == (await clone.store.sync()).problems
            assert () == (await clone.store.verify()).differences

    asyncio.run(main())
    assert {"write", "sync", "open_log"} <= set(seen)
    assert threading.get_ident() not in seen.values()


def test_the_loop_goes_on_while_a_commit_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the log is written, other tasks run; the write waits for one of them to let it go."""
    tap = Tap(monkeypatch, ("write",))
    let_go = threading.Event()

    async def work(store: AsyncStore, engine: AsyncEngine) -> None:
        factory = async_sessionmaker(engine)
        store.attach(factory)

        def before(*_: Any) -> None:
            assert let_go.wait(60)

        async def write() -> None:
            async with factory.begin() as session:
                session.add(row("a"))

        await store.create(Plan("there"))
        tap.before = before
        task = asyncio.ensure_future(write())
        for _ in range(20):
            await store.count(Plan)
        assert not task.done()
        let_go.set()
        await task
        assert 2 == await store.count(Plan)

    run(tmp_path, work)


def test_calls_of_the_store_wait_for_a_session_in_threads(tmp_path: Path) -> None:
    """A call that needs the lock of a session that has flushed waits for its commit."""

    async def work(store: AsyncStore, engine: AsyncEngine) -> None:
        factory = async_sessionmaker(engine)
        store.attach(factory)
        async with factory() as session:
            session.add(row("a"))
            await session.flush()
            call = asyncio.ensure_future(store.create(Plan("b", "two")))
            for _ in range(20):
                await asyncio.to_thread(lambda: None)
            assert not call.done()
            await session.commit()
        await call
        assert ["a", "b"] == sorted(plan.id for plan in await store.list(Plan))
        assert () == (await store.verify()).differences

    run(tmp_path, work)


def test_many_tasks_write_at_once(tmp_path: Path) -> None:
    """Sessions and calls of many tasks all reach the log, and it agrees with the cache."""

    async def work(store: AsyncStore, engine: AsyncEngine) -> None:
        factory = async_sessionmaker(engine)
        store.attach(factory)

        async def write(number: int) -> None:
            async with factory.begin() as session:
                session.add(row(f"session-{number}"))

        await asyncio.gather(
            *(write(number) for number in range(20)),
            *(store.create(Plan(f"call-{number}")) for number in range(20)),
        )
        assert 40 == await store.count(Plan)
        assert () == (await store.verify()).differences

    run(tmp_path, work)
    assert 40 == len(told(tmp_path))


def test_the_second_engine_is_set_up_like_the_first(tmp_path: Path) -> None:
    """Foreign keys are enforced for the store as for the application; JSON is written alike."""

    def dumped(value: Any) -> str:
        return json.dumps(value, indent=1)

    async def main() -> None:
        path = tmp_path / "app.db"
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}", json_serializer=dumped)

        @event.listens_for(engine.sync_engine, "connect")
        def connect(driver: Any, record: Any) -> None:
            for pragma in ("foreign_keys = ON", "synchronous = EXTRA", "busy_timeout = 1234"):
                cursor = driver.cursor()
                cursor.execute(f"PRAGMA {pragma}")
                cursor.close()

        async with AsyncStore.open(tmp_path / ".taskstore", engine=engine, migrate=True) as store:
            second: Engine = store.blocking.engine
            with second.connect() as connection:
                found = {
                    name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("foreign_keys", "synchronous", "busy_timeout")
                }
            dialect: Any = second.dialect
            assert dumped is dialect._json_serializer
            assert str(path) == str(Path(str(second.url.database)).resolve())
        await engine.dispose()
        assert {"foreign_keys": 1, "synchronous": 3, "busy_timeout": 1234} == found

    asyncio.run(main())


def test_another_aiosqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version whose insides are others is an error that names those we know."""

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'app.db'}")
        async with engine.connect():
            pass
        monkeypatch.delattr(aiosqlite.Connection, "_conn")
        with pytest.raises(UntrackedWriteError, match=r"install aiosqlite 0\.20"):
            await AsyncStore.open(tmp_path / ".taskstore", engine=engine, migrate=True)
        monkeypatch.undo()
        await engine.dispose()

    asyncio.run(main())


def test_a_failed_commit_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk refuses, neither log nor database has anything, and the session goes on."""
    tap = Tap(monkeypatch)

    async def work(store: AsyncStore, engine: AsyncEngine) -> None:
        factory = async_sessionmaker(engine)
        store.attach(factory)
        await store.create(Plan("there"))
        for number in range(1, 4):
            async with factory() as session:
                session.add(row("a"))
                await session.flush()
                tap.fail(number)
                with pytest.raises(TaskstoreError, match="injected"):
                    await session.commit()
                tap.before = lambda *_: None
                await session.rollback()
            assert ["there"] == [plan.id for plan in await store.list(Plan)]
            assert () == (await store.verify()).differences
        async with factory.begin() as session:
            session.add(row("a"))

    run(tmp_path, work)
    assert ["there", "a"] == [line["id"] for line in told(tmp_path)]


def test_mirrored_models(tmp_path: Path) -> None:
    """Relations, links and deletions reach the log; a stale row is refused; a sync arrives."""

    async def main() -> None:
        async with async_cloned(tmp_path / "app") as clone:
            await edit(clone)
            clone.inner().check()
            with (clone.store.path / "people.jsonl").open("a", encoding="utf-8") as log:
                log.write('{"id":"eve","name":"Eve","updated_at":9}\n')
            assert [] == (await clone.store.sync()).problems
            async with clone.sessions() as session:
                assert "Eve" == (await session.get_one(Person, "eve")).name

    asyncio.run(main())


async def edit(clone: AsyncClone) -> None:
    """Write in many ways."""
    async with clone.sessions.begin() as session:
        ada = Person(id="ada", name="Ada")
        task = Task(id="t", title="t", owner=ada, tags=[Tag(name="x"), Tag(name="y")])
        task.steps.append(Step(number=1))
        session.add(task)
    async with clone.sessions.begin() as session:
        task = await session.get_one(Task, "t")
        await session.refresh(task, ["tags"])
        task.tags = task.tags[:1]
        (await session.get_one(Person, "ada")).name = "Countess"
    async with clone.sessions(expire_on_commit=False) as session:
        ada = await session.get_one(Person, "ada")
        await session.commit()
        async with clone.sessions.begin() as other:
            (await other.get_one(Person, "ada")).name = "Newer"
        ada.name = "older"
        with pytest.raises(StaleRecordError):
            await session.commit()
        await session.rollback()
    async with clone.sessions.begin() as session:
        await session.delete(await session.get_one(Task, "t"))
    inner = clone.inner()
    assert {"Newer"} == {row["name"] for row in inner.told("people").values()}
    assert {} == inner.told("tasks") == inner.told("task_tags")


def test_a_database_that_is_locked(tmp_path: Path) -> None:
    """A session that waits in vain for another connection raises SQLAlchemy's own error."""

    async def main() -> None:
        url = f"sqlite+aiosqlite:///{tmp_path / 'app.db'}?timeout=0"
        engine = create_async_engine(url)
        async with AsyncStore.open(tmp_path / ".taskstore", engine=engine, migrate=True) as store:
            factory = async_sessionmaker(engine)
            store.attach(factory)
            async with factory() as first, factory() as second:
                first.add(row("a"))
                await first.flush()
                second.add(row("b"))
                with pytest.raises(OperationalError, match="locked"):
                    await second.commit()
                await first.commit()
        await engine.dispose()

    asyncio.run(main())
    assert ["a"] == [line["id"] for line in told(tmp_path)]
