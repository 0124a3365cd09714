"""Every write path on a tracked table is mirrored or refused, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    create_engine,
    create_mock_engine,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

from taskstore import Store, StoreClosedError, UntrackedWriteError
from taskstore.models import StoredRecord
from tests.mirror.clones import cloned
from tests.store.plans import Plan
from tests.writing.checks import FILTERS, check_mirrored_path, check_path
from tests.writing.mirrored_paths import PATHS as MIRRORED_PATHS
from tests.writing.paths import ASYNCIO, EXCEPTED, PATHS, ROW, WritePath
from tests.writing.world import BEFORE, Note, World, opened, row

KINDS = ("own", "application")
CASES = [
    pytest.param(kind, path, id=f"{kind}: {path.name}: {path.outcome(kind)}", marks=FILTERS)
    for kind in KINDS
    for path in PATHS
    if path.outcome(kind) != EXCEPTED
]


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world of each kind."""
    with opened(tmp_path, request.param) as world:
        yield world


@pytest.mark.parametrize(("kind", "path"), CASES)
def test_a_write_path(kind: str, path: WritePath, tmp_path: Path) -> None:
    """Each path reaches the log whole, or raises and changes nothing; neither leaves a trace."""
    with opened(tmp_path, kind) as world:
        check_path(world, path.outcome(kind), path)


@pytest.mark.parametrize(
    ("outcome", "work"),
    [
        pytest.param(outcome, work, id=f"{name}: {outcome}")
        for name, outcome, work in MIRRORED_PATHS
    ],
)
@pytest.mark.parametrize("foreign_keys", [True, False], ids=["enforced", "not enforced"])
def test_a_write_path_of_mirrored_models(
    tmp_path: Path, outcome: str, work: Any, *, foreign_keys: bool
) -> None:
    """Each path reaches log and table whole, or raises and changes neither."""
    with cloned(tmp_path / "app", foreign_keys=foreign_keys) as clone:
        check_mirrored_path(clone, outcome, work)


def test_a_path_has_one_name() -> None:
    """No path of a table hides another, and each exception is about a path."""
    for names in ([path.name for path in PATHS], [path[0] for path in MIRRORED_PATHS]):
        assert sorted(set(names)) == sorted(names)
    assert set(ASYNCIO) <= {path.name for path in PATHS}


def test_tables_of_the_application_are_free(world: World) -> None:
    """On the engine of a store, an application writes its own tables in every way."""
    log = world.log()
    for level in ("SERIALIZABLE", "AUTOCOMMIT"):
        with world.engine.connect().execution_options(isolation_level=level) as connection:
            connection.execute(insert(Note), [{"text": "DELETE FROM records"}, {"text": "b"}])
            connection.execute(text("INSERT INTO notes (text) SELECT 'x' FROM records"))
            connection.exec_driver_sql("CREATE TABLE mine (a TEXT)")
            connection.exec_driver_sql(
                "INSERT INTO mine SELECT id FROM records WHERE 1 ON CONFLICT DO NOTHING"
            )
            connection.exec_driver_sql("UPDATE mine SET a = (SELECT 'records') WHERE a = 'records'")
            connection.exec_driver_sql("DROP TABLE mine")
            connection.commit()
    with world.unattached() as session, session.begin():
        session.bulk_save_objects([Note(text="c")])
        with session.begin_nested():
            session.add(Note(text="d"))
        session.execute(update(Note).values(text=Note.text + "!"))
        session.execute(delete(Note).where(Note.text == "d!"))
    raw = world.engine.raw_connection()
    with closing(raw), closing(raw.cursor()) as cursor:
        cursor.execute("INSERT INTO notes (text) VALUES ('raw')")
        raw.commit()
        cursor.executescript("BEGIN; INSERT INTO notes (text) VALUES ('script'); COMMIT;")
    with world.sessions() as session:
        assert 11 == session.scalar(select(func.count()).select_from(Note))
    assert log == world.log()
    world.check_nothing_held()


def test_another_programs_write_is_found_and_undone(world: World) -> None:
    """What a foreign program writes into the cache is found by verify and undone by sync."""
    with closing(sqlite3.connect(world.database)) as other:
        other.execute('UPDATE records SET data_json = \'{"id":"a","title":"x"}\' WHERE id = \'a\'')
        other.execute("DELETE FROM records WHERE id = 'b'")
        other.execute("INSERT INTO records VALUES ('plans', 'c', '{\"id\":\"c\"}', 0, 0)")
        other.commit()
    found = {(difference.id, difference.kind) for difference in world.store.verify().differences}
    assert {("a", "different"), ("b", "missing"), ("c", "extra")} <= found
    world.store.sync(force=True)
    assert () == world.store.verify().differences
    assert BEFORE == world.titles() == world.replayed()


