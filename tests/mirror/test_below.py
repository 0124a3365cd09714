"""What a flush changes without naming it: rows below rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ForeignKey, event, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from taskstore import mirrored
from tests.mirror.clones import Clone, cloned


class Base(DeclarativeBase):
    """The application's base."""


class House(Base):
    """Not mirrored, and has orphans."""

    __tablename__ = "houses"
    id: Mapped[str] = mapped_column(primary_key=True)
    seen: Mapped[int | None]
    label: Mapped[str] = mapped_column(unique=True, default="h", onupdate=text("upper(label)"))
    parents: Mapped[list[Parent]] = relationship(cascade="all, delete-orphan")


@mirrored("parents", local=["house_id"])
class Parent(Base):
    """Has orphans, and a code that others follow."""

    __tablename__ = "parents"
    id: Mapped[str] = mapped_column(primary_key=True)
    house_id: Mapped[str | None] = mapped_column(ForeignKey("houses.id", onupdate="CASCADE"))
    code: Mapped[str | None] = mapped_column(unique=True)
    updated_at: Mapped[int]
    children: Mapped[list[Child]] = relationship(cascade="all, delete-orphan")


@mirrored("children")
class Child(Base):
    """Goes with its parent, by the unit of work."""

    __tablename__ = "children"
    id: Mapped[str] = mapped_column(primary_key=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("parents.id"))
    updated_at: Mapped[int]


@mirrored("grand")
class Grand(Base):
    """Goes with a child, and follows a code, by the database."""

    __tablename__ = "grand"
    id: Mapped[str] = mapped_column(primary_key=True)
    child_id: Mapped[str | None] = mapped_column(ForeignKey("children.id", ondelete="CASCADE"))
    code: Mapped[str | None] = mapped_column(ForeignKey("parents.code", onupdate="CASCADE"))
    updated_at: Mapped[int]


@mirrored("rooms", local=["label"])
class Room(Base):
    """Follows the label of a house."""

    __tablename__ = "rooms"
    id: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(ForeignKey("houses.label", onupdate="CASCADE"))
    updated_at: Mapped[int]


