"""Every way to write to a mirrored table, and what becomes of it; see `paths.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, event, insert, text, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from taskstore.models import MirrorProblem, StoredRecord
from tests.mirror.clones import Clone
from tests.mirror.models import Person, Tag, Task, task_tags
from tests.writing.paths import AND_C, MIRRORED, REFUSED, UNDONE
from tests.writing.world import BEFORE

Work = Callable[[Clone], dict[str, str] | None]

ROW = {"id": "c", "name": "three", "updated_at": 1}

PEOPLE: Any = Person.__table__
TAGS: Any = Tag.__table__

PATHS: list[tuple[str, str, Work]] = []


def path(name: str, outcome: str) -> Callable[[Work], Work]:
    """Enter a function into the table."""

    def enter(work: Work) -> Work:
        PATHS.append((name, outcome, work))
        return work

    return enter


def in_session(work: Callable[[Session], Any]) -> Callable[[Clone], None]:
    """Work in an attached session."""

    def run(clone: Clone) -> None:
        with clone.sessions.begin() as session:
            work(session)

    return run


def on_connection(statement: Any, parameters: Any = None) -> Callable[[Clone], None]:
    """Run a statement on the engine."""

    def run(clone: Clone) -> None:
        with clone.engine.begin() as connection:
            connection.execute(statement, parameters)

    return run


@path("add", MIRRORED)
def add(clone: Clone) -> dict[str, str]:
    with clone.sessions.begin() as session:
        session.add(Person(id="c", name="three"))
    return AND_C


@path("change and delete", MIRRORED)
def change(clone: Clone) -> dict[str, str]:
    with clone.sessions.begin() as session:
        session.get_one(Person, "a").name = "changed"
        session.delete(session.get_one(Person, "b"))
    return {"a": "changed"}


@path("an SQL expression", MIRRORED)
def expression(clone: Clone) -> dict[str, str]:
    with clone.sessions.begin() as session:
        session.get_one(Person, "a").name = Person.name + "!"
    return {**BEFORE, "a": "one!"}


@path("changed key", MIRRORED)
def changed_key(clone: Clone) -> dict[str, str]:
    with clone.sessions.begin() as session:
        session.get_one(Person, "a").id = "z"
    return {"b": "two", "z": "one"}


@path("delete and add again", MIRRORED)
def again(clone: Clone) -> dict[str, str]:
    with clone.sessions.begin() as session:
        session.delete(session.get_one(Person, "a"))
        session.flush()
        session.add(Person(id="a", name="new"))
    return {**BEFORE, "a": "new"}


@path("merge", MIRRORED)
def merge(clone: Clone) -> dict[str, str]:
    with clone.sessions.begin() as session:
        session.merge(Person(id="a", name="merged"))
        session.merge(Person(id="c", name="three"))
    return {**AND_C, "a": "merged"}


@path("added and deleted in one transaction", UNDONE)
def born_and_dead(clone: Clone) -> None:
    with clone.sessions.begin() as session:
        person = Person(id="c", name="three")
        session.add(person)
        session.flush()
        session.delete(person)


@path("savepoints, released and rolled back", MIRRORED)
def savepoints(clone: Clone) -> dict[str, str]:
    with clone.sessions.begin() as session:
        with session.begin_nested():
            session.add(Person(id="c", name="three"))
        nested = session.begin_nested()
        session.get_one(Person, "a").name = "lost"
        session.flush()
        nested.rollback()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add(Person(id="d", name="two"))
    return AND_C


@path("rolled back", UNDONE)
def rolled_back(clone: Clone) -> None:
    with clone.sessions() as session:
        session.add(Person(id="c", name="three"))
        session.flush()
        session.rollback()
        session.get_one(Person, "a").name = "lost"
        session.flush()


@path("a session of the store", MIRRORED)
def store_session(clone: Clone) -> dict[str, str]:
    with clone.store.session() as session:
        session.add(Person(id="c", name="three"))
        session.commit()
    return AND_C


@path("a transaction of the store, with a savepoint", MIRRORED)
def store_transaction(clone: Clone) -> dict[str, str]:
    with clone.store.transaction() as session:
        session.add(Person(id="c", name="three"))
        with clone.store.transaction():
            session.get_one(Person, "a").name = "changed"
    return {**AND_C, "a": "changed"}


@path("a scoped session", MIRRORED)
def scoped(clone: Clone) -> dict[str, str]:
    session = scoped_session(sessionmaker(clone.engine))
    clone.store.attach(session)
    session.add(Person(id="c", name="three"))
    session.commit()
    session.remove()
    return AND_C


@path("a cascade of a relationship", MIRRORED)
def cascade(clone: Clone) -> dict[str, str]:
    with clone.sessions.begin() as session:
        session.add(Task(id="t", title="t", owner=Person(id="c", name="three")))
    return AND_C


@path("a row that a listener adds within the flush", MIRRORED)
def listener(clone: Clone) -> dict[str, str]:
    with clone.sessions() as session:

        def more(*_: Any) -> None:
            if not any(getattr(row, "id", "") == "c" for row in session.new):
                session.add(Person(id="c", name="three", updated_at=5))

        event.listen(session, "before_flush", more)
        session.get_one(Person, "a").name = "changed"
        session.flush()
        event.remove(session, "before_flush", more)
        session.commit()
    return {**AND_C, "a": "changed"}


def mirrored(name: str, after: dict[str, str], work: Callable[[Clone], Any]) -> None:
    """Enter a path, with what is there after it."""

    def run(clone: Clone) -> dict[str, str]:
        work(clone)
        return after

    PATHS.append((name, MIRRORED, run))


def on_cursor(*statements: str) -> Callable[[Clone], None]:
    """Run statements on a cursor of the driver, below a transaction of SQLAlchemy's."""

    def run(clone: Clone) -> None:
        with clone.engine.begin() as connection:
            cursor = connection.connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            cursor.close()

    return run


