"""What sessions flush to mirrored models is in the log when they commit."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, Table, delete, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    attributes,
    mapped_column,
    relationship,
    sessionmaker,
)
from sqlalchemy.orm.exc import StaleDataError

from taskstore import StaleRecordError, mirrored
from tests.mirror.clones import Clone, cloned
from tests.mirror.models import (
    Circle,
    Color,
    Figure,
    Hint,
    Note,
    Person,
    Size,
    Square,
    Step,
    Tag,
    Task,
    Thing,
)

EVERYTHING: dict[str, Any] = {
    "uid": uuid.UUID(int=7),
    "flag": True,
    "count": 2**63 - 1,
    "weight": 0.1,
    "text": 'quote " newline \n emoji \U0001f600',
    "price": decimal.Decimal("12345678.90"),
    "day": datetime.date(2024, 2, 29),
    "time": datetime.time(23, 59, 58, 123456),
    "moment": datetime.datetime(2024, 2, 29, 1, 2, 3, 456789),
    "zoned": datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=datetime.UTC),
    "span": datetime.timedelta(days=2, seconds=3, microseconds=4),
    "other": uuid.UUID(int=8),
    "color": Color.BLUE,
    "size": Size.LARGE,
    "data": {"a": [1, None, {"b": "c"}]},
    "blob": b"\x00\xff",
    "words": ("two", "words"),
}


def test_a_row_becomes_a_line(one: Clone) -> None:
    """Add, change and delete are lines of the collection, stamped in the form of the column."""
    with one.sessions.begin() as session:
        session.add(Task(id="a", title="first", labels=["x"]))
    with one.sessions.begin() as session:
        session.get_one(Task, "a").title = "second"
    with one.sessions.begin() as session:
        session.delete(session.get_one(Task, "a"))
    added, changed, deleted = one.lines("tasks")
    assert {"id", "title", "labels", "state", "owner_id", "updated_at"} == set(added)
    assert ("first", ["x"], "new", None) == (
        added["title"],
        added["labels"],
        added["state"],
        added["owner_id"],
    )
    assert "second" == changed["title"]
    assert True is deleted["deleted"]
    assert added["updated_at"] < changed["updated_at"] < deleted["updated_at"]
    assert added["updated_at"].endswith("Z")
    one.check()


def test_each_row_of_a_statement_follows_its_own_line(one: Clone) -> None:
    """Rows that get one version, or are deleted together, are newer than what each of them was."""
    past, future = datetime.datetime(2020, 1, 1), datetime.datetime(2090, 1, 1)
    with one.sessions.begin() as session:
        session.add(Task(id="now", title="first"))
        session.flush()
        session.add(Task(id="past", title="first", updated_at=past))
        session.flush()
        session.add(Task(id="future", title="first", updated_at=future))
    with one.sessions.begin() as session:
        session.execute(
            text(
                "UPDATE tasks SET title = 'second', updated_at = '2050-01-01 00:00:00.000000' "
                "WHERE id <> 'now'"
            )
        )
    *_, kept, stamped = one.lines("tasks")
    assert ("past", "2050-01-01T00:00:00.000Z") == (kept["id"], kept["updated_at"])
    assert ("future", "2090-01-01T00:00:00.001Z") == (stamped["id"], stamped["updated_at"])
    with one.sessions.begin() as session:
        session.execute(text("DELETE FROM tasks"))
    tombstones = {line["id"]: line["updated_at"] for line in one.lines("tasks")[-3:]}
    assert tombstones["now"] < "2050"
    assert "2050-01-01T00:00:00.001Z" == tombstones["past"]
    assert "2090-01-01T00:00:00.002Z" == tombstones["future"]
    one.check()


def test_every_type_of_column_travels(one: Clone, two: Clone) -> None:
    """A value of each type is in the line as JSON, and the same in another clone."""
    with one.sessions.begin() as session:
        session.add(Thing(**EVERYTHING))
        session.add(Thing(uid=uuid.UUID(int=9)))
    two.take(one)
    assert [] == two.store.sync().problems
    found = {thing.uid: thing for thing in two.rows(Thing)}
    assert EVERYTHING == {name: getattr(found[uuid.UUID(int=7)], name) for name in EVERYTHING}
    empty = found[uuid.UUID(int=9)]
    assert {None} == {getattr(empty, name) for name in EVERYTHING if name != "uid"}
    assert one.dump() == two.dump()
    line = one.told("things")[str(uuid.UUID(int=7))]
    assert "number" not in line
    assert ("BLUE", "l", "12345678.90", "AP8=") == (
        line["color"],
        line["size"],
        line["price"],
        line["blob"],
    )


def test_reading_and_writing_back_appends_nothing(one: Clone) -> None:
    """A flush that changes nothing in the line, or only excluded attributes, appends nothing."""
    with one.sessions.begin() as session:
        session.add(Task(id="a", title="t", labels=["x"]))
    before = one.log("tasks").read_bytes()
    with one.sessions.begin() as session:
        task = session.get_one(Task, "a")
        task.title, task.labels = "t", ["x"]
        task.opened = 7
    assert before == one.log("tasks").read_bytes()
    one.check()


def test_unknown_keys_and_unchanged_bytes_stay(one: Clone) -> None:
    """A line keeps what the model does not know, and the spelling of what was not changed."""
    one.append("people", '{"id":"p","future":{"x" : 1},"name":"\\u0041da","updated_at":5}\n')
    one.store.sync()
    with one.sessions.begin() as session:
        session.get_one(Person, "p").chief_id = "p"
    last = one.log("people").read_text(encoding="utf-8").splitlines()[-1]
    assert last.startswith('{"id":"p","future":{"x" : 1},"name":"\\u0041da",')
    assert "favourite_id" not in json.loads(last)


def test_composite_keys_and_versions_of_the_application(one: Clone) -> None:
    """A composite key is a JSON array; a StaleDataError leaves nothing in the log."""
    with one.sessions.begin() as session:
        session.add(Task(id="a", title="t", steps=[Step(number=1), Step(number=2)]))
    assert ['["a",1]', '["a",2]'] == sorted(one.told("steps"))
    before = one.log("steps").read_bytes()
    with one.sessions() as session, pytest.raises(StaleDataError):
        step = session.get_one(Step, ("a", 1))
        session.expunge(step)
        step.text = "never"
        attributes.set_committed_value(step, "revision", 7)
        session.add(step)
        session.commit()
    assert before == one.log("steps").read_bytes()
    one.check()


def test_a_stale_row_is_refused(one: Clone) -> None:
    """A row that was changed since it was loaded raises what SQLAlchemy does, with the facts."""
    with one.sessions.begin() as session:
        session.add(Person(id="p", name="Ada"))
    with one.sessions(expire_on_commit=False) as session:
        person = session.get_one(Person, "p")
        session.commit()
        with one.sessions.begin() as other:
            other.get_one(Person, "p").name = "Bob"
        person.name = "Eve"
        with pytest.raises(StaleRecordError) as caught:
            session.commit()
        assert isinstance(caught.value, StaleDataError)
        assert (caught.value.collection, caught.value.id) == ("people", "p")
    assert "Bob" == one.told("people")["p"]["name"]
    one.check()


def test_what_is_rolled_back_is_not_logged(one: Clone) -> None:
    """Savepoints and transactions that are rolled back leave no line, and no stamp."""
    person = Person(id="p", name="Ada")
    with one.sessions() as session:
        session.add(person)
        session.flush()
        session.rollback()
    assert None is vars(person).get("updated_at")
    with one.sessions.begin() as session:
        session.add(Person(id="q", name="Bob"))
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add(Person(id="r", name="Bob"))
    assert ["q"] == list(one.told("people"))
    one.check()


def test_inheritance_travels(one: Clone, two: Clone) -> None:
    """Single-table and joined subclasses are lines of their base's collection."""
    with one.sessions.begin() as session:
        session.add_all([Figure(id="f"), Circle(id="c", radius=1.5), Square(id="s", side=3)])
    assert {"f": "figure", "c": "circle", "s": "square"} == {
        id: line["kind"] for id, line in one.told("shapes").items()
    }
    two.take(one)
    assert [] == two.store.sync().problems
    assert one.dump() == two.dump()
    with two.sessions.begin() as session:
        session.get_one(Square, "s").side = 4
        session.delete(session.get_one(Figure, "c"))
    one.take(two)
    assert [] == one.store.sync().problems
    assert one.dump() == two.dump()
    assert [("f", Figure), ("s", Square)] == [(row.id, type(row)) for row in one.rows(Figure)]
    one.check()


