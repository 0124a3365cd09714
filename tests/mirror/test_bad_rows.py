"""A row or a line that does not fit is a problem of its own, and stops no other."""

# Each case has a base of its own, which mypy cannot follow.
# mypy: disable-error-code="misc, valid-type"

from __future__ import annotations

import enum
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest
from sqlalchemy import JSON, Enum, Integer, String, TypeDecorator
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from taskstore import InvalidDeclarationError, RecordSkippedWarning, StaleRecordError, mirrored
from tests.mirror.clones import cloned

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FUTURE = 4_000_000_000_000


def new_base() -> Any:
    """A declarative base of its own."""

    class Base(DeclarativeBase):
        pass

    return Base


def run(folder: Path, *statements: str) -> None:
    """What other programs do to the database of a clone."""
    folder.mkdir(exist_ok=True)
    with closing(connect(folder / "app.db")) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def reasons(found: Any) -> dict[str | None, str]:
    """Why which records are problems."""
    return {problem.id: problem.reason for problem in found}


class DomainError(Exception):
    """What a type of an application raises."""


class Money(TypeDecorator[str]):
    """Text that begins with a currency."""

    impl = String
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        """Refuse what has none."""
        if value is not None and not value.startswith("$"):
            raise DomainError(f"{value!r} has no currency")
        return value


def priced() -> Any:
    """A model with prices."""

    @mirrored("tasks")
    class Task(new_base()):
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(primary_key=True)
        updated_at: Mapped[int]
        price: Mapped[str | None] = mapped_column(Money)

    return Task


def test_a_type_that_raises_an_error_of_its_own(tmp_path: Path) -> None:
    """A line that it does not take is a problem, at sync, verify and open; others arrive."""
    task = priced()
    with cloned(tmp_path / "one", [task], task) as one:
        one.append("tasks", {"id": "1", "price": "5", "updated_at": 5})
        one.append("tasks", {"id": "2", "price": "$5", "updated_at": 5})
        assert ["1"] == list(reasons(one.store.sync().mirrored))
        assert "'5' has no currency" in reasons(one.store.sync().mirrored)["1"]
        assert ["2"] == [row.id for row in one.rows(task)]
        assert ["1"] == list(reasons(one.store.verify().problems))
    with cloned(tmp_path / "one", [task], task) as one:
        assert ["1"] == list(reasons(one.store.sync().mirrored))


def test_variants_of_types(tmp_path: Path) -> None:
    """A column travels as the type that it has in this database."""

    @mirrored("tasks", updated_at=None)
    class Task(new_base()):
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(primary_key=True)
        token: Mapped[str] = mapped_column(
            postgresql.UUID(as_uuid=True).with_variant(String(36), "sqlite")
        )
        tags: Mapped[Any] = mapped_column(
            postgresql.ARRAY(String).with_variant(JSON(), "sqlite"), nullable=True
        )

    token = str(uuid.uuid4())
    with (
        cloned(tmp_path / "one", [Task], Task) as one,
        cloned(tmp_path / "two", [Task], Task) as two,
    ):
        with one.sessions.begin() as session:
            session.add(Task(id="1", token=token, tags=["a", "b"]))
        two.take(one)
        assert () == two.store.sync().mirrored
        assert [(token, ["a", "b"])] == [(row.token, row.tags) for row in two.rows(Task)]
        two.check()


def colour(*names: str) -> Any:
    """A model with an enum of some members."""
    members = enum.Enum("Colour", list(names))

    @mirrored("tasks")
    class Task(new_base()):
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(primary_key=True)
        updated_at: Mapped[int]
        colour: Mapped[Any] = mapped_column(Enum(members, native_enum=False))
        note: Mapped[str | None]

    Task.members = members
    return Task


