"""What an asyncio store does on PostgreSQL, with each driver that SQLAlchemy has for asyncio."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlalchemy import URL, Engine, delete, event, select, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

from taskstore import AsyncStore
from taskstore._mirror.capture.versions import StaleRowError
from taskstore._postgres.beside import parameters_of
from taskstore.errors import LogPendingError, UntrackedWriteError
from taskstore.models import StoredRecord
from tests.postgres.clones import cloned
from tests.postgres.models import MIRRORS, Base, Project, Task

DRIVERS = ("asyncpg", "psycopg")


@attrs.frozen
class Application:
    """An asyncio application.

    Attributes:
        engine: Its engine.
        store: Open on it.
        sessions: Attached.
        path: The store directory.
    """

    engine: AsyncEngine
    store: AsyncStore
    sessions: async_sessionmaker[AsyncSession]
    path: Path

    def log(self, collection: str) -> str:
        """Return the lines that a log has now."""
        path = self.path / f"{collection}.jsonl"
        return path.read_text(encoding="utf-8") if path.exists() else ""


Run = Callable[..., None]


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """The name of a driver."""
    return str(request.param)


@pytest.fixture
def url(new_database: Callable[[], URL], driver: str) -> URL:
    """The URL of a new database, for the driver."""
    return new_database().set(drivername=f"postgresql+{driver}")


@pytest.fixture
def run(url: URL, tmp_path: Path) -> Run:
    """Return a function that runs a test with an application."""

    def call(work: Callable[[Application], Coroutine[Any, Any, None]], **options: Any) -> None:
        async def main() -> None:
            async with _application(url, tmp_path / ".taskstore", **options) as one:
                await work(one)

        asyncio.run(main())

    return call


@asynccontextmanager
async def _engine(url: URL, **options: Any) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url, **options)
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def _application(url: URL, path: Path, **options: Any) -> AsyncIterator[Application]:
    options = {"migrate": True, "lock_timeout": 10.0, **options}
    async with _engine(url) as engine:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncStore.open(path, engine=engine, mirrors=MIRRORS, **options) as store:
            sessions = async_sessionmaker(engine, expire_on_commit=False)
            store.attach(sessions)
            yield Application(engine, store, sessions, path)


def test_a_commit_waits_for_the_log(run: Run) -> None:
    """With `ack="log"` a commit of an asyncio session returns when its line is in the file."""

    async def work(one: Application) -> None:
        for number in range(20):
            async with one.sessions.begin() as session:
                session.add(Task(id=f"t{number}"))
            assert f'"t{number}"' in one.log("tasks")
        async with one.engine.begin() as connection:
            await connection.execute(text("INSERT INTO tasks (id, title) VALUES ('raw', '')"))
        assert '"raw"' in one.log("tasks")
        engine = one.engine.execution_options(isolation_level="AUTOCOMMIT")
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO tasks (id, title) VALUES ('auto', '')"))
        assert '"auto"' in one.log("tasks")
        report = await one.store.verify()
        assert () == report.differences

    run(work, ack="log")


def test_many_tasks_wait_together(run: Run) -> None:
    """Fifty tasks commit at once, and the event loop goes on while they wait."""

    async def commit(one: Application, number: int) -> None:
        async with one.sessions.begin() as session:
            session.add(Task(id=f"t{number}"))
        assert f'"t{number}"' in one.log("tasks")

    async def work(one: Application) -> None:
        await asyncio.gather(*(commit(one, number) for number in range(50)))

    run(work, ack="log")


def test_a_commit_that_the_log_refuses_says_so(run: Run) -> None:
    """The transaction is committed, and `LogPendingError` says that its line is not written."""

    async def work(one: Application) -> None:
        async with one.sessions.begin() as session:
            session.add(Task(id="first"))
        log = one.path / "tasks.jsonl"
        log.rename(one.path / "away")
        with pytest.raises(LogPendingError):
            async with one.sessions.begin() as session:
                session.add(Task(id="second"))
        async with one.sessions() as session:
            assert await session.get(Task, "second") is not None
        (one.path / "away").rename(log)
        await one.store.sync()
        assert '"second"' in one.log("tasks")

    run(work, ack="log")


def test_a_cancelled_commit_finishes(run: Run) -> None:
    """A task that is cancelled while it waits for the log ends when its line is there."""

    async def commit(one: Application) -> None:
        async with one.sessions.begin() as session:
            session.add(Task(id="a"))

    async def work(one: Application) -> None:
        scribe: Any = getattr(one.store.blocking, "_scribe")  # noqa: B009 - of PostgreSQL
        asked = asyncio.Event()
        ask = scribe.ask

        def noted() -> Any:
            asked.set()
            return ask()

        scribe.ask = noted
        task = asyncio.create_task(commit(one))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert '"a"' in one.log("tasks")

    run(work, ack="log")


def test_a_failed_transaction_rolls_back(run: Run) -> None:
    """A COMMIT after an error rolls back, as without a store."""

    async def work(one: Application) -> None:
        async with one.engine.connect() as connection:
            await connection.execute(text("INSERT INTO tasks (id, title) VALUES ('a', '')"))
            with pytest.raises(Exception, match="division"):
                await connection.execute(text("SELECT 1 / 0"))
            await connection.commit()
        assert "" == one.log("tasks")

    run(work, ack="log")


def test_sessions_read_stamps_and_refuse_stale_rows(run: Run) -> None:
    """An attached session gets the database's versions, and does not write over newer rows."""

    async def work(one: Application) -> None:
        async with one.sessions.begin() as session:
            project = Project(id="p", name="")
            session.add(project)
            await session.flush()
            await session.refresh(project)
            assert project.updated_at > 0
        async with one.sessions() as session:
            old = await session.get_one(Project, "p")
            async with one.sessions.begin() as other:
                (await other.get_one(Project, "p")).name = "newer"
            old.name = "older"
            with pytest.raises(StaleRowError):
                await session.commit()

    run(work)


