"""What a database has besides its models: a row that it is in the way of is a problem, no more."""

# Each case has a base of its own, which mypy cannot follow.
# mypy: disable-error-code="misc, valid-type"

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Integer,
    String,
    TypeDecorator,
    UniqueConstraint,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from taskstore import InvalidRecordError, mirror_all, mirrored
from tests.mirror.clones import Clone, cloned
from tests.mirror.test_bad_rows import FUTURE, new_base, reasons, run


def model(**columns: Any) -> Any:
    """A model of tasks with further columns."""
    base = new_base()
    members = {
        "__tablename__": "tasks",
        "__annotations__": {},
        "id": mapped_column(String, primary_key=True),
        "updated_at": mapped_column(Integer),
    }
    return mirrored("tasks")(type("Task", (base,), members | columns))


def exchange(one: Clone, task: Any, name: str, first: Any, free: Any, second: Any) -> None:
    """Exchange the values of an attribute between two rows."""
    with one.sessions.begin() as session:
        setattr(session.get(task, "1"), name, free)
    with one.sessions.begin() as session:
        setattr(session.get(task, "2"), name, first)
    with one.sessions.begin() as session:
        setattr(session.get(task, "1"), name, second)


@pytest.mark.parametrize("case", ["named", "checked", "nullable"])
def test_an_exchange_of_unique_values(tmp_path: Path, case: str) -> None:
    """Two rows exchange them whatever the column is called, and whatever a CHECK asks for."""
    if case == "named":
        task = model(place=mapped_column("place_db", Integer, key="place_key", unique=True))
    else:
        task = model(
            place=mapped_column(Integer, unique=True, nullable=case == "nullable"),
            kept=mapped_column(String, server_default="seed"),
            __table_args__=(CheckConstraint("place BETWEEN 0 AND 100"),),
        )
    with (
        cloned(tmp_path / "one", [task], task) as one,
        cloned(tmp_path / "two", [task], task) as two,
    ):
        with one.sessions.begin() as session:
            session.add_all([task(id="1", place=1), task(id="2", place=2)])
        two.take(one)
        two.store.sync()
        run(
            tmp_path / "two",
            "ALTER TABLE tasks ADD COLUMN local",
            "UPDATE tasks SET local = CAST('b' || id AS BLOB)",
        )
        exchange(one, task, "place", 1, 3, 2)
        two.take(one)
        assert () == two.store.sync().mirrored
        assert [2, 1] == [row.place for row in two.rows(task)]
        with two.engine.connect() as connection:
            found = connection.exec_driver_sql("SELECT local FROM tasks ORDER BY id").all()
        assert [(b"b1",), (b"b2",)] == [tuple(row) for row in found]
        two.check()


@pytest.mark.parametrize("action", ["CASCADE", "SET DEFAULT", None])
def test_rows_that_exchange_values_and_leave_a_row_that_goes(
    tmp_path: Path, action: str | None
) -> None:
    """A row goes in the same sync in which those that referred to it exchange their places."""
    base = new_base()

    @mirrored("people")
    class Person(base):
        __tablename__ = "people"
        id: Mapped[str] = mapped_column(primary_key=True)
        updated_at: Mapped[int]

    @mirrored("tasks")
    class Task(base):
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(primary_key=True)
        updated_at: Mapped[int]
        place: Mapped[int] = mapped_column(unique=True)
        owner: Mapped[str] = mapped_column(ForeignKey("people.id", ondelete=action))

    with cloned(tmp_path / "one", [Person, Task], base) as one:
        with one.sessions.begin() as session:
            session.add_all([Person(id="p"), Person(id="r")])
            session.flush()
            session.add_all([Task(id=str(place), place=place, owner="p") for place in (1, 2)])
        one.append("people", {"id": "q", "updated_at": FUTURE})
        for id in ("p", "r"):
            one.append("people", {"id": id, "deleted": True, "updated_at": FUTURE})
        for id, place in (("1", 2), ("2", 1)):
            line = {"id": id, "place": place, "owner": "q", "updated_at": FUTURE}
            one.append("tasks", line)
        assert () == one.store.sync().mirrored
        assert [("1", 2, "q"), ("2", 1, "q")] == [
            (row.id, row.place, row.owner) for row in one.rows(Task)
        ]
        assert ["q"] == [row.id for row in one.rows(Person)]
        one.check()