def test_association_rows_travel(one: Clone, two: Clone) -> None:
    """Rows of a many-to-many table are a collection of their own."""
    with one.sessions.begin() as session:
        task = Task(id="a", title="t", tags=[Tag(name="x"), Tag(name="y")])
        session.add(task)
    assert ['["a","x"]', '["a","y"]'] == sorted(one.told("task_tags"))
    with one.sessions.begin() as session:
        task = session.get_one(Task, "a")
        task.tags = [tag for tag in task.tags if tag.name == "y"]
    assert ['["a","y"]'] == list(one.told("task_tags"))
    two.take(one)
    assert [] == two.store.sync().problems
    assert one.dump() == two.dump()
    with one.sessions.begin() as session:
        session.delete(session.get_one(Task, "a"))
    assert {} == one.told("task_tags")
    two.take(one)
    assert [] == two.store.sync().problems
    assert one.dump() == two.dump()
    two.check()


def test_what_the_database_does_by_itself_is_logged(one: Clone, two: Clone) -> None:
    """ON DELETE CASCADE gives tombstones, and SET NULL new lines, to any depth."""
    with one.sessions.begin() as session:
        session.add(Task(id="a", title="t", steps=[Step(number=1), Step(number=2)]))
        session.flush()
        session.add(Hint(id=uuid.UUID(int=1), task_id="a", number=1))
    two.take(one)
    two.store.sync()
    with one.sessions.begin() as session:
        session.delete(session.get_one(Task, "a"))
    assert {} == one.told("steps")
    hint = one.told("hints")[str(uuid.UUID(int=1))]
    assert (None, None) == (hint["task_id"], hint["number"])
    one.check()
    two.take(one)
    assert [] == two.store.sync().problems
    assert one.dump() == two.dump()