def on_raw_connection(*statements: str) -> Callable[[Clone], None]:
    """Run statements on a connection of the pool, which the driver commits."""

    def run(clone: Clone) -> None:
        connection = clone.engine.raw_connection()
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
        connection.commit()
        connection.close()

    return run


ALL_X = {"a": "x-a", "b": "x-b"}
ONE_X = {**BEFORE, "a": "x"}
NAMED = update(Person).values(name="x-" + Person.id)
INSERT = "INSERT INTO people (id, name, updated_at) VALUES ('c', 'three', 1)"
REPLACE = "INSERT OR REPLACE INTO people (id, name, updated_at) VALUES ('c', 'two', 1)"
MOVE = "UPDATE people SET id = 'z' WHERE id = 'a'"
COPY = "INSERT INTO people (id, name, updated_at) SELECT 'c', 'three', 1 FROM people LIMIT 1"
FROM = (
    "UPDATE people SET name = 'x' FROM (SELECT 'a' AS which) AS some WHERE people.id = some.which"
)
SCRIPT = f"BEGIN; {INSERT}; UPDATE people SET name = 'x' WHERE id = 'a'; COMMIT"

mirrored("ORM-enabled insert", AND_C, in_session(lambda s: s.execute(insert(Person), [ROW])))
mirrored(
    "ORM-enabled insert, returning",
    AND_C,
    in_session(lambda s: s.scalars(insert(Person).returning(Person), [ROW]).one().name),
)
mirrored("ORM-enabled update", ALL_X, in_session(lambda s: s.execute(NAMED)))
mirrored(
    "ORM-enabled update, returning",
    ALL_X,
    in_session(lambda s: s.execute(NAMED.returning(Person.id)).all()),
)
mirrored(
    "ORM-enabled update by primary key",
    ONE_X,
    in_session(lambda s: s.execute(update(Person), [{"id": "a", "name": "x"}])),
)
mirrored("ORM-enabled delete", {}, in_session(lambda s: s.execute(delete(Person))))
mirrored(
    "query update",
    ONE_X,
    in_session(lambda s: s.query(Person).filter_by(id="a").update({"name": "x"})),
)
mirrored("query delete", {}, in_session(lambda s: s.query(Person).delete()))
mirrored(
    "upsert",
    AND_C,
    in_session(lambda s: s.execute(upsert(Person).values(ROW).on_conflict_do_nothing())),
)
mirrored(
    "upsert with update",
    ONE_X,
    in_session(
        lambda s: s.execute(
            upsert(Person)
            .values({**ROW, "id": "a"})
            .on_conflict_do_update(index_elements=["id"], set_={"name": "x"})
        )
    ),
)
mirrored("bulk_save_objects", AND_C, in_session(lambda s: s.bulk_save_objects([Person(**ROW)])))
mirrored(
    "bulk_insert_mappings",
    AND_C,
    in_session(lambda s: s.bulk_insert_mappings(Person.__mapper__, [ROW])),
)
mirrored(
    "bulk_update_mappings",
    ONE_X,
    in_session(lambda s: s.bulk_update_mappings(Person.__mapper__, [{"id": "a", "name": "x"}])),
)
mirrored("text in a session", {}, in_session(lambda s: s.execute(text("DELETE FROM people"))))
mirrored("text on the engine", ONE_X, on_connection(text(FROM)))
mirrored("INSERT ... SELECT", AND_C, on_connection(text(COPY)))
mirrored("REPLACE", {"a": "one", "c": "two"}, on_connection(text(REPLACE)))
mirrored("a changed key by text", {"b": "two", "z": "one"}, on_connection(text(MOVE)))
mirrored("Core insert", AND_C, on_connection(insert(PEOPLE), ROW))
mirrored("Core update", ALL_X, on_connection(NAMED))
mirrored("Core delete", {}, on_connection(delete(PEOPLE)))
mirrored("driver SQL", AND_C, lambda c: on_driver_sql(c, INSERT))
mirrored("a cursor in a transaction", AND_C, on_cursor(INSERT))
mirrored("a cursor on a connection of the pool", AND_C, on_raw_connection(INSERT))
mirrored("a script", {**AND_C, "a": "x"}, lambda c: on_script(c, SCRIPT))