def test_a_foreign_key_that_the_model_lacks(tmp_path: Path) -> None:
    """Rows that refer to each other in circles arrive beside a column of the database alone."""
    task = model(
        slug=mapped_column(String, unique=True),
        parent=mapped_column(ForeignKey("tasks.id"), nullable=True),
    )
    run(
        tmp_path / "one",
        "CREATE TABLE teams (id INTEGER PRIMARY KEY)",
        "CREATE TABLE tasks (id VARCHAR PRIMARY KEY, updated_at INTEGER, slug VARCHAR UNIQUE, "
        "parent VARCHAR REFERENCES tasks (id), team INTEGER REFERENCES teams (id))",
    )
    with cloned(tmp_path / "one", [task], task) as one:
        one.append("tasks", {"id": "1", "slug": "a", "parent": "2", "updated_at": 5})
        one.append("tasks", {"id": "2", "slug": "b", "parent": "1", "updated_at": 5})
        assert () == one.store.sync().mirrored
        assert ["2", "1"] == [row.parent for row in one.rows(task)]


def test_a_referred_column_that_the_model_lacks(tmp_path: Path) -> None:
    """A row is deleted where nothing refers to it, and is a problem where something does."""
    task = model()
    run(
        tmp_path / "one",
        "CREATE TABLE tasks (id VARCHAR PRIMARY KEY, updated_at INTEGER, legacy INTEGER UNIQUE)",
        "CREATE TABLE notes (task INTEGER REFERENCES tasks (legacy) ON DELETE CASCADE)",
    )
    with cloned(tmp_path / "one", [task], task) as one:
        with one.sessions.begin() as session:
            session.add_all([task(id="1"), task(id="2")])
        run(tmp_path / "one", "UPDATE tasks SET legacy = id", "INSERT INTO notes VALUES (2)")
        for id in ("1", "2"):
            one.append("tasks", {"id": id, "deleted": True, "updated_at": FUTURE})
        found = reasons(one.store.sync().mirrored)
        assert ["2"] == list(found)
        assert "'notes' refer to it" in found["2"]
        assert ["2"] == [row.id for row in one.rows(task)]


def test_a_trigger_that_ends_the_transaction(tmp_path: Path) -> None:
    """The error says which collection and what to do, and the store goes on afterwards."""
    task = model(note=mapped_column(String, nullable=True))
    with cloned(tmp_path / "one", [task], task) as one:
        run(
            tmp_path / "one",
            "CREATE TRIGGER guard BEFORE INSERT ON tasks WHEN new.note = 'bad' "
            "BEGIN SELECT raise(ROLLBACK, 'nothing bad'); END",
        )
        one.append("tasks", {"id": "1", "note": "bad", "updated_at": 5})
        one.append("tasks", {"id": "2", "note": "good", "updated_at": 5})
        for call in (one.store.sync, one.store.verify, one.store.sync):
            with pytest.raises(InvalidRecordError, match=r"nothing bad.*RAISE\(ABORT\)") as caught:
                call()
            assert "tasks" == caught.value.collection
        run(tmp_path / "one", "DROP TRIGGER guard")
        assert () == one.store.sync().mirrored
        assert ["1", "2"] == [row.id for row in one.rows(task)]
        one.check()


def test_a_trigger_that_minds_an_exchange(tmp_path: Path) -> None:
    """It is told also where only a placeholder for a unique value sets it off."""
    task = model(place=mapped_column(Integer, unique=True, nullable=False))
    with cloned(tmp_path / "one", [task], task) as one:
        with one.sessions.begin() as session:
            session.add_all([task(id="1", place=1), task(id="2", place=2)])
        run(
            tmp_path / "one",
            "CREATE TRIGGER guard BEFORE UPDATE ON tasks WHEN typeof(new.place) = 'blob' "
            "BEGIN SELECT raise(ROLLBACK, 'no number'); END",
        )
        one.append("tasks", {"id": "1", "place": 2, "updated_at": FUTURE})
        one.append("tasks", {"id": "2", "place": 1, "updated_at": FUTURE})
        with pytest.raises(InvalidRecordError, match=r"no number.*RAISE\(ABORT\)"):
            one.store.sync()
        assert [1, 2] == [row.place for row in one.rows(task)]


