"""Sessions of an application: hooked by its own call, unhooked again, and nothing else touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, text, update
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from taskstore import MigrationRequiredError, Store, UntrackedWriteError, where
from taskstore.models import StoredRecord
from tests.store.plans import Plan, append, ids, log_lines, read_log

pytestmark = pytest.mark.public


def row(id: str) -> StoredRecord:
    """A new ORM row of a plan."""
    return StoredRecord.from_record(Plan(id, status="active"))


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Engine]:
    """The engine of an application, with a database of its own."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    yield engine
    engine.dispose()


@pytest.mark.parametrize("kind", ["session", "sessionmaker", "scoped_session"])
def test_an_attached_session_writes_to_the_log(store: Store, kind: str) -> None:
    """A Session, a sessionmaker or a scoped session writes through once it was attached."""
    factory = sessionmaker(store.engine)
    scoped = scoped_session(factory)
    session: Any = factory() if kind == "session" else None
    target: Any = {"session": session, "sessionmaker": factory, "scoped_session": scoped}[kind]
    store.attach(target)
    store.attach(target)
    session = session or (scoped() if kind == "scoped_session" else factory())
    with session:
        session.add_all([row("a"), row("b")])
        session.flush()
        assert b"" == read_log(store.path)
        session.commit()
        assert ["a", "b"] == [line["id"] for line in log_lines(store.path)]
        session.delete(session.get_one(StoredRecord, ("plans", "a")))
        session.rollback()
        session.delete(session.get_one(StoredRecord, ("plans", "b")))
        session.commit()
    assert ["a"] == ids(store, where(Plan.status) == "active")
    assert not store.is_stale()
    scoped.remove()


@pytest.mark.parametrize("kind", ["session", "sessionmaker", "scoped_session"])
def test_a_detached_session_is_as_it_was(store: Store, kind: str) -> None:
    """After `detach`, and after `close`, none of our listeners is left; the write is refused."""
    factory = sessionmaker(store.engine)
    targets: dict[str, Any] = {
        "session": factory(),
        "sessionmaker": factory,
        "scoped_session": scoped_session(factory),
    }
    target = targets[kind]
    before = listeners(factory)
    store.attach(target)
    store.detach(target)
    store.detach(target)
    assert before == listeners(factory)
    with pytest.raises(UntrackedWriteError, match="would not reach the log"), factory() as session:
        session.add(row("a"))
        session.commit()
    store.attach(target)
    store.close()
    assert before == listeners(factory)
    targets["session"].close()
    targets["scoped_session"].remove()


def listeners(factory: sessionmaker[Session]) -> dict[str, int]:
    """How many listeners new sessions have, by event."""
    with factory() as session:
        dispatch = session.dispatch
        names = (
            "before_flush",
            "after_flush",
            "after_flush_postexec",
            "deleted_to_persistent",
            "do_orm_execute",
            "after_begin",
        )
        return {name: len(list(getattr(dispatch, name))) for name in names}


def test_other_sessions_are_not_touched(store: Store, application: Engine) -> None:
    """A session on another engine, and SQLAlchemy's own classes, have none of our listeners."""
    plain = listeners(sessionmaker(application))
    store.attach(sessionmaker(store.engine))
    with store.session() as session:
        session.add(row("a"))
        session.commit()
    assert set(plain.values()) == {0}
    assert plain == listeners(sessionmaker(application))


def test_another_engine_is_refused(store: Store, application: Engine) -> None:
    """A session that is bound to another database is refused, with the remedy."""
    for target in (sessionmaker(application), scoped_session(sessionmaker(application))):
        with pytest.raises(UntrackedWriteError, match=r"Store\.engine"):
            store.attach(target)
    with Session(application) as session, pytest.raises(UntrackedWriteError):
        store.attach(session)
    with (
        application.connect() as connection,
        Session(connection) as session,
        pytest.raises(UntrackedWriteError),
    ):
        store.attach(session)


@pytest.mark.parametrize("write", ["orm", "bulk", "core", "text", "driver", "commit"])
def test_a_write_that_would_miss_the_log_is_refused(store: Store, write: str) -> None:
    """On the store's engine, what no hook sees is refused, and the refusal says what to do."""
    store.create(Plan("a"))
    log = read_log(store.path)
    values = {
        "collection": "plans",
        "id": "b",
        "data_json": "{}",
        "updated_at": 1,
        "updated_at_us": 1,
    }
    with pytest.raises(UntrackedWriteError, match="write through the store|use session|use the"):
        if write == "orm":
            with Session(store.engine) as session:
                session.add(row("b"))
                session.commit()
        elif write == "bulk":
            with store.session() as inside:
                inside.execute(update(StoredRecord).values(data_json="{}"))
        elif write == "core":
            with store.engine.begin() as connection:
                connection.execute(insert(StoredRecord).values(**values))
        elif write == "text":
            with store.session() as inside:
                inside.execute(text("DELETE FROM records"))
        elif write == "driver":
            with store.engine.connect() as connection:
                connection.exec_driver_sql("UPDATE records SET data_json = '{}'")
        else:
            with store.session() as inside:
                inside.add(row("b"))
                inside.flush()
                inside.connection().exec_driver_sql("COMMIT")
    assert log == read_log(store.path)
    assert ["a"] == ids(store)
    store.create(Plan("c"))
    assert ["a", "c"] == ids(store)


def test_an_attached_session_sees_the_last_sync(store: Store) -> None:
    """An attached session keeps its own way to begin: it sees outside lines after a sync."""
    factory = sessionmaker(store.engine)
    store.attach(factory)
    append(store.path, {"id": "a", "updated_at": 1})
    with factory() as session:
        assert 0 == session.query(StoredRecord).count()
    store.sync()
    with factory() as session:
        assert 1 == session.query(StoredRecord).count()


def test_the_cache_may_live_in_the_applications_database(
    directory: Path, application: Engine
) -> None:
    """With `engine=` one transaction holds records and the application's own rows."""
    with application.begin() as connection:
        connection.execute(text("CREATE TABLE mine (x INTEGER)"))
    with pytest.raises(MigrationRequiredError, match="migrate=True"):
        Store.open(directory, engine=application)
    with Store.open(directory, types=[Plan], engine=application, migrate=True) as store:
        factory = sessionmaker(application)
        store.attach(factory)
        with factory.begin() as session:
            session.add(row("a"))
            session.execute(text("INSERT INTO mine VALUES (1)"))
        with pytest.raises(KeyError), factory.begin() as session:
            session.add(row("b"))
            session.execute(text("INSERT INTO mine VALUES (2)"))
            session.flush()
            raise KeyError
        store.create(Plan("c"))
        append(directory, {"id": "d", "updated_at": 1})
        assert ["a", "c", "d"] == ids(store)
        assert not (directory / "taskstore.db").exists()
    with application.connect() as connection:
        assert [(1,)] == connection.execute(text("SELECT x FROM mine")).all()
    with Store.open(directory, types=[Plan], engine=application) as store:
        assert ["a", "c", "d"] == ids(store)


def test_close_leaves_an_applications_engine_open(directory: Path, application: Engine) -> None:
    """Closing the store takes our listeners off the application's engine, which stays usable."""
    Store.open(directory, engine=application, migrate=True).close()
    store = Store.open(directory, engine=application)
    methods = set(vars(application.dialect))
    store.close()
    assert {"do_commit", "do_rollback"} <= methods - set(vars(application.dialect))
    assert 0 == len(list(application.dispatch.begin))
    with application.begin() as connection:
        assert 0 == connection.execute(text("SELECT count(*) FROM records")).scalar()