def test_a_commit_after_the_store_was_closed_raises(world: World) -> None:
    """A session that is open while its store is closed cannot commit past the log."""
    log = world.log()
    session = world.sessions()
    session.add(row("c"))
    session.flush()
    world.store.close()
    with pytest.raises(StoreClosedError):
        session.commit()
    session.close()
    assert log == world.log()
    with closing(sqlite3.connect(world.database)) as other:
        assert [("a",), ("b",)] == other.execute("SELECT id FROM records ORDER BY id").fetchall()


def test_closing_takes_every_listener_off(tmp_path: Path) -> None:
    """After close, an engine of the application is as if the store had never been open."""
    engine = create_engine(f"sqlite:///{tmp_path / 'application.db'}")
    store = Store.open(tmp_path / ".taskstore", engine=engine, migrate=True)
    store.close()
    assert not [name for name in vars(engine.dialect) if name.startswith("do_")]
    with engine.begin() as connection:
        connection.execute(insert(StoredRecord).values(ROW))
    with Session(engine) as session:
        assert "three" == session.get_one(StoredRecord, ("plans", "c")).data["title"]
    engine.dispose()


@pytest.mark.parametrize("recipe", [False, True])
def test_a_begin_of_the_application_is_respected(tmp_path: Path, recipe: bool) -> None:
    """An engine in AUTOCOMMIT, or one that sends its own BEGIN, mirrors or refuses as well."""
    options: dict[str, Any] = {} if recipe else {"isolation_level": "AUTOCOMMIT"}
    engine = create_engine(f"sqlite:///{tmp_path / 'application.db'}", **options)
    if recipe:
        event.listen(engine, "connect", lambda c, _: setattr(c, "isolation_level", None))
        event.listen(engine, "begin", lambda c: c.exec_driver_sql("BEGIN"))
    with Store.open(tmp_path / ".taskstore", engine=engine, migrate=True, types=[Plan]) as store:
        store.create(Plan("a", "one"))
        for commit in (False, True):
            with Session(engine) as session:
                store.attach(session)
                session.add(row("b", f"{commit}"))
                session.flush()
                with session.begin_nested():
                    session.add(row("c"))
                (session.commit if commit else session.rollback)()
                store.detach(session)
        assert ["a", "b", "c"] == sorted(plan.id for plan in store.list(Plan))
        with Session(engine) as session:
            store.attach(session)
            outcome = None
            try:
                with session.begin_nested():
                    session.add(row("d"))
            except UntrackedWriteError as error:
                outcome = error
            assert recipe == (outcome is None)
        assert () == store.verify().differences
    engine.dispose()


def test_an_asyncio_engine_is_refused(tmp_path: Path) -> None:
    """A store on an asyncio engine, and a hook on asyncio's sessions, is refused with advice."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'application.db'}")
    with pytest.raises(UntrackedWriteError, match="to_thread"):
        Store.open(tmp_path / ".taskstore", engine=engine.sync_engine, migrate=True)
    assert not (tmp_path / ".taskstore").exists()
    with Store.open(tmp_path / ".taskstore") as store:
        factory = async_sessionmaker(engine)
        for target in (
            factory,
            factory(),
            AsyncSession,
            async_scoped_session(factory, scopefunc=lambda: 1),
        ):
            with pytest.raises(UntrackedWriteError, match="to_thread"):
                store.attach(target)


def test_an_asyncio_session_with_a_hooked_sync_session_is_refused(tmp_path: Path) -> None:
    """An AsyncSession whose sync_session_class is attached cannot write past the log."""

    class Hooked(Session):
        pass

    async def write(url: str) -> None:
        engine = create_async_engine(url)
        try:
            async with AsyncSession(engine, sync_session_class=Hooked) as session:
                session.add(row("c"))
                with pytest.raises(UntrackedWriteError, match=r"Store\.engine"):
                    await session.commit()
        finally:
            await engine.dispose()

    with opened(tmp_path, "own") as world:
        world.store.attach(Hooked)
        asyncio.run(write(f"sqlite+aiosqlite:///{world.database}"))
        world.check_nothing_held()
        assert BEFORE == world.titles() == world.replayed()


@pytest.mark.parametrize("url", ["mysql://", "postgresql+psycopg://"])
def test_an_engine_of_another_kind_is_refused(tmp_path: Path, url: str) -> None:
    """A store takes real engines of SQLite and PostgreSQL, and no other."""
    engine: Any = create_mock_engine(url, print)
    with pytest.raises(UntrackedWriteError, match="SQLite"):
        Store.open(tmp_path / ".taskstore", engine=engine)