@mirrored("shelves")
class Shelf(Base):
    """Follows the key of a room with its own."""

    __tablename__ = "shelves"
    room: Mapped[str] = mapped_column(
        ForeignKey("rooms.id", onupdate="CASCADE", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    updated_at: Mapped[int]


@mirrored("boxes")
class Box(Base):
    """Gets another key where its room goes."""

    __tablename__ = "boxes"
    room: Mapped[str] = mapped_column(
        ForeignKey("rooms.id", ondelete="SET DEFAULT"), primary_key=True, server_default="none"
    )
    updated_at: Mapped[int]


MIRRORED = [Parent, Child, Grand, Room, Shelf, Box]


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """A clone with a family in a house."""
    with cloned(tmp_path / "one", MIRRORED, Base) as one:
        with one.sessions.begin() as session:
            child = Child(id="c")
            parent = Parent(id="p", code="x", children=[child])
            session.add(House(id="h", parents=[parent]))
            session.flush()
            session.add_all([Grand(id="g", child_id="c", code="x"), Room(id="r", label="h")])
        yield one
        report = one.store.verify()
        assert ((), ()) == (report.differences, report.problems)


def test_what_goes_with_an_orphan_is_logged(clone: Clone) -> None:
    """The database deletes below a row that the unit of work deletes as an orphan."""
    with clone.sessions.begin() as session:
        parent = session.get_one(Parent, "p")
        parent.children.clear()
    assert ({}, {}) == (clone.told("children"), clone.told("grand"))


def test_what_goes_with_an_orphan_of_a_row_that_is_not_mirrored_is_logged(clone: Clone) -> None:
    """Also two levels down, and where only the lowest have to do with the database."""
    with clone.sessions.begin() as session:
        house, grand = session.get_one(House, "h"), session.get_one(Grand, "g")
        house.parents.clear()
        grand.code = None
    assert [{}] * 3 == [clone.told(name) for name in ("parents", "children", "grand")]


def test_what_a_later_listener_deletes_is_logged(clone: Clone) -> None:
    """A listener that deletes a row in the flush, with which the database deletes others."""

    def delete(session: Any, *_: Any) -> None:
        session.delete(session.get_one(Child, "c"))

    with clone.sessions() as session:
        parent = session.get_one(Parent, "p")
        event.listen(session, "before_flush", delete)
        parent.code = None
        session.commit()
    assert [{}] * 2 == [clone.told(name) for name in ("children", "grand")]


@pytest.mark.parametrize("name", ["before_flush", "before_update"])
def test_what_follows_a_value_of_a_listener_is_logged(clone: Clone, name: str) -> None:
    """A listener that changes a value in the flush, which others follow."""
    with clone.sessions() as session:
        parent = session.get_one(Parent, "p")

        def change(*_: Any) -> None:
            parent.code = "y"

        target: Any = session if name == "before_flush" else Parent
        event.listen(target, name, change)
        try:
            parent.house_id = None
            session.commit()
        finally:
            event.remove(target, name, change)
    assert "y" == clone.told("grand")["g"]["code"]


def test_what_follows_an_expression_is_logged(clone: Clone) -> None:
    """The default of an UPDATE, and an expression in a row, are values like any other."""
    with clone.sessions.begin() as session:
        session.get_one(Parent, "p").code = func.upper("y")
    assert "Y" == clone.told("grand")["g"]["code"]
    with clone.sessions.begin() as session:
        session.get_one(House, "h").seen = 1
    assert "H" == clone.told("rooms")["r"]["label"]


def test_keys_that_follow_several_levels_are_logged(clone: Clone) -> None:
    """A key that the database changes is a tombstone and a new record, at each level below."""
    with clone.sessions.begin() as session:
        session.add(Room(id="x", label="h"))
        session.flush()
        session.add(Shelf(room="x", number=1))
        session.flush()
        session.get_one(Room, "x").id = "y"
    assert {'["y",1]'} == set(clone.told("shelves"))
    with clone.sessions.begin() as session:
        session.delete(session.get_one(Room, "y"))
    assert {} == clone.told("shelves")


def test_a_key_that_the_database_makes_is_logged(clone: Clone) -> None:
    """ON DELETE SET DEFAULT of a part of a key gives a row an id that nobody has named."""
    with clone.sessions.begin() as session:
        session.add_all([Room(id="none", label="h"), Room(id="x", label="h")])
        session.flush()
        session.add(Box(room="x"))
    with clone.sessions.begin() as session:
        session.delete(session.get_one(Room, "x"))
    assert {"none"} == set(clone.told("boxes"))


def test_what_follows_a_value_that_is_no_key_is_logged(clone: Clone) -> None:
    """ON UPDATE CASCADE of a unique column."""
    with clone.sessions.begin() as session:
        session.get_one(Parent, "p").code = "y"
    assert "y" == clone.told("grand")["g"]["code"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE houses SET seen = 1",
        "INSERT INTO houses (id, label) VALUES ('new', 'set')",
        "DELETE FROM houses WHERE id = 'none'",
    ],
)
def test_what_reaches_no_mirrored_row_appends_nothing(clone: Clone, statement: str) -> None:
    """A statement on a table that is not mirrored, and that changes nothing others refer to."""
    before = clone.log("parents").read_bytes()
    with clone.sessions.begin() as session:
        session.execute(text(statement))
    assert before == clone.log("parents").read_bytes()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE houses SET id = 'x'",
        "UPDATE houses SET seen = (SELECT 1 WHERE 1), (seen, id) = (1, 'x')",
        "WITH some AS (SELECT 1) UPDATE houses SET id = 'x'",
        "INSERT INTO houses (id, label) VALUES ('h', 'h') ON CONFLICT (id) DO UPDATE SET id = 'x'",
    ],
)
def test_what_reaches_mirrored_rows_is_logged(clone: Clone, statement: str) -> None:
    """A statement on a table that is not mirrored, which mirrored rows follow."""
    with clone.sessions.begin() as session:
        session.execute(text(statement))
    assert "x" == clone.told("parents")["p"]["house_id"]