def test_a_member_that_an_enum_lost(tmp_path: Path) -> None:
    """A row that has it hinders neither verify nor a forced sync, and a pull repairs it."""
    old, new = colour("red", "blue"), colour("red")
    with cloned(tmp_path / "one", [old], old) as one, one.sessions.begin() as session:
        session.add(old(id="1", colour=old.members.red))
        session.add(old(id="2", colour=old.members.blue))
    with cloned(tmp_path / "one", [new], new) as one:
        report = one.store.verify()
        assert ["2"] == [difference.id for difference in report.differences]
        assert "'blue'" in reasons(report.problems)["2"]
        assert ["2"] == list(reasons(one.store.sync(force=True).mirrored))
        assert ["2"] == list(reasons(one.store.sync(prune=True).mirrored))
        one.append("tasks", {"id": "2", "colour": "red", "note": "x", "updated_at": FUTURE})
        one.append("tasks", {"id": "1", "colour": "red", "note": "y", "updated_at": FUTURE})
        assert () == one.store.sync().mirrored
        assert ["y", "x"] == [row.note for row in one.rows(new)]
        one.check()


def test_a_tombstone_of_a_row_that_cannot_be_read(tmp_path: Path) -> None:
    """It deletes the row."""
    old, new = colour("red", "blue"), colour("red")
    with cloned(tmp_path / "one", [old], old) as one, one.sessions.begin() as session:
        session.add(old(id="2", colour=old.members.blue))
    with cloned(tmp_path / "one", [new], new) as one:
        one.append("tasks", {"id": "2", "deleted": True, "updated_at": FUTURE})
        assert () == one.store.sync().mirrored
        assert [] == one.rows(new)
        one.check()


def test_a_row_without_an_id(tmp_path: Path) -> None:
    """A blank key in an old table is told by verify and left out of an export."""
    task = priced()
    with cloned(tmp_path / "one", [], task):
        pass
    run(
        tmp_path / "one",
        "INSERT INTO tasks VALUES ('', 5, '$1')",
        "INSERT INTO tasks VALUES ('ok', 5, '$2')",
        "INSERT INTO tasks VALUES ('bad', 5, '3')",
    )
    with cloned(tmp_path / "one", [task], task) as one:
        with pytest.warns(RecordSkippedWarning) as told:
            assert 1 == one.store.export(task)
        texts = sorted(str(warning.message) for warning in told)
        assert [True, True] == [
            "tasks/bad: the table" in texts[0],
            "the row ('',) of 'tasks' has no id" in texts[1],
        ]
        assert 2 == len(texts)
        report = one.store.verify()
        assert ((), {None, "bad"}) == (report.differences, set(reasons(report.problems)))
        with one.sessions.begin() as session:
            session.add(task(id="new", price="$3"))
        assert {"ok", "new"} == set(one.told("tasks"))


def test_a_class_that_is_not_mapped(tmp_path: Path) -> None:
    """A row of an unknown class stops neither verify nor export nor sync of the others."""

    @mirrored("staff")
    class Employee(new_base()):
        __tablename__ = "staff"
        id: Mapped[str] = mapped_column(primary_key=True)
        updated_at: Mapped[int]
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "employee"}  # noqa: RUF012

    class Manager(Employee):
        car: Mapped[str | None]
        __mapper_args__ = {"polymorphic_identity": "manager"}  # noqa: RUF012

    with cloned(tmp_path / "one", [Employee], Employee) as one:
        with one.sessions.begin() as session:
            session.add(Manager(id="1", car="red"))
        run(
            tmp_path / "one",
            "INSERT INTO staff (id, updated_at, kind) VALUES ('2', 5, 'ghost')",
            "INSERT INTO staff (id, updated_at, kind) VALUES ('3', 5, 'employee')",
        )
        report = one.store.verify()
        assert ((), {"2", "3"}) == (report.differences, set(reasons(report.problems)))
        assert "'ghost'" in reasons(report.problems)["2"]
        with pytest.warns(RecordSkippedWarning, match="'ghost'"):
            assert 1 == one.store.export(Employee)
        one.append("staff", {"id": "1", "kind": "manager", "car": "x", "updated_at": FUTURE})
        one.append("staff", {"id": "2", "deleted": True, "updated_at": FUTURE})
        assert ["2"] == [problem.id for problem in one.store.sync().mirrored]
        assert ["x"] == [row.car for row in one.rows(Manager)]
        assert () == one.store.sync(prune=True).mirrored
        assert ["1", "3"] == [row.id for row in one.rows(Employee)]
        one.check()


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    """An open beside a log says that the database is behind the model, and succeeds later."""
    task, other = priced(), new_base()
    directory = tmp_path / "one" / ".taskstore"
    directory.mkdir(parents=True)
    (directory / "tasks.jsonl").write_text('{"id":"1","price":"$1","updated_at":5}\n')
    with (
        pytest.raises(InvalidDeclarationError, match=r"no such table: tasks.*migrations"),
        cloned(tmp_path / "one", [task], other),
    ):
        pass
    run(tmp_path / "one", "CREATE TABLE tasks (id VARCHAR PRIMARY KEY, updated_at INTEGER)")
    with (
        pytest.raises(InvalidDeclarationError, match=r"no such column.*migrations"),
        cloned(tmp_path / "one", [task], other),
    ):
        pass
    run(tmp_path / "one", "ALTER TABLE tasks ADD COLUMN price VARCHAR")
    with cloned(tmp_path / "one", [task], other) as one:
        assert ["1"] == [row.id for row in one.rows(task)]