def on_driver_sql(clone: Clone, statement: str) -> None:
    """Run a statement as it is."""
    with clone.engine.begin() as connection:
        connection.exec_driver_sql(statement)


def on_script(clone: Clone, script: str) -> None:
    """Run a script, which commits by itself."""
    connection = clone.engine.raw_connection()
    driver: Any = connection.dbapi_connection
    if hasattr(driver, "run_async"):
        driver.run_async(lambda inner: inner.executescript(script))
    else:
        driver.executescript(script)
    connection.close()


@path("a raw COMMIT in a session", MIRRORED)
def raw_commit(clone: Clone) -> dict[str, str]:
    with clone.sessions() as session:
        session.add(Person(id="c", name="three"))
        session.flush()
        session.connection().exec_driver_sql("COMMIT")
        session.rollback()
    return AND_C


@path("a session that was never attached", MIRRORED)
def unattached(clone: Clone) -> dict[str, str]:
    with Session(clone.engine) as session:
        session.add(Person(**ROW))
        session.commit()
    return AND_C


@path("an association of a session that was never attached", MIRRORED)
def unattached_association(clone: Clone) -> dict[str, str]:
    with clone.sessions.begin() as session:
        session.add_all([Task(id="t", title="t"), Tag(name="x"), Person(**ROW)])
    with Session(clone.engine) as session:
        task = session.get_one(Task, "t")
        task.tags.append(session.get_one(Tag, "x"))
        session.commit()
    with clone.engine.begin() as connection:
        connection.execute(insert(TAGS), {"name": "y"})
        connection.execute(insert(task_tags), {"task_id": "t", "tag_id": "y"})
    assert ['["t","x"]', '["t","y"]'] == sorted(clone.told("task_tags"))
    return AND_C