class Opaque(TypeDecorator[Any]):
    """A type whose values the driver cannot bind."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """Bind some as they are not."""
        return object() if value == "odd" else value


def test_a_value_that_cannot_be_bound(tmp_path: Path) -> None:
    """It is a problem of its row."""
    task = model(note=mapped_column(Opaque))
    with cloned(tmp_path / "one", [task], task) as one:
        one.append("tasks", {"id": "1", "note": "odd", "updated_at": 5})
        one.append("tasks", {"id": "2", "note": "even", "updated_at": 5})
        assert ["1"] == list(reasons(one.store.sync().mirrored))
        assert ["2"] == [row.id for row in one.rows(task)]


def coded(action: str) -> tuple[Any, Any]:
    """People with codes, and tasks that refer to the codes."""
    base = new_base()

    @mirrored("people")
    class Person(base):
        __tablename__ = "people"
        id: Mapped[str] = mapped_column(primary_key=True)
        updated_at: Mapped[int]
        code: Mapped[str] = mapped_column(unique=True)

    @mirrored("tasks")
    class Task(base):
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(primary_key=True)
        updated_at: Mapped[int]
        code: Mapped[str | None] = mapped_column(ForeignKey("people.code", onupdate=action))

    return Person, Task


def codes(clone: Clone, *models: Any) -> list[list[str]]:
    """All codes."""
    return [[row.code for row in clone.rows(one)] for one in models]


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
def test_a_code_that_others_refer_to(tmp_path: Path, action: str) -> None:
    """It changes with the rows that refer to it, and not while others still refer to it."""
    person, task = coded(action)
    with cloned(tmp_path / "one", [person, task], person) as one:
        with one.sessions.begin() as session:
            session.add_all([person(id="p", code="x"), person(id="q", code="q")])
            session.flush()
            session.add_all([task(id="1", code="x"), task(id="2", code="x")])
        one.append("people", {"id": "p", "code": "y", "updated_at": FUTURE})
        one.append("people", {"id": "q", "code": "r", "updated_at": FUTURE})
        one.append("tasks", {"id": "1", "code": "y", "updated_at": FUTURE})
        found = reasons(one.store.sync().mirrored)
        assert {"p", "1"} == set(found)
        assert f"ON UPDATE {action}" in found["p"]
        assert [["x", "r"], ["x", "x"]] == codes(one, person, task)
        one.append("tasks", {"id": "2", "code": "y", "updated_at": FUTURE})
        assert () == one.store.sync().mirrored
        assert [["y", "r"], ["y", "y"]] == codes(one, person, task)
        one.check()


def test_a_code_that_is_a_key(tmp_path: Path) -> None:
    """Rows that have it as their key get another one with it."""
    base = new_base()

    @mirrored("people")
    class Person(base):
        __tablename__ = "people"
        id: Mapped[str] = mapped_column(primary_key=True)
        updated_at: Mapped[int]
        code: Mapped[str] = mapped_column(unique=True)

    @mirrored("tasks")
    class Task(base):
        __tablename__ = "tasks"
        code: Mapped[str] = mapped_column(
            ForeignKey("people.code", onupdate="CASCADE"), primary_key=True
        )
        updated_at: Mapped[int]

    with cloned(tmp_path / "one", [Person, Task], base) as one:
        with one.sessions.begin() as session:
            session.add(Person(id="p", code="x"))
            session.flush()
            session.add(Task(code="x"))
        one.append("people", {"id": "p", "code": "y", "updated_at": FUTURE})
        one.append("tasks", {"id": "x", "deleted": True, "updated_at": FUTURE})
        one.append("tasks", {"id": "y", "updated_at": FUTURE})
        assert () == one.store.sync().mirrored
        assert [["y"], ["y"]] == codes(one, Person, Task)
        one.check()


@pytest.mark.parametrize("action", ["NO ACTION", "CASCADE"])
def test_subclasses_that_name_their_key_otherwise(tmp_path: Path, action: str) -> None:
    """Rows in joined tables are inserted, updated and deleted by whatever their key is called."""
    base = new_base()

    @mirrored("staff")
    class Employee(base):
        __tablename__ = "staff"
        id: Mapped[str] = mapped_column(primary_key=True)
        updated_at: Mapped[int]
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "employee"}  # noqa: RUF012

    class Manager(Employee):
        __tablename__ = "managers"
        manager_id: Mapped[str] = mapped_column(
            ForeignKey("staff.id", ondelete=action), primary_key=True
        )
        car: Mapped[str | None] = mapped_column(unique=True)
        __mapper_args__ = {"polymorphic_identity": "manager"}  # noqa: RUF012

    class Director(Manager):
        __tablename__ = "directors"
        director_id: Mapped[str] = mapped_column(
            ForeignKey("managers.manager_id", ondelete=action), primary_key=True
        )
        jet: Mapped[str | None]
        __mapper_args__ = {"polymorphic_identity": "director"}  # noqa: RUF012

    line = {"kind": "director", "updated_at": FUTURE}
    with cloned(tmp_path / "one", [Employee], base) as one:
        with one.sessions.begin() as session:
            session.add_all([Director(id="1", car="a", jet="x"), Director(id="2", car="b")])
        with cloned(tmp_path / "two", [Employee], base) as two:
            two.take(one)
            assert () == two.store.sync().mirrored
            two.append("staff", line | {"id": "1", "car": "b", "jet": "y"})
            two.append("staff", line | {"id": "2", "car": "a", "jet": "z"})
            two.append("staff", line | {"id": "3", "car": "c", "jet": "w"})
            assert () == two.store.sync().mirrored
            found = [(row.director_id, row.car, row.jet) for row in two.rows(Director)]
            assert [("1", "b", "y"), ("2", "a", "z"), ("3", "c", "w")] == found
            two.append("staff", {"id": "1", "deleted": True, "updated_at": FUTURE + 1})
            assert () == two.store.sync().mirrored
            assert ["2", "3"] == [row.id for row in two.rows(Employee)]
            two.check()


def replacing() -> Any:
    """A model whose constraints delete other rows."""

    class Word(new_base()):
        __tablename__ = "words"
        id: Mapped[int] = mapped_column(primary_key=True)
        word: Mapped[str] = mapped_column(unique=True, sqlite_on_conflict_unique="REPLACE")
        code: Mapped[str | None]
        __table_args__ = (UniqueConstraint("code", sqlite_on_conflict="REPLACE"),)

    return Word


def test_constraints_that_replace_rows(tmp_path: Path) -> None:
    """A row that gives way to another one leaves the log, and comes back in no clone."""
    model = replacing()
    with cloned(tmp_path / "one", mirror_all(model), model) as one:
        with one.sessions.begin() as session:
            session.add_all([model(word="a", code="1"), model(word="b"), model(word="c")])
        with one.sessions.begin() as session:
            session.add(model(word="b", code="1"))
        with one.sessions.begin() as session:
            session.execute(update(model).where(model.word == "c").values(word="b"))
        held = [("b", None)]
        assert held == [(row.word, row.code) for row in one.rows(model)]
        assert ["b"] == [row["word"] for row in one.told("words").values()]
        one.check()
        with cloned(tmp_path / "two", mirror_all(model), model) as two:
            two.take(one)
            assert [] == two.store.sync().problems
            assert held == [(row.word, row.code) for row in two.rows(model)]
            two.check()


def test_a_pulled_row_replaces_no_other(tmp_path: Path) -> None:
    """A line that takes a unique value which another record has is a problem."""
    model = replacing()
    with cloned(tmp_path / "one", mirror_all(model), model) as one:
        with one.sessions.begin() as session:
            session.add(model(word="a"))
        one.append("words", {"id": "other", "word": "a", "updated_at": 4_000_000_000_000})
        [problem] = one.store.sync().mirrored
        assert "UNIQUE constraint failed: words.word" in problem.reason
        assert 1 == len(one.rows(model))