def test_a_changed_key_is_a_deletion_and_a_new_record(one: Clone) -> None:
    """So are the keys that the database changes along with it."""
    with one.sessions.begin() as session:
        session.add(Task(id="a", title="t", steps=[Step(number=1)]))
    with one.sessions.begin() as session:
        session.get_one(Task, "a").id = "b"
    assert ["b"] == list(one.told("tasks"))
    assert ['["b",1]'] == list(one.told("steps"))
    one.check()


def test_defaults_of_the_database_are_read_back(one: Clone) -> None:
    """Server defaults, Python defaults and triggers are in the line."""
    driver = one.engine.raw_connection()
    driver.cursor().execute(
        "CREATE TRIGGER polite AFTER INSERT ON people BEGIN "
        "UPDATE people SET name = name || '!' WHERE id = NEW.id; END"
    )
    driver.close()
    with one.sessions.begin() as session:
        session.add(Person(id="p", name="Ada"))
        session.add(Hint())
    assert "Ada!" == one.told("people")["p"]["name"]
    [id] = one.told("hints")
    assert uuid.UUID(id)
    one.check()


def test_circles_within_a_flush(one: Clone, two: Clone) -> None:
    """Rows that refer to each other travel in both directions."""
    with one.sessions.begin() as session:
        ada = Person(id="ada", name="Ada")
        ada.chief_id = "ada"
        ada.favourite = Task(id="a", title="t", owner=ada)
        session.add(ada)
    one.check()
    two.take(one)
    assert [] == two.store.sync().problems
    assert one.dump() == two.dump()