class Epoch(TypeDecorator[datetime]):
    """A time as milliseconds."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
        """As it is stored."""
        return None if value is None else (value - EPOCH) // timedelta(milliseconds=1)

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:
        """As the application sees it."""
        return None if value is None else EPOCH + timedelta(milliseconds=value)


class Written(TypeDecorator[datetime]):
    """A time as text."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> str | None:
        """As it is stored."""
        return None if value is None else value.isoformat()

    def process_result_value(self, value: str | None, dialect: Any) -> datetime | None:
        """As the application sees it."""
        return None if value is None else datetime.fromisoformat(value)


def versioned(type_: Any) -> Any:
    """A model with a version of some type."""

    @mirrored("tasks")
    class Task(new_base()):
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(primary_key=True)
        updated_at: Mapped[Any] = mapped_column(type_)
        title: Mapped[str]

    return Task


@pytest.mark.parametrize("type_", [Epoch, Written])
def test_versions_of_a_type_of_the_application(tmp_path: Path, type_: Any) -> None:
    """They are stamped, carried, kept and compared as times, whatever is stored."""
    task = versioned(type_)
    with (
        cloned(tmp_path / "one", [task], task) as one,
        cloned(tmp_path / "two", [task], task) as two,
    ):
        with one.sessions.begin() as session:
            session.add(task(id="1", title="a"))
        for title in ("b", "c"):
            with one.sessions.begin() as session:
                session.get_one(task, "1").title = title
        later = datetime(2090, 1, 2, 3, 4, 5, 678901, UTC)
        with one.sessions.begin() as session:
            session.get_one(task, "1").updated_at = later
        one.check()
        two.take(one)
        assert () == two.store.sync().mirrored
        [found] = two.rows(task)
        assert ("c", 0) == (found.title, (later - found.updated_at) // timedelta(milliseconds=1))
        two.check()
        with two.sessions.begin() as session:
            session.get_one(task, "1").title = "d"
        two.check()
        assert found.updated_at < two.rows(task)[0].updated_at
        with two.sessions() as session:
            row = session.get_one(task, "1")
            row.title, row.updated_at = "e", datetime(2000, 1, 1, tzinfo=UTC)
            with pytest.raises(StaleRecordError):
                session.commit()


class Seconds(Epoch):
    """A time as whole seconds."""

    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
        """As it is stored."""
        return None if value is None else int(value.timestamp())

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:
        """As the application sees it."""
        return None if value is None else datetime.fromtimestamp(value, UTC)


@pytest.mark.parametrize(
    ("type_", "reason"),
    [
        (sqlite.DATETIME(truncate_microseconds=True), "loses a part.*milliseconds"),
        (Seconds, "cannot hold a version"),
        (Money, "cannot hold a version.*has no currency"),
    ],
)
def test_versions_that_cannot_work(tmp_path: Path, type_: Any, reason: str) -> None:
    """A column that does not give back a stamp is refused when the store opens."""
    task = versioned(type_)
    with (
        pytest.raises(InvalidDeclarationError, match=f"updated_at: .*{reason}"),
        cloned(tmp_path / "one", [task], task),
    ):
        pass
