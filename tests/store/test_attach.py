"""Sessions of an application: hooked by its own call, unhooked again, and nothing else touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, insert, text, update
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from taskstore import (
    MigrationRequiredError,
    Store,
    TaskstoreError,
    UntrackedWriteError,
    where,
)
from taskstore.models import StoredRecord
from tests.store.plans import Plan, append, ids, log_lines, read_log

pytestmark = pytest.mark.public

VALUES: dict[str, Any] = {
    "collection": "plans",
    "id": "b",
    "data_json": '{"id":"b","title":"two"}',
    "updated_at": 0,
    "updated_at_us": 0,
}


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
    """After `detach`, and after `close`, none of our listeners is left; the engine's stay."""
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
    with factory() as session:
        session.add(row("a"))
        session.commit()
    assert ["a"] == ids(store)
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


@pytest.mark.parametrize("write", ["orm", "bulk", "core", "text", "driver"])
def test_a_write_of_no_attached_session_reaches_the_log(store: Store, write: str) -> None:
    """On the store's engine every write of records is noted, whoever sends it."""
    store.create(Plan("a"))
    if write == "orm":
        with Session(store.engine) as session:
            session.add(row("b"))
            session.commit()
    elif write == "bulk":
        with store.session() as inside:
            inside.execute(insert(StoredRecord).values(**VALUES))
            assert ["b"] == ids(store, where(Plan.title) == "two")
            inside.commit()
    elif write == "core":
        with store.engine.begin() as connection:
            connection.execute(insert(StoredRecord).values(**VALUES))
    elif write == "text":
        with store.session() as inside:
            statement = "INSERT INTO records VALUES (:collection, :id, :data_json, 0, 0)"
            inside.execute(text(statement), VALUES)
            inside.commit()
    else:
        with store.engine.begin() as connection:
            statement = "INSERT INTO records VALUES ('plans', 'b', ?, 0, 0)"
            connection.exec_driver_sql(statement, (VALUES["data_json"],))
    assert ["a", "b"] == ids(store)
    assert () == store.verify().differences
    store.create(Plan("c"))


def test_a_row_that_is_no_record_is_refused(store: Store) -> None:
    """What no log can carry is refused at the commit, before anything is written."""
    store.create(Plan("a"))
    log = read_log(store.path)
    wrong: list[dict[str, Any]] = [
        {"data_json": "[]"},
        {"data_json": '{"id":"other"}'},
        {"data_json": '{"id":"b","deleted":true}'},
        {"collection": "no name"},
        {"id": " "},
        {"updated_at": "soon"},
    ]
    for values in wrong:
        with pytest.raises(TaskstoreError), store.engine.begin() as connection:
            connection.execute(insert(StoredRecord.__table__).values(**{**VALUES, **values}))
    with pytest.raises(TaskstoreError), store.engine.begin() as connection:
        connection.execute(update(StoredRecord).values(data_json='{"id":"z"}'))
    assert log == read_log(store.path)
    assert ["a"] == ids(store)


def test_a_raw_end_of_a_transaction_is_refused(store: Store) -> None:
    """On the store's own engine, only the session may end a transaction with lines for the log."""
    with (
        pytest.raises(UntrackedWriteError, match="use the commit"),
        store.session() as inside,
    ):
        inside.add(row("b"))
        inside.flush()
        inside.connection().exec_driver_sql("COMMIT")
    assert [] == ids(store)


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


def test_what_sqlalchemy_remembers_of_another_session_is_no_matter(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that SQLAlchemy takes for attached, by an entry that stayed, is attached."""
    monkeypatch.setattr(event, "contains", lambda *_: True)
    with Session(store.engine) as session:
        store.attach(session)
        store.attach(session)
        session.add(StoredRecord(collection="plans", data={"id": "a"}))
        session.commit()
    lines = (store.path / "plans.jsonl").read_text().splitlines()
    assert ["a"] == [json.loads(line)["id"] for line in lines]


@pytest.mark.parametrize("listening", [False, True], ids=["unheard", "heard"])
def test_a_stamp_is_set_like_any_value(store: Store, *, listening: bool) -> None:
    """The flush writes the stamp, listeners hear of it, and a rollback takes it back."""
    heard: list[int] = []
    sent: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *args: sent.append(args[2]))

    def hear(target: Any, value: int, *_: Any) -> None:
        heard.append(value)

    with Session(store.engine, expire_on_commit=False) as session:
        store.attach(session)
        session.add(row("a"))
        session.commit()
        found = session.get_one(StoredRecord, ("plans", "a"))
        first = found.updated_at
        if listening:
            event.listen(StoredRecord.updated_at, "set", hear)
        try:
            found.data_json = found.data_json.replace("active", "done")
            session.flush()
        finally:
            if listening:
                event.remove(StoredRecord.updated_at, "set", hear)
        stamp = found.updated_at
        assert stamp > first
        assert ([stamp] if listening else []) == heard
        assert "updated_at_us=?" in next(one for one in sent if one.startswith("UPDATE"))
        session.rollback()
        assert first == found.updated_at
        found.data_json = found.data_json.replace("active", "done")
        session.commit()
        stored = found.data_json, found.updated_at, found.updated_at_us
        session.refresh(found)
        assert stored == (found.data_json, found.updated_at, found.updated_at_us)
    assert ["active", "done"] == [line["status"] for line in log_lines(store.path)]


def test_a_raw_rollback_that_brings_a_note_back_is_noticed(store: Store) -> None:
    """A note that a raw ROLLBACK TO brings back is not taken for the mark that it takes away."""
    with Session(store.engine) as session:
        store.attach(session)
        session.execute(insert(StoredRecord).values(**VALUES))
        session.execute(text("SAVEPOINT raw"))
        other = {**VALUES, "id": "c", "data_json": '{"id":"c","title":"three"}'}
        session.execute(insert(StoredRecord).values(**other))
        assert session.get(StoredRecord, ("plans", "c")) is not None
        session.execute(text("ROLLBACK TO raw"))
        with pytest.raises(UntrackedWriteError, match="raw ROLLBACK"):
            session.commit()
    assert b"" == read_log(store.path)
    assert [] == ids(store)
