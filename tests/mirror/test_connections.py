"""Every connection of an application's engine is followed, and carries nothing once it is over."""

from __future__ import annotations

import sqlite3
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, insert, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool, StaticPool

from taskstore import Store, UntrackedWriteError, mirrored
from taskstore._unit.capturing import EngineCapture
from tests.mirror.clones import Clone, cloned
from tests.mirror.models import Person


class Own(DeclarativeBase):
    """An application's base."""


@mirrored("notes")
class Note(Own):
    """A row."""

    __tablename__ = "notes"
    id: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str | None] = mapped_column(unique=True)
    updated_at: Mapped[int] = mapped_column(default=0, server_default="0")


class Other(DeclarativeBase):
    """The base of what is in a second file."""


@mirrored("parts")
class Part(Other):
    """A row of an attached database."""

    __tablename__ = "parts"
    __table_args__ = {"schema": "other"}  # noqa: RUF012
    id: Mapped[str] = mapped_column(primary_key=True)
    updated_at: Mapped[int] = mapped_column(default=0, server_default="0")


NOTES: Any = Note.__table__
ADD = "INSERT INTO notes (id, text) VALUES (:id, :id)"


@contextmanager
def opened(folder: Path, engine: Engine, model: Any = Note, **options: Any) -> Iterator[Store]:
    """A store on an engine."""
    with Store.open(
        folder / ".taskstore", engine=engine, mirrors=[model], migrate=True, **options
    ) as store:
        yield store


def write(target: Any, id: str) -> None:
    """Add a row by a text, on an engine or a connection."""
    if isinstance(target, Engine):
        with target.begin() as connection:
            connection.execute(text(ADD), {"id": id})
        return
    with target.begin():
        target.execute(text(ADD), {"id": id})


def logged(store: Store, collection: str = "notes") -> set[str]:
    """The ids in the log, and a check that the table says the same."""
    assert () == store.verify().differences
    return {row["id"] for row in store.list_tolerant(collection)[0]}


def left(connection: Any) -> list[Any]:
    """What a connection has of its own."""
    return list(connection.execute("SELECT name FROM sqlite_temp_master").fetchall())


def left_names(connection: Connection) -> list[str]:
    """The temporary tables that a connection has."""
    found = "SELECT name FROM sqlite_temp_master WHERE type = 'table'"
    return list(connection.exec_driver_sql(found).scalars())


@pytest.mark.parametrize("pool", [None, NullPool, StaticPool])
def test_each_pool_is_followed(tmp_path: Path, pool: Any) -> None:
    """Whatever hands out the connections, in whichever thread."""
    options = {} if pool is None else {"poolclass": pool}
    engine = create_engine(
        f"sqlite:///{tmp_path / 'app.db'}", connect_args={"check_same_thread": False}, **options
    )
    Own.metadata.create_all(engine)
    with opened(tmp_path, engine) as store:
        write(engine, "a")
        thread = threading.Thread(target=write, args=(engine, "b"))
        thread.start()
        thread.join()
        assert {"a", "b"} == logged(store)
    engine.dispose()


def test_a_database_in_memory_is_followed(tmp_path: Path) -> None:
    """With the one connection that it has."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Own.metadata.create_all(engine)
    with opened(tmp_path, engine) as store:
        write(engine, "a")
        assert {"a"} == logged(store)


def test_connections_from_before_the_store_are_followed(tmp_path: Path) -> None:
    """One that is idle in the pool, and one on which a session goes on."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    Own.metadata.create_all(engine)
    with engine.connect() as connection, Session(connection) as session:
        session.execute(text("SELECT 1"))
        session.commit()
        with opened(tmp_path, engine) as store:
            session.execute(text(ADD), {"id": "a"})
            session.commit()
            assert {"a"} == logged(store)
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///{}/app.db"])
def test_nothing_is_left_on_connections_from_before_the_store(tmp_path: Path, url: str) -> None:
    """Stores that are opened one after the other work while the application keeps a connection."""
    engine = create_engine(url.format(tmp_path))
    Own.metadata.create_all(engine)
    with engine.connect() as connection:
        for id in ("a", "b"):
            with opened(tmp_path, engine) as store:
                write(connection, id)
                assert id in logged(store)
        connection.execute(text(ADD), {"id": "unseen"})
        assert 0 == sum(
            connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()
            for name in left_names(connection)
        )
        connection.rollback()
    with engine.connect() as connection:
        assert [] == left_names(connection)
    engine.dispose()


