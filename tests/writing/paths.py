"""Every way to write to a tracked table, and what becomes of it.

A path that is mirrored returns the plans that there are afterwards. One that is refused raises
UntrackedWriteError and changes nothing. One that is undone handles its own errors, returns
nothing, and changes nothing.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from sqlalchemy import delete, event, func, insert, literal, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import IntegrityError, InvalidRequestError, PendingRollbackError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from taskstore import UntrackedWriteError, where
from taskstore.models import (
    DEFAULT,
    RecordIndex,
    RecordIndexField,
    StoredRecord,
    SyncMetadata,
    Tombstone,
)
from tests.store.plans import Plan
from tests.writing.world import BEFORE, Note, Project, World, get, retitle, row

MIRRORED, REFUSED, UNDONE, EXCEPTED = "mirrored", "refused", "undone", "excepted"
"""The outcomes. Excepted are cursors of an application's own driver, which nothing can see."""

ASYNCIO = {
    # The driver for asyncio has no such call.
    "driver: executescript": EXCEPTED,
    "driver: the driver's connection": EXCEPTED,
    "executescript over a flush": EXCEPTED,
    # The store's own transactions are on another engine.
    "a session within a transaction of the store": REFUSED,
}
"""The outcomes that are others on an asyncio engine than on one of an application."""

Work = Callable[[World], dict[str, str] | None]

AND_C = {**BEFORE, "c": "three"}
ROW: dict[str, Any] = {
    "collection": "plans",
    "id": "c",
    "data_json": '{"id":"c","title":"three"}',
    "updated_at": 0,
    "updated_at_us": 0,
}
ROW_D = {**ROW, "id": "d", "data_json": '{"id":"d","title":"four"}'}
AND_D = {**AND_C, "d": "four"}
INSERT = """
INSERT INTO records VALUES ('plans', 'c', '{"id":"c","title":"three"}', 0, 0)
"""
records = StoredRecord.__table__


@attrs.frozen
class WritePath:
    """One row of the table.

    Attributes:
        name: The path.
        own: Its outcome on the store's own engine.
        application: Its outcome on the engine of an application.
        work: Does it.
    """

    name: str
    own: str
    application: str
    work: Work

    def outcome(self, kind: str) -> str:
        """Return the outcome on a kind of engine."""
        if kind == "own":
            return self.own
        return ASYNCIO.get(self.name, self.application) if kind == "asyncio" else self.application


PATHS: list[WritePath] = []


def path(name: str, own: str, application: str | None = None) -> Callable[[Work], Work]:
    """Enter a function into the table."""

    def enter(work: Work) -> Work:
        PATHS.append(WritePath(name, own, application or own, work))
        return work

    return enter


def refused(name: str, work: Callable[[World], Any], application: str = REFUSED) -> None:
    """Enter a path that is refused."""
    PATHS.append(WritePath(name, REFUSED, application, work))


def mirrored(
    name: str, work: Callable[[World], Any], plans: dict[str, str], own: str = MIRRORED
) -> None:
    """Enter a path after which there are these plans."""

    def done(world: World) -> dict[str, str]:
        work(world)
        return plans

    PATHS.append(WritePath(name, own, MIRRORED, done))


class DeliberateError(Exception):
    """What listeners raise in the paths."""


def fail(*_: Any) -> None:
    """A listener that refuses."""
    raise DeliberateError


# The unit of work.


@path("add", MIRRORED)
def add(world: World) -> dict[str, str]:
    with world.sessions() as session:
        session.add(row("c", "three"))
        session.commit()
    return AND_C


