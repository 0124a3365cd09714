"""What a flush changes without naming it: keys that are stored otherwise, and rows below rows."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import DateTime, ForeignKey, Numeric, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from taskstore import UntrackedWriteError, mirrored
from tests.mirror.clones import Clone, cloned


class Base(DeclarativeBase):
    """The application's base."""


@mirrored("prices")
class Price(Base):
    """A number for a key, which is stored with two digits."""

    __tablename__ = "prices"
    amount: Mapped[Decimal] = mapped_column(Numeric(10, 2), primary_key=True, autoincrement=False)
    name: Mapped[str | None]
    updated_at: Mapped[int]


@mirrored("slots")
class Slot(Base):
    """A moment in the key, which is stored without its zone."""

    __tablename__ = "slots"
    at: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    room: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    updated_at: Mapped[int]


@mirrored("days")
class Day(Base):
    """A date for a key."""

    __tablename__ = "days"
    day: Mapped[datetime.date] = mapped_column(primary_key=True)
    updated_at: Mapped[int]


class House(Base):
    """Not mirrored, and has orphans."""

    __tablename__ = "houses"
    id: Mapped[str] = mapped_column(primary_key=True)
    seen: Mapped[int | None]
    parents: Mapped[list[Parent]] = relationship(cascade="all, delete-orphan")


@mirrored("parents")
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


MIRRORED = [Price, Slot, Day, Parent, Child, Grand]


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """A clone with a family in a house."""
    with cloned(tmp_path / "one", MIRRORED, Base) as one:
        with one.sessions.begin() as session:
            child = Child(id="c")
            parent = Parent(id="p", code="x", children=[child])
            session.add(House(id="h", parents=[parent]))
            session.flush()
            session.add(Grand(id="g", child_id="c", code="x"))
        yield one
        report = one.store.verify()
        assert ((), ()) == (report.differences, report.problems)


def test_a_key_is_logged_as_it_is_stored(clone: Clone) -> None:
    """A number that gets digits, and a moment that loses its zone, are found again."""
    moment = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    with clone.sessions() as session:
        price, slot = Price(amount=Decimal("1.5")), Slot(at=moment, room="r")
        session.add_all([price, slot])
        session.commit()
        price.name = slot.name = "named"
        session.commit()
    assert {"1.50": "named"} == {id: row["name"] for id, row in clone.told("prices").items()}
    assert ["named"] == [row["name"] for row in clone.told("slots").values()]


def test_a_key_that_cannot_be_found_again_is_refused(clone: Clone) -> None:
    """A date that was given as a moment would be stored, and never logged."""
    with clone.sessions() as session:
        session.add(Day(day=datetime.datetime(2024, 1, 1, 5)))
        with pytest.raises(UntrackedWriteError, match="a date for a Date"):
            session.commit()
    assert [] == clone.rows(Day)


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


def test_what_a_later_listener_deletes_is_refused(clone: Clone) -> None:
    """A listener that deletes a row in the flush, with which the database deletes others."""

    def delete(session: Any, *_: Any) -> None:
        session.delete(session.get_one(Child, "c"))

    with clone.sessions() as session:
        parent = session.get_one(Parent, "p")
        event.listen(session, "before_flush", delete)
        parent.code = None
        with pytest.raises(UntrackedWriteError, match="delete rows before the flush"):
            session.commit()
    assert {"g"} == set(clone.told("grand"))


def test_what_follows_a_value_that_is_no_key_is_logged(clone: Clone) -> None:
    """ON UPDATE CASCADE of a unique column."""
    with clone.sessions.begin() as session:
        session.get_one(Parent, "p").code = "y"
    assert "y" == clone.told("grand")["g"]["code"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE houses SET seen = 1",
        "UPDATE houses SET seen = replace(seen, '1', '2') WHERE id = 'h'",
        "INSERT INTO houses (id) VALUES ('delete')",
        "DELETE FROM houses WHERE id = 'none'",
    ],
)
def test_what_reaches_no_mirrored_row_is_not_refused(clone: Clone, statement: str) -> None:
    """A statement on a table that is not mirrored, and that changes nothing others refer to."""
    with clone.sessions.begin() as session:
        session.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE houses SET id = 'x'",
        "WITH some AS (SELECT 1) UPDATE houses SET id = 'x'",
        "INSERT INTO houses (id) VALUES ('h') ON CONFLICT (id) DO UPDATE SET id = 'x'",
    ],
)
def test_what_reaches_mirrored_rows_is_refused(clone: Clone, statement: str) -> None:
    """A statement on a table that is not mirrored, which mirrored rows would follow."""
    with clone.sessions() as session, pytest.raises(UntrackedWriteError):
        session.execute(text(statement))