def test_a_detached_connection_is_left_alone(tmp_path: Path) -> None:
    """The triggers that it keeps refuse nothing once the store is closed."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    Own.metadata.create_all(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()
        with opened(tmp_path, engine), pytest.raises(UntrackedWriteError):
            connection.execute(text(ADD), {"id": "a"})
        connection.rollback()
        assert 1 == connection.execute(text(ADD), {"id": "a"}).rowcount
    engine.dispose()


def test_an_application_that_begins_itself_is_followed(tmp_path: Path) -> None:
    """With listeners that send BEGIN, as SQLAlchemy recommends."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")

    @event.listens_for(engine, "connect")
    def connect(driver: Any, record: Any) -> None:
        driver.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    Own.metadata.create_all(engine)
    with opened(tmp_path, engine) as store:
        with engine.connect() as connection:
            write(connection, "a")
            connection.execute(text(ADD), {"id": "lost"})
            connection.rollback()
            write(connection, "b")
        assert {"a", "b"} == logged(store)
    engine.dispose()


def test_an_attached_database_is_followed(tmp_path: Path) -> None:
    """A table of another file, in the schema that the model names."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")

    @event.listens_for(engine, "connect")
    def connect(driver: Any, record: Any) -> None:
        driver.execute(f"ATTACH '{tmp_path / 'other.db'}' AS other")

    Other.metadata.create_all(engine)
    with opened(tmp_path, engine, Part) as store:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO other.parts (id) VALUES ('p')"))
        assert {"p"} == logged(store, "parts")
    engine.dispose()


def test_a_temporary_table_of_the_same_name_is_not_mirrored(tmp_path: Path) -> None:
    """It hides the mirrored one from the application, which is followed all the same."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    Own.metadata.create_all(engine)
    with opened(tmp_path, engine) as store:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TEMP TABLE notes (id, text)")
            connection.execute(text(ADD), {"id": "temporary"})
            connection.exec_driver_sql("INSERT INTO main.notes (id) VALUES ('a')")
            connection.exec_driver_sql("DROP TABLE temp.notes")
        assert {"a"} == logged(store)
    engine.dispose()


REBUILD = (
    "CREATE TABLE tmp (id VARCHAR PRIMARY KEY, text VARCHAR, updated_at INTEGER DEFAULT 0)",
    "INSERT INTO tmp SELECT * FROM notes",
    "DROP TABLE notes",
    "ALTER TABLE tmp RENAME TO notes",
)


def test_a_table_that_is_rebuilt_is_followed(tmp_path: Path) -> None:
    """What is written to it in the transaction that rebuilds it, and afterwards."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    Own.metadata.create_all(engine)
    with opened(tmp_path, engine) as store:
        write(engine, "a")
        write(engine, "b")
        with engine.begin() as connection:
            connection.exec_driver_sql("BEGIN")
            for statement in REBUILD:
                connection.exec_driver_sql(statement)
            connection.execute(text(ADD), {"id": "c"})
            connection.exec_driver_sql("DELETE FROM notes WHERE id = 'a'")
        assert {"b", "c"} == logged(store)
        write(engine, "d")
        assert {"b", "c", "d"} == logged(store)
    engine.dispose()


def test_a_table_that_another_program_rebuilds_is_followed(tmp_path: Path) -> None:
    """The next transaction looks whether the schema has changed."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    Own.metadata.create_all(engine)
    with opened(tmp_path, engine) as store, engine.connect() as connection:
        write(connection, "a")
        with closing(sqlite3.connect(tmp_path / "app.db")) as foreign:
            for statement in REBUILD:
                foreign.execute(statement)
            foreign.commit()
        write(connection, "b")
        assert {"a", "b"} == logged(store)
    engine.dispose()