@path("SQL of a listener within a flush", MIRRORED)
def listener_sql(clone: Clone) -> dict[str, str]:
    with clone.sessions() as session:

        def sneak(session: Session, *_: Any) -> None:
            session.connection().execute(text("DELETE FROM people WHERE id = 'b'"))

        event.listen(session, "after_flush", sneak, insert=True)
        event.listen(session, "before_flush", sneak)
        session.get_one(Person, "a").name = "changed"
        session.commit()
    return {"a": "changed"}


@path("rows that a later listener inserts in bulk", MIRRORED)
def bulk_before_flush(clone: Clone) -> dict[str, str]:
    """A listener that was there after the store's."""
    with clone.sessions() as session:
        event.listen(session, "before_flush", lambda s, *_: s.bulk_insert_mappings(Person, [ROW]))
        session.add(Person(id="d", name="four"))
        session.commit()
    return {**AND_C, "d": "four"}


@path("rows that a later listener updates in bulk", MIRRORED)
def bulk_update_before_flush(clone: Clone) -> dict[str, str]:
    """Another one."""
    change = {"id": "a", "name": "other"}
    with clone.sessions() as session:
        event.listen(
            session, "before_flush", lambda s, *_: s.bulk_update_mappings(Person, [change])
        )
        session.add(Person(id="d", name="four"))
        session.commit()
    return {**BEFORE, "a": "other", "d": "four"}


@path("a trigger of the application", MIRRORED)
def trigger(clone: Clone) -> dict[str, str]:
    """It writes rows that no statement names, also when a stamp is written."""
    with clone.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER more AFTER INSERT ON tags BEGIN "
            "UPDATE people SET name = name || '!' WHERE id = 'a'; END"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER further AFTER UPDATE OF updated_at ON people WHEN NEW.id = 'a' BEGIN "
            "UPDATE people SET name = 'touched' WHERE id = 'b' AND name <> 'touched'; END"
        )
    with clone.sessions.begin() as session:
        session.add(Tag(name="x"))
    return {"a": "one!", "b": "touched"}


@path("AUTOCOMMIT: Core", REFUSED)
def autocommit_core(clone: Clone) -> None:
    with clone.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(insert(PEOPLE).prefix_with("OR IGNORE"), ROW)


@path("AUTOCOMMIT: text", REFUSED)
def autocommit_text(clone: Clone) -> None:
    with clone.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("DELETE FROM people"))


@path("a two-phase transaction", REFUSED)
def two_phase(clone: Clone) -> None:
    with clone.engine.connect() as connection, connection.begin_twophase():
        connection.execute(insert(PEOPLE), ROW)


@path("a record of the collection", REFUSED)
def as_record(clone: Clone) -> None:
    clone.store.create({"id": "c", "name": "three"}, collection="people")


@path("a deletion by the store", REFUSED)
def as_deletion(clone: Clone) -> None:
    clone.store.delete(Person, "a")


@path("a StoredRecord of the collection", REFUSED)
def as_stored_record(clone: Clone) -> None:
    with clone.sessions.begin() as session:
        session.add(StoredRecord(collection="people", data_json='{"id":"c","name":"three"}'))


@path("a problem that nobody found", REFUSED)
def as_problem(clone: Clone) -> None:
    with clone.sessions.begin() as session:
        session.add(MirrorProblem(collection="people", id="a", reason="none", never_logged=False))


@path("AUTOCOMMIT", REFUSED)
def autocommit(clone: Clone) -> None:
    engine = clone.engine.execution_options(isolation_level="AUTOCOMMIT")
    factory = sessionmaker(engine)
    clone.store.attach(factory)
    with factory() as session:
        session.add(Person(**ROW))
        session.commit()