def test_sessions_refuse_to_write_records(run: Run) -> None:
    """Rows of StoredRecord are for queries in asyncio sessions, too."""

    async def work(one: Application) -> None:
        await one.store.create("notes", {"id": "a"})
        async with one.sessions() as session:
            row = await session.scalar(select(StoredRecord))
            assert row is not None
            row.data = {**row.data, "body": "new"}
            with pytest.raises(UntrackedWriteError, match=r"Store\.save"):
                await session.commit()
        async with one.sessions() as session:
            with pytest.raises(UntrackedWriteError):
                await session.execute(delete(StoredRecord))

    run(work)


def test_a_sync_brings_what_others_wrote(run: Run, new_database: Any, tmp_path: Path) -> None:
    """After a pull, the rows are in the tables."""
    with cloned(new_database(), tmp_path / "two") as two:
        with two.sessions.begin() as session:
            session.add(Task(id="theirs", title="x"))
        two.work.drain()

        async def work(one: Application) -> None:
            shutil.copy(two.path / "tasks.jsonl", one.path / "tasks.jsonl")
            await one.store.sync()
            async with one.sessions() as session:
                assert "x" == (await session.get_one(Task, "theirs")).title

        run(work)


def test_a_closed_store_leaves_the_engine_alone(url: URL, tmp_path: Path) -> None:
    """After the store is closed, the engine commits without it and has none of its listeners."""

    async def main() -> None:
        async with _engine(url) as engine:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            listeners: Any = engine.sync_engine.dialect.dispatch
            options: Any = {"engine": engine, "mirrors": MIRRORS, "migrate": True, "ack": "log"}
            async with AsyncStore.open(tmp_path / ".taskstore", **options):
                assert 1 == len(list(listeners.do_connect))
            assert 0 == len(list(listeners.do_connect))
            async with engine.begin() as connection:
                await connection.execute(text("INSERT INTO tasks (id, title) VALUES ('a', '')"))

    asyncio.run(main())