@pytest.mark.parametrize("has_records", [False, True])
def test_a_table_that_is_created_is_followed(tmp_path: Path, has_records: bool) -> None:
    """What is written to it in the transaction that creates it; older records come back."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    with opened(tmp_path, engine) as store:
        if has_records:
            Own.metadata.create_all(engine)
            write(engine, "a")
            Own.metadata.drop_all(engine)
        with engine.begin() as connection:
            Own.metadata.create_all(connection)
            connection.execute(text(ADD), {"id": "b"})
        kept = {"a", "b"} if has_records else {"b"}
        assert kept == logged(store)
        store.sync()
        with engine.connect() as connection:
            assert kept == set(connection.scalars(text("SELECT id FROM notes")))
        assert () == store.verify().differences
    engine.dispose()


def test_a_dropped_table_keeps_its_records(tmp_path: Path) -> None:
    """Made anew it is filled from the log when the store opens."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    Own.metadata.create_all(engine)
    with opened(tmp_path, engine):
        write(engine, "a")
        Own.metadata.drop_all(engine)
        Own.metadata.create_all(engine)
    with opened(tmp_path, engine) as store:
        assert {"a"} == logged(store)
    engine.dispose()


def test_nothing_is_left_when_the_store_is_closed(tmp_path: Path) -> None:
    """Neither on idle connections nor on one that is in use, once that is given back."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}", pool_size=2)
    Own.metadata.create_all(engine)
    with opened(tmp_path, engine) as store:
        used, idle = engine.raw_connection(), engine.raw_connection()
        assert left(used)
        idle.close()
        assert "taskstore" not in "".join(
            str(row) for row in used.execute("SELECT sql FROM sqlite_master WHERE name = 'notes'")
        )
        store.close()
    used.execute("INSERT INTO notes (id) VALUES ('unseen')")
    used.commit()
    used.close()
    connections = [engine.raw_connection(), engine.raw_connection()]
    assert [[], []] == [left(one) for one in connections]
    for one in connections:
        one.close()
    engine.dispose()


def test_instances_learn_of_stamps(tmp_path: Path) -> None:
    """A row that a statement has changed has its new version in the session, without a reload."""
    with cloned(tmp_path / "app") as clone:
        sessions = sessionmaker(clone.engine, expire_on_commit=False)
        clone.store.attach(sessions)
        with sessions() as session:
            person = Person(id="p", name="Ada")
            session.add(person)
            session.commit()
            first = person.updated_at
            session.execute(
                update(Person).values(name="Eve").execution_options(synchronize_session=False)
            )
            session.commit()
            assert clone.told("people")["p"]["updated_at"] == person.updated_at > first
            person.name = "Bob"
            session.commit()
        assert "Bob" == clone.told("people")["p"]["name"]


def test_results_are_what_they_were(tmp_path: Path) -> None:
    """RETURNING, row counts and errors of statements, with a store and without."""

    def results(engine: Engine) -> list[Any]:
        with Session(engine) as session:
            found: list[Any] = [
                session.scalars(insert(Note).returning(Note.id), [{"id": "a"}, {"id": "b"}]).all(),
                session.execute(update(NOTES).values(text=NOTES.c.id)).rowcount,  # type: ignore[attr-defined]
                session.query(Note).filter_by(id="a").delete(),
            ]
            try:
                session.execute(insert(NOTES), [{"id": "c", "text": "b"}])
            except Exception as error:  # noqa: BLE001 - whatever it is
                found.append(str(error))
            session.commit()
            return found

    plain = create_engine("sqlite://")
    Own.metadata.create_all(plain)
    followed = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    Own.metadata.create_all(followed)
    with opened(tmp_path, followed):
        assert results(plain) == results(followed)
    followed.dispose()


def test_an_interrupt_costs_no_place_in_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes while a connection is given back: the next one finds a place."""
    engine = create_engine(
        f"sqlite:///{tmp_path / 'app.db'}", pool_size=1, max_overflow=0, pool_timeout=1
    )
    Own.metadata.create_all(engine)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with opened(tmp_path, engine) as store:
        with monkeypatch.context() as patched:
            patched.setattr(EngineCapture, "log_left", interrupted)
            with pytest.raises(KeyboardInterrupt):
                write(engine, "a")
        write(engine, "b")
        assert {"a", "b"} == logged(store)
    engine.dispose()


def test_what_cannot_be_logged_later_is_said(tmp_path: Path) -> None:
    """A row that the driver has committed, and that no line can carry, gives a warning."""
    with cloned(tmp_path / "app") as clone:
        connection = clone.engine.raw_connection()
        connection.cursor().execute("INSERT INTO tags (name) VALUES ('')")
        connection.commit()
        with pytest.warns(RuntimeWarning, match="not in the log"):
            connection.close()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check(clone)


def check(clone: Clone) -> None:
    """The pool goes on."""
    with clone.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM tags")
    assert {} == clone.told("tags")