@path("change", MIRRORED)
def change(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        retitle(session, "a", "changed")
    return {"a": "changed", "b": "two"}


@path("delete", MIRRORED)
def remove(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        session.delete(get(session, "a"))
    return {"b": "two"}


@path("changed key", MIRRORED)
def changed_key(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        get(session, "a").id = "z"
    return {"b": "two", "z": "one"}


@path("delete and add again", MIRRORED)
def replace(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        session.delete(get(session, "a"))
        session.flush()
        session.add(row("a", "new"))
    return {"a": "new", "b": "two"}


@path("cascade of add", MIRRORED)
def cascade_add(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        session.add(Project(name="plans", records=[row("c", "three")]))
    return AND_C


@path("cascade of delete", MIRRORED)
def cascade_delete(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        session.add(Project(name="plans"))
    with world.sessions.begin() as session:
        session.delete(session.get_one(Project, "plans"))
    return {}


@path("several flushes", MIRRORED)
def several_flushes(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        found = row("c", "first")
        session.add(found)
        for title in ("second", "three"):
            session.flush()
            found.data = {**found.data, "title": title}
    return AND_C


@path("autoflush", MIRRORED)
def autoflush(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        session.add(row("c", "three"))
        assert 3 == len(session.scalars(select(StoredRecord)).all())
    return AND_C


@path("merge", MIRRORED)
def merge(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        session.merge(row("a", "merged"))
        session.merge(row("c", "three"))
    return {**AND_C, "a": "merged"}


@path("rows that outlive their commit", MIRRORED)
def not_expired(world: World) -> dict[str, str]:
    with world.sessions(expire_on_commit=False) as session:
        found = get(session, "a")
        for title in ("first", "last"):
            found.data = {**found.data, "title": title}
            session.commit()
    return {"a": "last", "b": "two"}


@path("beside the application's rows", MIRRORED)
def beside(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        session.add_all([Note(id=1, text="note"), row("c", "three"), Note(id=2, text="more")])
    return AND_C


@path("records and rows of another flush that failed", MIRRORED)
def after_failed_flush(world: World) -> dict[str, str]:
    with world.sessions() as session:
        session.add(Note(id=1, text="note"))
        session.commit()
        session.add_all([row("lost"), Note(id=1, text="again")])
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        session.add(Note(id=2, text="this alone"))
        session.commit()
        session.add(row("c", "three"))
        session.commit()
    return AND_C


# Savepoints.


@path("savepoint of the session, released", MIRRORED)
def savepoint(world: World) -> dict[str, str]:
    with world.sessions.begin() as session, session.begin_nested():
        session.add(row("c", "three"))
    return AND_C


@path("savepoint of the session, first thing, released, then all rolled back", UNDONE)
def savepoint_then_rollback(world: World) -> None:
    with world.sessions() as session:
        with session.begin_nested():
            session.add(row("c", "three"))
        session.rollback()


@path("savepoint of the session, rolled back", MIRRORED)
def savepoint_back(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        session.add(row("c", "three"))
        nested = session.begin_nested()
        session.add(row("lost"))
        retitle(session, "a", "lost")
        session.flush()
        nested.rollback()
    return AND_C


@path("failed flush inside a savepoint", MIRRORED)
def savepoint_failed(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        session.add_all([row("c", "three"), Note(id=1, text="note")])
        session.flush()
        session.expunge_all()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add_all([row("lost"), Note(id=1, text="again")])
            session.flush()
    return AND_C


@path("savepoint of the connection, released", MIRRORED)
def connection_savepoint(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        nested = session.connection().begin_nested()
        session.add(row("c", "three"))
        session.flush()
        nested.commit()
    return AND_C


@path("savepoint of the connection, rolled back", MIRRORED)
def connection_savepoint_back(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        session.add(row("c", "three"))
        session.flush()
        nested = session.connection().begin_nested()
        session.add(row("lost"))
        session.flush()
        nested.rollback()
        session.expunge_all()
    return AND_C


# Kinds of sessions.


@path("scoped session", MIRRORED)
def scoped(world: World) -> dict[str, str]:
    session = scoped_session(sessionmaker(world.engine))
    world.store.attach(session)
    session.add(row("c", "three"))
    session.commit()
    session.remove()
    world.store.detach(session)
    return AND_C


@path("one session of its own", MIRRORED)
def one_session(world: World) -> dict[str, str]:
    with Session(world.engine) as session:
        world.store.attach(session)
        session.add(row("c", "three"))
        session.commit()
    return AND_C


@path("a subclass of Session", MIRRORED)
def subclass(world: World) -> dict[str, str]:
    class Hooked(Session):
        pass

    world.store.attach(Hooked)
    with Hooked(world.engine) as session:
        session.add(row("c", "three"))
        session.commit()
    return AND_C


@path("session of the store", MIRRORED)
def store_session(world: World) -> dict[str, str]:
    with world.store.session() as session:
        session.add(row("c", "three"))
        session.commit()
    return AND_C


@path("calls of the store beside rows", MIRRORED)
def store_calls(world: World) -> dict[str, str]:
    with world.store.transaction() as session:
        session.add(row("c", "three"))
        world.store.patch(Plan, "a", title="patched")
        retitle(session, "b", "changed")
    return {"a": "patched", "b": "changed", "c": "three"}


def joined(mode: Any, *, commit: bool) -> None:
    """Enter a session that joins a transaction begun outside."""

    def work(world: World) -> dict[str, str] | None:
        with world.engine.connect() as connection:
            outside = connection.begin()
            with world.sessions(bind=connection, join_transaction_mode=mode) as session:
                session.add(row("c", "three"))
                session.commit()
            if commit and outside.is_active:
                outside.commit()
            elif outside.is_active:
                outside.rollback()
        # This mode alone hands the outside transaction's end to the session.
        return AND_C if commit or mode == "control_fully" else None

    end = "committed" if commit else "rolled back"
    done = MIRRORED if commit or mode == "control_fully" else UNDONE
    PATHS.append(WritePath(f"joined to an outside transaction: {mode}, {end}", done, done, work))


for joining in ("conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"):
    joined(joining, commit=True)
    joined(joining, commit=False)


@path("joined to an outside savepoint, which is rolled back", UNDONE)
def joined_to_savepoint(world: World) -> None:
    with world.engine.connect() as connection, connection.begin():
        nested = connection.begin_nested()
        with world.sessions(bind=connection) as session:
            session.add(row("c", "three"))
            session.commit()
        nested.rollback()


@path("a session within a transaction of the store", MIRRORED)
def nested_session(world: World) -> dict[str, str]:
    with world.store.transaction() as outer:
        joining: Any = {"bind": outer.connection(), "join_transaction_mode": "create_savepoint"}
        with world.sessions(**joining) as session:
            session.add(row("c", "three"))
            session.commit()
        with world.sessions(**joining) as session:
            session.add(row("lost"))
            session.flush()
    return AND_C


@path("a two-phase session", REFUSED)
def two_phase(world: World) -> None:
    with world.sessions(twophase=True) as session:
        session.add(row("c"))
        session.commit()


@path("a two-phase session that is prepared", REFUSED)
def prepared(world: World) -> None:
    with world.sessions(twophase=True) as session:
        session.add(row("c"))
        session.prepare()


@path("prepare without two phases", UNDONE)
def prepare(world: World) -> None:
    with world.sessions() as session:
        session.add(row("c"))
        session.flush()
        with pytest.raises(InvalidRequestError):
            session.prepare()


def on_session(world: World, work: Callable[[Session], Any]) -> None:
    """Work in an attached session, and commit."""
    with world.sessions.begin() as session:
        work(session)


def on_unattached(world: World, work: Callable[[Session], Any]) -> None:
    """Work in a session that was never attached, and commit."""
    with world.unattached() as session:
        work(session)
        session.commit()


def fetched_update(session: Session) -> Any:
    """Update by the ORM, with the rows in the session brought up to date."""
    statement = update(StoredRecord).where(StoredRecord.id == "a").values(updated_at=1)
    return session.execute(statement, execution_options={"synchronize_session": "fetch"})


TOUCH_A = {"collection": "plans", "id": "a", "updated_at": 1}
RENAMED = {
    "id": "z",
    "data_json": func.json_set(records.c.data_json, "$.id", "z"),
}
Bulk = tuple[Callable[[Session], Any], dict[str, str]]
BULK: dict[str, Bulk] = {
    "ORM insert": (lambda s: s.execute(insert(StoredRecord).values(ROW)), AND_C),
    "ORM insert of many": (lambda s: s.execute(insert(StoredRecord), [ROW, ROW_D]), AND_D),
    "ORM insert returning": (
        lambda s: s.scalars(insert(StoredRecord).returning(StoredRecord), [ROW]).all(),
        AND_C,
    ),
    "ORM upsert": (
        lambda s: s.execute(upsert(StoredRecord).values(ROW).on_conflict_do_nothing()),
        AND_C,
    ),
    "ORM update": (lambda s: s.execute(update(StoredRecord).values(updated_at=1)), BEFORE),
    "ORM update, fetched": (fetched_update, BEFORE),
    "ORM update by key": (lambda s: s.execute(update(StoredRecord), [TOUCH_A]), BEFORE),
    "ORM update of a key": (
        lambda s: s.execute(update(StoredRecord).where(StoredRecord.id == "a").values(RENAMED)),
        {"b": "two", "z": "one"},
    ),
    "ORM delete": (lambda s: s.execute(delete(StoredRecord)), {}),
    "Query.update": (lambda s: s.query(StoredRecord).update({"updated_at": 1}), BEFORE),
    "Query.delete": (
        lambda s: s.query(StoredRecord).filter_by(id="a").delete(),
        {"b": "two"},
    ),
    "bulk_save_objects": (lambda s: s.bulk_save_objects([row("c", "three")]), AND_C),
    "bulk_insert_mappings": (lambda s: s.bulk_insert_mappings(StoredRecord, [ROW]), AND_C),
    "bulk_update_mappings": (lambda s: s.bulk_update_mappings(StoredRecord, [TOUCH_A]), BEFORE),
    "table insert": (lambda s: s.execute(records.insert().values(ROW)), AND_C),
    "table delete": (lambda s: s.execute(records.delete()), {}),
    "text": (lambda s: s.execute(text("DELETE FROM records")), {}),
    "statement on the connection": (lambda s: s.connection().execute(records.delete()), {}),
    "add": (lambda s: s.add(row("c", "three")), AND_C),
    "change": (lambda s: retitle(s, "a", "changed"), {"a": "changed", "b": "two"}),
    "delete": (lambda s: s.delete(get(s, "a")), {"b": "two"}),
}
DERIVED: dict[str, Callable[[Session], Any]] = {
    "index row": lambda s: s.add(
        RecordIndex(collection="plans", id="a", field_name="x", field_value_int=1)
    ),
    "index field": lambda s: s.add(
        RecordIndexField(collection="plans", field_name="x", field_type="int")
    ),
    "tombstone": lambda s: s.add(
        Tombstone(collection="plans", id="c", updated_at=1, updated_at_us=1000)
    ),
    "fingerprint": lambda s: s.delete(s.get_one(SyncMetadata, "plans")),
    "index rows in bulk": lambda s: s.execute(delete(RecordIndex)),
}
for bulk_name, (bulk, plans) in BULK.items():
    if bulk_name not in ("add", "change", "delete"):
        mirrored(f"attached session: {bulk_name}", lambda w, do=bulk: on_session(w, do), plans)  # type: ignore[misc]
    mirrored(
        f"session never attached: {bulk_name}",
        lambda w, do=bulk: on_unattached(w, do),  # type: ignore[misc]
        plans,
    )
for derived_name, derived in DERIVED.items():
    refused(f"attached session: {derived_name}", lambda w, do=derived: on_session(w, do))  # type: ignore[misc]
    refused(f"session never attached: {derived_name}", lambda w, do=derived: on_unattached(w, do))  # type: ignore[misc]


@path("session never attached, within a transaction of the store", MIRRORED)
def unattached_within(world: World) -> dict[str, str]:
    with world.store.transaction() as outer, Session(outer.connection()) as session:
        session.add(row("c"))
        session.commit()
    return {**BEFORE, "c": ""}


@path("session never attached, after an attached one on the same connection", MIRRORED)
def unattached_beside(world: World) -> dict[str, str]:
    with world.engine.connect() as connection, connection.begin():
        with world.sessions(bind=connection) as session:
            session.add(row("d"))
            session.commit()
        with Session(connection) as session:
            session.add(row("c"))
            session.commit()
    return {**BEFORE, "c": "", "d": ""}


# Listeners.


@path("a row that a later listener adds to the flush", MIRRORED)
def late_row(world: World) -> dict[str, str]:
    with world.sessions() as session:
        event.listen(session, "before_flush", lambda s, *_: s.add(StoredRecord(**ROW)))
        session.add(row("d"))
        session.commit()
    return {**AND_C, "d": ""}


@path("a row that a later listener changes in the flush", MIRRORED)
def late_change(world: World) -> dict[str, str]:
    with world.sessions() as session:
        found = row("c", "three")
        event.listen(
            session,
            "before_flush",
            lambda *_: setattr(found, "data_json", '{"id":"c","title":"other"}'),
        )
        session.add(found)
        session.commit()
    return {**BEFORE, "c": "other"}


@path("a row that a later listener deletes in the flush", MIRRORED)
def late_delete(world: World) -> dict[str, str]:
    with world.sessions() as session:
        event.listen(session, "before_flush", lambda s, *_: s.delete(get(s, "a")))
        session.add(row("c"))
        session.commit()
    return {"b": "two", "c": ""}


@path("SQL that a listener sends during the flush", MIRRORED)
def sql_in_flush(world: World) -> dict[str, str]:
    def send(mapper: Any, connection: Any, target: Any) -> None:
        connection.execute(insert(StoredRecord.__table__).values(ROW))

    event.listen(Note, "before_insert", send)
    try:
        with world.sessions.begin() as session:
            session.add_all([row("d"), Note(id=1, text="note")])
    finally:
        event.remove(Note, "before_insert", send)
    return {**AND_C, "d": ""}


@path("SQL that a listener sends after the flush", MIRRORED)
def sql_after_flush(world: World) -> dict[str, str]:
    with world.sessions() as session:
        event.listen(session, "after_flush", lambda s, _: s.connection().execute(records.delete()))
        session.add(row("c"))
        session.commit()
    return {}


@path("rows that a later listener inserts in bulk", MIRRORED)
def bulk_before_flush(world: World) -> dict[str, str]:
    with world.sessions() as session:
        event.listen(
            session, "before_flush", lambda s, *_: s.bulk_insert_mappings(StoredRecord, [ROW])
        )
        session.add(row("d"))
        session.commit()
    return {**AND_C, "d": ""}


@path("rows that an earlier listener saves in bulk after the flush", MIRRORED)
def bulk_after_flush(world: World) -> dict[str, str]:
    with Session(world.engine) as session:
        event.listen(
            session, "after_flush", lambda s, _: s.bulk_save_objects([StoredRecord(**ROW)])
        )
        world.store.attach(session)
        session.add(row("d"))
        session.commit()
    return {**AND_C, "d": ""}


def raising(owner: str, name: str) -> None:
    """Enter a listener that raises on the way to the commit."""

    def work(world: World) -> None:
        with world.sessions() as session:
            target: Any = session if owner == "session" else world.engine
            event.listen(target, name, fail)
            session.add(row("c"))
            with pytest.raises(DeliberateError):
                session.commit()
            event.remove(target, name, fail)

    PATHS.append(WritePath(f"a listener that raises: {owner} {name}", UNDONE, UNDONE, work))


raising("session", "before_commit")
raising("session", "before_flush")
raising("session", "after_flush")
raising("session", "after_flush_postexec")
raising("engine", "commit")


@path("a listener that raises after the commit", MIRRORED)
def raising_after(world: World) -> dict[str, str]:
    with world.sessions() as session:
        event.listen(session, "after_commit", fail)
        session.add(row("c", "three"))
        with pytest.raises(DeliberateError):
            session.commit()
    return AND_C


# Ends without a commit.


@path("close without commit", UNDONE)
def close(world: World) -> None:
    session = world.sessions()
    session.add(row("c"))
    session.flush()
    session.close()


@path("rollback", UNDONE)
def rollback(world: World) -> None:
    with world.sessions() as session:
        session.add(row("c"))
        session.flush()
        session.rollback()
        session.commit()


@path("a session that is garbage", UNDONE)
def garbage(world: World) -> None:
    session = world.sessions()
    session.add(row("c"))
    session.flush()
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None


@path("an engine's connection that is garbage", UNDONE)
def garbage_connection(world: World) -> None:
    connection = world.engine.connect()
    session = world.sessions(bind=connection)
    session.add(row("c"))
    session.flush()
    del session, connection
    gc.collect()


@path("an invalidated connection", UNDONE)
def invalidated(world: World) -> None:
    with world.sessions() as session:
        session.add(row("c"))
        session.flush()
        session.connection().invalidate()
        with pytest.raises(PendingRollbackError):
            session.commit()


@path("an invalidated session", UNDONE)
def invalidated_session(world: World) -> None:
    session = world.sessions()
    session.add(row("c"))
    session.flush()
    session.invalidate()
    session.commit()


@path("a detached connection", MIRRORED)
def detached(world: World) -> dict[str, str]:
    with world.sessions() as session:
        session.connection().detach()
        session.add(row("c", "three"))
        session.commit()
    return AND_C


# Core.


def on_connection(world: World, statement: Any) -> None:
    """Execute on a connection that begins by itself."""
    with world.engine.connect() as connection:
        connection.execute(statement)
        connection.commit()


def on_begun(world: World, statement: Any) -> None:
    """Execute in a transaction."""
    with world.engine.begin() as connection:
        connection.execute(statement)


COPIED = select(
    records.c.collection,
    literal("c"),
    func.json_set(records.c.data_json, "$.id", "c", "$.title", "three"),
    literal(0),
    literal(0),
).where(records.c.id == "a")
CORE: dict[str, tuple[Any, dict[str, str]]] = {
    "insert": (insert(StoredRecord).values(ROW), AND_C),
    "insert from select": (records.insert().from_select(list(ROW), COPIED), AND_C),
    "upsert": (upsert(StoredRecord).values(ROW).on_conflict_do_nothing(), AND_C),
    "upsert with update": (
        upsert(StoredRecord)
        .values({**ROW, "id": "a"})
        .on_conflict_do_update(index_elements=["collection", "id"], set_={"updated_at": 1}),
        BEFORE,
    ),
    "update": (update(StoredRecord).values(updated_at=1), BEFORE),
    "update of a key": (
        update(StoredRecord).where(records.c.id == "a").values(RENAMED),
        {"b": "two", "z": "one"},
    ),
    "update of a key that another row has": (
        text(
            "UPDATE OR REPLACE records SET id = 'b', data_json = json_set(data_json, '$.id', 'b') "
            "WHERE id = 'a'"
        ),
        {"b": "one"},
    ),
    "delete": (delete(StoredRecord), {}),
    "delete returning": (delete(StoredRecord).returning(StoredRecord.id), {}),
    "text": (text("/* a note */ DELETE -- and so on\n FROM main.records"), {}),
    "text, replace": (
        text(
            'REPLACE INTO "Records" SELECT collection, id, '
            "json_set(data_json, '$.title', 'new'), updated_at, updated_at_us FROM records"
        ),
        {"a": "new", "b": "new"},
    ),
    "text, with": (
        text("WITH x AS (SELECT 1) UPDATE OR IGNORE [records] SET updated_at = 1"),
        BEFORE,
    ),
}
CORE_DERIVED: dict[str, Any] = {
    "index rows": delete(RecordIndex),
    "index fields": delete(RecordIndexField),
    "tombstones": insert(Tombstone).values(
        collection="plans", id="c", updated_at=1, updated_at_us=1
    ),
    "fingerprints": update(SyncMetadata).values(size=0),
    "the version": text("DELETE FROM taskstore_version"),
}
DDL = {
    "drop a table": "DROP TABLE IF EXISTS record_indexes",
    "drop an index": "DROP INDEX ix_records_order",
    "alter": "ALTER TABLE records ADD COLUMN mine TEXT",
    "rename": "ALTER TABLE records RENAME TO mine",
    "make a trigger": "CREATE TRIGGER mine AFTER INSERT ON records BEGIN DELETE FROM notes; END",
}
for core_name, (core, plans) in CORE.items():
    mirrored(f"Core: {core_name}", lambda w, do=core: on_connection(w, do), plans)  # type: ignore[misc]
    mirrored(f"Core in a transaction: {core_name}", lambda w, do=core: on_begun(w, do), plans)  # type: ignore[misc]
for core_name, core in CORE_DERIVED.items():
    refused(f"Core: {core_name}", lambda w, do=core: on_connection(w, do))  # type: ignore[misc]
    refused(f"Core in a transaction: {core_name}", lambda w, do=core: on_begun(w, do))  # type: ignore[misc]
for core_name, core in DDL.items():
    refused(f"Core: {core_name}", lambda w, do=core: on_connection(w, text(do)), EXCEPTED)  # type: ignore[misc]


@path("a row that is replaced by itself", UNDONE)
def same_again(world: World) -> None:
    on_begun(world, text("REPLACE INTO records SELECT * FROM records"))
    assert ["a"] == [plan.id for plan in world.store.list(Plan, where(Plan.title) == "one")]


@path("Core: drop_all", REFUSED, EXCEPTED)
def drop_all(world: World) -> None:
    DEFAULT.metadata.drop_all(world.engine)


@path("Core: many rows", MIRRORED)
def core_many(world: World) -> dict[str, str]:
    with world.engine.begin() as connection:
        connection.execute(records.insert(), [ROW, ROW_D])
    return AND_D


@path("Core beside a mirrored flush", MIRRORED)
def core_beside(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        session.add(row("c"))
        session.flush()
        session.connection().execute(records.delete())
    return {}


@path("Core: driver SQL", MIRRORED)
def driver_sql(world: World) -> dict[str, str]:
    with world.engine.begin() as connection:
        connection.exec_driver_sql(INSERT)
    return AND_C


@path("the cache attached under another name", REFUSED, EXCEPTED)
def attached_file(world: World) -> None:
    with world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"ATTACH '{world.database}' AS other")
        try:
            connection.exec_driver_sql("DELETE FROM other.records")
        finally:
            connection.exec_driver_sql("DETACH other")


# AUTOCOMMIT.


@path("AUTOCOMMIT of the engine: Core", REFUSED)
def autocommit_engine(world: World) -> None:
    with world.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(records.delete())


@path("AUTOCOMMIT of the connection: Core", REFUSED)
def autocommit_connection(world: World) -> None:
    with world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(records.delete())


@path("AUTOCOMMIT of the engine: unit of work", REFUSED)
def autocommit_session(world: World) -> None:
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    with world.sessions(bind=engine) as session:
        session.add(row("c"))
        session.commit()


@path("AUTOCOMMIT of the session's connection: unit of work", REFUSED)
def autocommit_in_session(world: World) -> None:
    with world.sessions() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        session.add(row("c"))
        session.commit()


@path("a session after AUTOCOMMIT on the same connection", MIRRORED)
def after_autocommit(world: World) -> dict[str, str]:
    with world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(insert(Note).values(id=1, text="note"))
    with world.sessions.begin() as session:
        session.add(row("c", "three"))
    return AND_C


# Below SQLAlchemy.


def raw(world: World, work: Callable[[Any], Any]) -> None:
    """Work with a cursor of the driver."""
    connection = world.engine.raw_connection()
    try:
        work(connection.cursor())
        connection.commit()
    finally:
        connection.close()


def raw_blob(cursor: Any) -> None:
    """Write through a blob handle."""
    cursor.connection.blobopen("records", "data_json", 1)


RAW: dict[str, tuple[Callable[[Any], Any], dict[str, str]]] = {
    "execute": (lambda c: c.execute(INSERT), AND_C),
    "executemany": (
        lambda c: c.executemany("DELETE FROM records WHERE id = ?", [("a",), ("b",)]),
        {},
    ),
    "executescript": (lambda c: c.executescript(f"BEGIN; {INSERT}; COMMIT"), AND_C),
    "the driver's connection": (lambda c: c.connection.execute(INSERT), AND_C),
}
for raw_name, (raw_work, plans) in RAW.items():
    mirrored(f"driver: {raw_name}", lambda w, do=raw_work: raw(w, do), plans)  # type: ignore[misc]
refused("driver: blobopen", lambda w: raw(w, raw_blob), EXCEPTED)
refused(
    "driver: writable schema",
    lambda w: raw(w, lambda c: c.execute("PRAGMA writable_schema = ON")),
    EXCEPTED,
)


def with_pending(world: World, work: Callable[[Session], Any]) -> None:
    """Do something in a session whose changes wait for the commit."""
    with world.sessions() as session:
        session.add(row("c", "three"))
        session.flush()
        work(session)
        session.rollback()


def with_call_pending(world: World, work: Callable[[Session], Any]) -> None:
    """Do something in a transaction in which the store has written."""
    with world.store.session() as session:
        world.store.create(Plan("c", "three"))
        work(session)
        session.rollback()


def execute(statement: str) -> Callable[[Session], Any]:
    """Return what executes a statement below the ORM."""
    return lambda session: session.connection().exec_driver_sql(statement)


def execute_below(statement: str) -> Callable[[Session], Any]:
    """Return what executes a statement with the driver's cursor."""
    return lambda session: session.connection().connection.cursor().execute(statement)


STEERING: dict[str, Callable[[Session], Any]] = {
    "raw COMMIT": execute("COMMIT"),
    "raw END": execute("END"),
    "raw COMMIT of the driver": execute_below("COMMIT"),
    "commit of the driver": lambda s: s.connection().connection.commit(),
    "executescript": lambda s: s.connection().connection.cursor().executescript("SELECT 1"),
}
for steering_name, steering in STEERING.items():
    mirrored(
        f"{steering_name} over a flush",
        lambda w, do=steering: with_pending(w, do),  # type: ignore[misc]
        AND_C,
        own=REFUSED,
    )
    mirrored(
        f"{steering_name} over a call of the store",
        lambda w, do=steering: with_call_pending(w, do),  # type: ignore[misc]
        AND_C,
        own=REFUSED,
    )
for steering_sql in ("BEGIN", "SAVEPOINT x", "RELEASE x"):
    refused(
        f"raw {steering_sql} over a flush",
        lambda w, do=steering_sql: with_pending(w, execute(do)),  # type: ignore[misc]
        EXCEPTED,
    )


def steered(name: str, *statements: str) -> None:
    """Enter raw statements around a flush, which the session commits."""

    def work(world: World) -> None:
        with world.sessions() as session:
            driver = session.connection().connection.cursor()
            driver.execute("BEGIN") if not in_transaction(session) else None
            driver.execute("SAVEPOINT mine")
            session.add(row("c", "three"))
            session.flush()
            for statement in statements:
                driver.execute(statement)
            session.commit()

    refused(name, work)


steered("raw ROLLBACK TO a savepoint over a flush, then commit", "ROLLBACK TO mine")
steered("raw ROLLBACK over a flush, then commit", "ROLLBACK")


@path("a bulk insert, collected in a savepoint that is rolled back", MIRRORED)
def collected_in_savepoint(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        session.execute(insert(StoredRecord).values(ROW))
        nested = session.begin_nested()
        assert 3 == len(session.scalars(select(StoredRecord)).all())
        nested.rollback()
    return AND_C


@path("raw ROLLBACK over a flush", REFUSED, UNDONE)
def raw_rollback(world: World) -> None:
    with_pending(world, execute_below("ROLLBACK"))


def in_transaction(session: Session) -> bool:
    """Whether the driver has begun."""
    driver: Any = session.connection().connection.driver_connection
    return bool(driver.in_transaction)


@path("raw COMMIT before the flush, then rollback", UNDONE)
def raw_commit_before(world: World) -> None:
    for session in (world.sessions(), world.store.session()):
        with session as begun:
            begun.connection().exec_driver_sql("SELECT 1")
            if in_transaction(begun):
                begun.connection().exec_driver_sql("COMMIT")
            begun.add(row("c"))
            begun.flush()
            begun.rollback()


@path("a call of the store after a raw COMMIT, then rollback", UNDONE)
def raw_commit_before_call(world: World) -> None:
    with world.store.session() as session:
        session.connection().exec_driver_sql("COMMIT")
        world.store.create(Plan("c"))
        session.rollback()


@path("a flush between a raw BEGIN and the session's commit", MIRRORED)
def raw_begin(world: World) -> dict[str, str]:
    with world.sessions() as session:
        if not in_transaction(session):
            session.connection().exec_driver_sql("BEGIN")
        session.add(row("c", "three"))
        session.commit()
    return AND_C


@path("a refusal, after which the session goes on", MIRRORED)
def goes_on(world: World) -> dict[str, str]:
    with world.sessions.begin() as session:
        session.add(row("c", "three"))
        with pytest.raises(UntrackedWriteError):
            session.execute(delete(RecordIndex))
    return AND_C


@path("reading derived tables", UNDONE)
def reading(world: World) -> None:
    with world.sessions() as session:
        for model in (RecordIndex, RecordIndexField, SyncMetadata, StoredRecord):
            assert session.scalars(select(model)).all()
        assert [] == session.scalars(select(Tombstone)).all()
        assert session.scalars(text("SELECT count(*) FROM records -- DELETE FROM records")).all()
        session.commit()
