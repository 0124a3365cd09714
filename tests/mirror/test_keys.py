"""The id of a row is made of its key as the database gives it back."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, DateTime, ForeignKey, Numeric, String, Table, TypeDecorator, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from taskstore import RecordSkippedWarning, UntrackedWriteError, mirrored
from tests.mirror.clones import Clone, cloned


class Own(DeclarativeBase):
    """An application's base."""


class Marked(TypeDecorator[str]):
    """Text that does not come back as it was bound."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """Put a mark before it."""
        return None if value is None else f"*{value}"


@mirrored("slots")
class Slot(Own):
    """A moment in a room."""

    __tablename__ = "slots"
    at: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    room: Mapped[str] = mapped_column(primary_key=True)
    note: Mapped[str | None]
    price: Mapped[decimal.Decimal | None] = mapped_column(ForeignKey("prices.amount"))
    updated_at: Mapped[int]


price_days = Table(
    "price_days",
    Own.metadata,
    Column("amount", ForeignKey("prices.amount"), primary_key=True),
    Column("day", ForeignKey("days.day"), primary_key=True),
)


@mirrored("prices")
class Price(Own):
    """An amount."""

    __tablename__ = "prices"
    amount: Mapped[decimal.Decimal] = mapped_column(
        Numeric(10, 2), primary_key=True, autoincrement=False
    )
    note: Mapped[str | None]
    updated_at: Mapped[int]
    slots: Mapped[list[Slot]] = relationship(cascade="all, delete-orphan")
    days: Mapped[list[Day]] = relationship(secondary=lambda: price_days)


@mirrored("days")
class Day(Own):
    """A date."""

    __tablename__ = "days"
    day: Mapped[datetime.date] = mapped_column(primary_key=True)
    updated_at: Mapped[int]


@mirrored("marks")
class Mark(Own):
    """Something whose key is never what it was."""

    __tablename__ = "marks"
    name: Mapped[str] = mapped_column(Marked, primary_key=True)
    updated_at: Mapped[int]


MIRRORS = [Slot, Price, Day, Mark]
ZONE = datetime.timezone(datetime.timedelta(hours=5))
AT = datetime.datetime(2024, 1, 1, 12, tzinfo=ZONE)


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """A clone of it."""
    with cloned(tmp_path / "app", MIRRORS, Own) as found:
        yield found


def test_keys_that_read_back_otherwise(clone: Clone, tmp_path: Path) -> None:
    """A key is logged as it is stored, whatever was bound for it; another clone gets the row."""
    with clone.sessions.begin() as session:
        session.add(Price(amount=decimal.Decimal("1.5")))
        session.add(Slot(at=AT, room="r"))
        session.add(Day(day=datetime.datetime(2024, 1, 1, 5)))
    assert ["1.50"] == list(clone.told("prices"))
    assert ['["2024-01-01T12:00:00","r"]'] == list(clone.told("slots"))
    assert ["2024-01-01"] == list(clone.told("days"))
    clone.check()
    assert () == clone.store.verify().problems
    with cloned(tmp_path / "other", MIRRORS, Own) as other:
        other.take(clone)
        assert [] == other.store.sync().problems
        assert [1, 1, 1] == [len(other.rows(model)) for model in MIRRORS[:3]]
        other.check()


def test_rows_under_keys_that_read_back_otherwise(clone: Clone) -> None:
    """In the session that bound such a key its row is changed, moved and deleted like any other."""
    with clone.sessions(expire_on_commit=False) as session:
        price, slot = Price(amount=decimal.Decimal("1.5")), Slot(at=AT, room="r")
        session.add_all([price, slot])
        session.commit()
        price.note = slot.note = "changed"
        session.commit()
        assert "changed" == clone.told("prices")["1.50"]["note"]
        assert "changed" == clone.told("slots")['["2024-01-01T12:00:00","r"]']["note"]
        price.amount = decimal.Decimal("2.5")
        session.commit()
        assert ["2.50"] == list(clone.told("prices"))
        clone.check()
        session.delete(slot)
        price.slots.append(Slot(at=AT + datetime.timedelta(1), room="r"))
        session.commit()
        assert ['["2024-01-02T12:00:00","r"]'] == list(clone.told("slots"))
        price.slots.clear()
        session.commit()
        session.delete(price)
        session.commit()
    assert {} == clone.told("prices") | clone.told("slots")
    clone.check()


def test_a_key_that_is_never_what_it_was(clone: Clone) -> None:
    """What no id finds again is refused at commit, and left out of an export with a warning."""
    with (
        pytest.raises(UntrackedWriteError, match="return what was bound"),
        clone.sessions() as some,
    ):
        some.add(Mark(name="a"))
        some.commit()
    assert [] == clone.rows(Mark)
    assert [] == clone.lines("marks")
    clone.store.close()
    with clone.engine.begin() as connection:
        connection.execute(text("INSERT INTO marks (name, updated_at) VALUES ('*a', 1)"))
    with (
        cloned(clone.folder, MIRRORS, Own) as again,
        pytest.warns(RecordSkippedWarning, match="finds no row"),
    ):
        assert 0 == again.store.export(Mark)


def test_associations_of_keys_that_read_back_otherwise(clone: Clone) -> None:
    """An association is logged as it is stored, whatever its rows were bound with."""
    with clone.sessions() as session:
        price, day = Price(amount=decimal.Decimal("1.5")), Day(day=datetime.date(2024, 1, 1))
        session.add_all([price, day])
        session.flush()
        price.days.append(day)
        session.commit()
    assert ['["1.50","2024-01-01"]'] == list(clone.told("price_days"))
    clone.check()
    with clone.sessions.begin() as session:
        found = session.query(Price).one()
        found.days.clear()
    assert {} == clone.told("price_days")
    clone.check()
