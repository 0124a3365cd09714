"""Every way to write to a mirrored table reaches the log, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, event, insert, text, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from taskstore import UntrackedWriteError
from taskstore.models import MirrorProblem, StoredRecord
from tests.mirror.clones import Clone, cloned
from tests.mirror.models import Person, Tag, Task, task_tags

MIRRORED, REFUSED, UNDONE = "mirrored", "refused", "undone"

Work = Callable[[Clone], dict[str, str] | None]

BEFORE = {"a": "one", "b": "two"}
AND_C = {**BEFORE, "c": "three"}
ROW = {"id": "c", "name": "three", "updated_at": 1}

PEOPLE: Any = Person.__table__

PATHS: list[tuple[str, str, Work]] = []


def path(name: str, outcome: str) -> Callable[[Work], Work]:
    """Enter a function into the table."""

    def enter(work: Work) -> Work:
        PATHS.append((name, outcome, work))
        return work

    return enter


def refused(name: str, work: Callable[[Clone], Any]) -> None:
    """Enter a path that is refused."""
    PATHS.append((name, REFUSED, work))


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


refused("ORM-enabled insert", in_session(lambda s: s.execute(insert(Person), [ROW])))
refused("ORM-enabled update", in_session(lambda s: s.execute(update(Person).values(name="x"))))
refused("ORM-enabled delete", in_session(lambda s: s.execute(delete(Person))))
refused("query delete", in_session(lambda s: s.query(Person).delete()))
refused(
    "upsert", in_session(lambda s: s.execute(upsert(Person).values(ROW).on_conflict_do_nothing()))
)
refused("bulk_save_objects", in_session(lambda s: s.bulk_save_objects([Person(**ROW)])))
refused(
    "bulk_insert_mappings", in_session(lambda s: s.bulk_insert_mappings(Person.__mapper__, [ROW]))
)
refused(
    "bulk_update_mappings",
    in_session(lambda s: s.bulk_update_mappings(Person.__mapper__, [{"id": "a", "name": "x"}])),
)
refused("text in a session", in_session(lambda s: s.execute(text("DELETE FROM people"))))
refused("text on the engine", on_connection(text("UPDATE people SET name = 'x'")))
refused("Core insert", on_connection(insert(PEOPLE), ROW))
refused("Core delete", on_connection(delete(PEOPLE)))
refused(
    "Core insert of an association", on_connection(insert(task_tags), {"task_id": 1, "tag_id": 2})
)
refused("DROP TABLE", on_connection(text("DROP TABLE people")))


@path("a session that was never attached", REFUSED)
def unattached(clone: Clone) -> None:
    with Session(clone.engine) as session:
        session.add(Person(**ROW))
        session.commit()


@path("an association of a session that was never attached", REFUSED)
def unattached_association(clone: Clone) -> None:
    with clone.sessions.begin() as session:
        session.add_all([Task(id="t", title="t"), Tag(name="x")])
    with Session(clone.engine) as session:
        task = session.get_one(Task, "t")
        task.tags.append(session.get_one(Tag, "x"))
        session.commit()


@path("SQL of a listener within a flush", REFUSED)
def listener_sql(clone: Clone) -> None:
    with clone.sessions() as session:

        def sneak(session: Session, *_: Any) -> None:
            session.connection().execute(text("DELETE FROM people WHERE id = 'b'"))

        event.listen(session, "after_flush", sneak, insert=True)
        event.listen(session, "before_flush", sneak)
        session.get_one(Person, "a").name = "changed"
        session.commit()


@path("rows that a later listener inserts in bulk", REFUSED)
def bulk_before_flush(clone: Clone) -> None:
    """A listener that was there after the store's."""
    with clone.sessions() as session:
        event.listen(session, "before_flush", lambda s, *_: s.bulk_insert_mappings(Person, [ROW]))
        session.add(Person(id="d", name="four"))
        session.commit()


@path("rows that a later listener updates in bulk", REFUSED)
def bulk_update_before_flush(clone: Clone) -> None:
    """Another one."""
    change = {"id": "a", "name": "other"}
    with clone.sessions() as session:
        event.listen(
            session, "before_flush", lambda s, *_: s.bulk_update_mappings(Person, [change])
        )
        session.add(Person(id="d", name="four"))
        session.commit()


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


@pytest.mark.parametrize(
    ("outcome", "work"),
    [pytest.param(outcome, work, id=f"{name}: {outcome}") for name, outcome, work in PATHS],
)
@pytest.mark.parametrize("foreign_keys", [True, False], ids=["enforced", "not enforced"])
def test_a_write_path(tmp_path: Path, outcome: str, work: Work, *, foreign_keys: bool) -> None:
    """Each path reaches log and table whole, or raises and changes neither."""
    with cloned(tmp_path / "app", foreign_keys=foreign_keys) as clone:
        check_path(clone, outcome, work)


def check_path(clone: Clone, outcome: str, work: Work) -> None:
    """Take one path, and look at what it has left."""
    with clone.sessions.begin() as session:
        session.add_all([Person(id=id, name=name) for id, name in BEFORE.items()])
    log = clone.log("people").read_bytes()
    expected = None
    if outcome == REFUSED:
        with pytest.raises(UntrackedWriteError) as caught:
            work(clone)
        assert caught.value.remedy
    else:
        expected = work(clone)
    assert (expected is None) == (log == clone.log("people").read_bytes())
    names = BEFORE if expected is None else expected
    assert names == {id: row["name"] for id, row in clone.told("people").items()}
    assert names == {row.id: row.name for row in clone.rows(Person)}
    clone.check()
    with clone.sessions.begin() as session:
        session.add(Person(id="after", name="all"))
    clone.check()