def test_the_store_connects_as_the_application_does(url: URL, tmp_path: Path) -> None:
    """Arguments and listeners of the application's engine reach the store's own connections."""
    arguments: dict[str, Any] = (
        {"server_settings": {"application_name": "our shop"}, "timeout": 7.5}
        if url.drivername.endswith("asyncpg")
        else {"options": r"-c application_name=our\ shop", "connect_timeout": 8}
    )

    def change(dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]) -> None:
        # The server trusts everyone.
        parameters["password"] = "of today"

    async def main() -> None:
        async with _engine(url, connect_args=arguments) as engine:
            event.listen(engine.sync_engine, "do_connect", change)
            options: Any = {"engine": engine, "migrate": True}
            async with AsyncStore.open(tmp_path / ".taskstore", **options) as store:
                given = parameters_of(engine)
                assert "of today" == given["password"]
                assert 8 == given["connect_timeout"]
                with store.blocking.engine.connect() as connection:
                    found = connection.exec_driver_sql("SHOW application_name").scalar_one()
                    assert "our shop" == found

    asyncio.run(main())


@pytest.mark.parametrize(
    ("driver", "arguments", "reason"),
    [
        ("asyncpg", {"ssl": ssl.create_default_context()}, "'ssl'"),
        ("asyncpg", {"password": lambda: "x"}, "'password'"),
    ],
    ids=["ssl", "password"],
)
def test_what_cannot_be_told_is_refused(
    url: URL, arguments: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """An engine with a parameter that psycopg cannot take is refused; the error names it."""

    async def main() -> None:
        async with _engine(url, connect_args=arguments) as engine:
            await AsyncStore.open(tmp_path / ".taskstore", engine=engine, mirrors=MIRRORS)

    with pytest.raises(UntrackedWriteError, match=reason):
        asyncio.run(main())


def test_another_schema_is_refused(url: URL, tmp_path: Path) -> None:
    """A listener that moves connections to another schema is found: it has other tables."""

    def move(driver: Any, record: Any) -> None:
        cursor = driver.cursor()
        cursor.execute("SET search_path = pg_catalog")
        cursor.close()
        driver.commit()

    async def main() -> None:
        async with _engine(url) as engine:
            event.listen(engine.sync_engine, "connect", move)
            await AsyncStore.open(tmp_path / ".taskstore", engine=engine, mirrors=MIRRORS)

    with pytest.raises(UntrackedWriteError, match="search_path"):
        asyncio.run(main())


def test_an_application_server_has_no_directory(run: Run) -> None:
    """Without a directory, attached sessions read the database's stamps, and writes are logged."""

    async def serve(one: Application) -> None:
        async with AsyncStore.open(None, engine=one.engine, mirrors=MIRRORS) as server:
            sessions = async_sessionmaker(one.engine)
            server.attach(sessions)
            async with sessions.begin() as session:
                project = Project(id="p", name="")
                session.add(project)
                await session.flush()
                await session.refresh(project)
                assert project.updated_at > 0
        await one.store.verify()
        assert '"p"' in one.log("projects")

    run(serve)


def test_a_synchronous_engine_works_as_well(engine: Engine, tmp_path: Path) -> None:
    """With `ack="log"` a commit on a synchronous engine is in the log, and the store agrees."""
    Base.metadata.create_all(engine)
    path = tmp_path / ".taskstore"

    async def main() -> None:
        async with AsyncStore.open(
            path, engine=engine, mirrors=MIRRORS, migrate=True, ack="log"
        ) as store:
            with Session(engine) as session:
                session.add(Task(id="ada"))
                await asyncio.to_thread(session.commit)
            assert '"ada"' in (path / "tasks.jsonl").read_text(encoding="utf-8")
            report = await store.verify()
            assert () == report.differences

    asyncio.run(main())