def test_rows_of_others_are_left_alone(one: Clone) -> None:
    """Classes that are not mirrored need no transaction of ours, not even a parent's delete."""
    engine = one.engine.execution_options(isolation_level="AUTOCOMMIT")
    factory = sessionmaker(engine)
    one.store.attach(factory)
    with factory() as session:
        session.add(Note(id=1, task_id="a"))
        with pytest.raises(IntegrityError):
            session.commit()
    one.check()


def test_a_deleted_parent_that_is_not_mirrored(tmp_path: Path) -> None:
    """What goes with a row of a table that is not mirrored gets its tombstone, too."""

    class Own(DeclarativeBase):
        pass

    class Folder(Own):
        __tablename__ = "folders"
        name: Mapped[str] = mapped_column(primary_key=True)

    class Shelf(Own):
        __tablename__ = "shelves"
        id: Mapped[str] = mapped_column(primary_key=True)
        folder: Mapped[str] = mapped_column(ForeignKey("folders.name", ondelete="CASCADE"))

    @mirrored("books", updated_at=None, local=["shelf"])
    class Book(Own):
        __tablename__ = "books"
        id: Mapped[str] = mapped_column(primary_key=True)
        shelf: Mapped[str] = mapped_column(ForeignKey("shelves.id", ondelete="CASCADE"))

    with cloned(tmp_path / "app", [Book], Own) as clone:
        with clone.sessions.begin() as session:
            session.add(Folder(name="f"))
            session.flush()
            session.add(Shelf(id="s", folder="f"))
            session.flush()
            session.add_all([Book(id="b", shelf="s"), Book(id="c", shelf="s")])
        assert ["b", "c"] == sorted(clone.told("books"))
        with Session(clone.engine) as session:
            for row in (Folder(name="g"), Shelf(id="t", folder="g"), Book(id="d", shelf="t")):
                session.add(row)
                session.flush()
            session.commit()
            session.delete(session.get_one(Shelf, "t"))
            session.commit()
        assert ["b", "c"] == sorted(clone.told("books"))
        with clone.engine.begin() as connection:
            connection.execute(delete(Folder))
        assert {} == clone.told("books")
        clone.check()


def test_keys_that_the_database_makes(tmp_path: Path) -> None:
    """A key with a default of the server, and an association with a name of its own, travel."""

    class Own(DeclarativeBase):
        pass

    links = mirrored("links")(
        Table(
            "no good name!",
            Own.metadata,
            Column("left", ForeignKey("nodes.uid"), primary_key=True),
            Column("right", ForeignKey("nodes.uid"), primary_key=True),
            Column("weight", Integer, server_default="7"),
        )
    )

    @mirrored("nodes", key="uid", updated_at="changed")
    class Node(Own):
        __tablename__ = "nodes"
        number: Mapped[int] = mapped_column(primary_key=True)
        uid: Mapped[str] = mapped_column(unique=True, server_default=text("(hex(randomblob(8)))"))
        changed: Mapped[datetime.datetime]
        others: Mapped[list[Any]] = relationship(
            lambda: Node,
            secondary=links,
            primaryjoin=lambda: Node.uid == links.c.left,
            secondaryjoin=lambda: Node.uid == links.c.right,
        )

    with cloned(tmp_path / "app", [Node], Own) as clone:
        with clone.sessions.begin() as session:
            session.add(Node())
            session.add(Node(uid="x", others=[Node(uid="y")]))
        assert 3 == len(clone.told("nodes"))
        assert {"x", "y"} < set(clone.told("nodes"))
        assert 7 == clone.told("links")['["x","y"]']["weight"]
        with cloned(tmp_path / "other", [Node], Own) as other:
            other.take(clone)
            assert [] == other.store.sync().problems
            other.check()
            assert len(clone.rows(Node)) == len(other.rows(Node))
        with clone.sessions.begin() as session:
            session.delete(session.query(Node).filter_by(uid="x").one())
        assert {} == clone.told("links")
        clone.check()
