"""Only a session that has read the present row can write it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import ForeignKey, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from taskstore import StaleRecordError, mirrored
from tests.mirror.clones import Clone, cloned


class Own(DeclarativeBase):
    """An application's base."""


@mirrored("owners", key="uid")
class Owner(Own):
    """Somebody, counted by each clone."""

    __tablename__ = "owners"
    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(unique=True)
    updated_at: Mapped[int]


@mirrored("items", key="uid")
class Item(Own):
    """What somebody owns."""

    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(unique=True)
    note: Mapped[str | None]
    owner: Mapped[str | None] = mapped_column(ForeignKey("owners.uid", ondelete="SET NULL"))
    updated_at: Mapped[int]


class Remark(Own):
    """Not mirrored; goes with its item."""

    __tablename__ = "remarks"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column(ForeignKey("items.uid", ondelete="CASCADE"))


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """A clone with an owner and an item."""
    with cloned(tmp_path / "app", [Owner, Item], Own) as found:
        with found.sessions.begin() as session:
            session.add(Owner(uid="o"))
            session.flush()
            session.add_all([Item(uid="i", owner="o"), Item(uid="other")])
        yield found


def test_an_instance_is_told_what_the_database_has_done(clone: Clone) -> None:
    """It knows the version that its row was given, and what that stands for."""
    sessions = sessionmaker(clone.engine, expire_on_commit=False)
    clone.store.attach(sessions)
    with sessions() as session:
        item = session.query(Item).filter_by(uid="i").one()
        session.delete(session.query(Owner).one())
        session.commit()
        assert item.owner is None
        item.note = "written"
        session.commit()
    assert "written" == clone.told("items")["i"]["note"]
    clone.check()


def write(clone: Clone, note: str, version: int | None = None) -> None:
    """Change the item; with a version, as who has read that one."""
    with clone.sessions.begin() as session:
        item = session.query(Item).filter_by(uid="i").one()
        item.note = note
        if version is not None:
            item.updated_at = version


def later() -> int:
    """A version from the future."""
    return int(time.time() * 1000) + 60_000


def test_a_row_whose_line_was_refused_can_be_written(clone: Clone) -> None:
    """An edit of what the table holds wins over a line that does not fit, and settles it."""
    known = clone.told("items")["i"]["updated_at"]
    clone.append("items", {"id": "i", "note": 5, "extra": 1, "updated_at": later()})
    assert 1 == len(clone.store.sync().mirrored)
    with pytest.raises(StaleRecordError):
        write(clone, "from an older state", known - 1)
    write(clone, "mended")
    told = clone.told("items")["i"]
    assert ("mended", 1) == (told["note"], told["extra"])
    assert () == clone.store.sync().mirrored
    clone.check()
    with pytest.raises(StaleRecordError):
        write(clone, "from before it was mended", known)


def test_a_row_whose_tombstone_was_refused_can_be_written(clone: Clone) -> None:
    """An edit of a row that could not be deleted keeps it, for all clones."""
    with clone.engine.begin() as connection:
        connection.execute(insert(Remark), {"id": 1, "item": "i"})
    clone.append("items", {"id": "i", "updated_at": later(), "deleted": True})
    assert 1 == len(clone.store.sync().mirrored)
    write(clone, "still here")
    assert "still here" == clone.told("items")["i"]["note"]
    assert () == clone.store.sync().mirrored
    clone.check()
