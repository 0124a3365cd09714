"""A unique column names the rows in the log; counted keys and references to them stay local."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ForeignKey, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from taskstore import mirrored
from tests.mirror.clones import Clone, cloned


class Own(DeclarativeBase):
    """An application's base."""


@mirrored("users", key="login", updated_at=None)
class User(Own):
    """Somebody, perhaps invited by somebody."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    login: Mapped[str] = mapped_column(unique=True)
    host_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    host: Mapped[User | None] = relationship(remote_side=[id])


@mirrored("rooms", key="uid", updated_at=None)
class Room(Own):
    """A room, whose name in the log is not as it is stored."""

    __tablename__ = "rooms"
    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[uuid.UUID] = mapped_column(unique=True, default=uuid.uuid4)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    owner: Mapped[User] = relationship()


@mirrored("visits", updated_at=None)
class Visit(Own):
    """Who was where: a key of two references."""

    __tablename__ = "visits"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    room_id: Mapped[int] = mapped_column(ForeignKey("rooms.id"), primary_key=True)
    user: Mapped[User] = relationship()
    room: Mapped[Room] = relationship()


MIRRORS = [Visit, Room, User]


@pytest.fixture
def application() -> tuple[list[Any], Any]:
    """The models that these tests are about."""
    return MIRRORS, Own


def fill(clone: Clone, name: str) -> None:
    """Add two users, a room and a visit."""
    with clone.sessions.begin() as session:
        host = User(login=f"{name}1")
        user = User(login=f"{name}2", host=host)
        session.add(Visit(user=user, room=Room(owner=host)))


def graph(clone: Clone) -> list[Any]:
    """The rows with names in place of numbers."""
    with clone.sessions() as session:
        users = [(u.login, u.host and u.host.login) for u in session.query(User)]
        rooms = [(str(r.uid), r.owner.login) for r in session.query(Room)]
        visits = [(v.user.login, str(v.room.uid)) for v in session.query(Visit)]
    return [sorted(users), sorted(rooms), sorted(visits)]


def synced(clone: Clone) -> None:
    """Bring the tables to what the logs say, all of it."""
    assert [] == clone.store.sync().problems
    clone.check()
    assert () == clone.store.verify().problems


def test_clones_agree_whatever_the_numbers(one: Clone, two: Clone, tmp_path: Path) -> None:
    """References are logged as the names of rows, and are the same objects in three clones."""
    fill(one, "a")
    fill(two, "b")
    [room] = one.told("rooms").values()
    assert {"id": room["uid"], "uid": room["uid"], "owner_id": "a1"} == {
        key: room[key] for key in room if key != "updated_at"
    }
    assert "a1" == one.told("users")["a2"]["host_id"]
    assert f'["a2","{room["uid"]}"]' in one.told("visits")
    for collection in ("users", "rooms", "visits"):
        two.append(collection, *one.lines(collection))
    synced(two)
    one.take(two)
    synced(one)
    assert 4 == len(one.rows(User))
    assert graph(one) == graph(two)
    with cloned(tmp_path / "three", MIRRORS, Own) as three:
        three.take(two)
        synced(three)
        assert graph(one) == graph(three)


@pytest.mark.parametrize("way", ["orm", "sql"])
def test_another_name(one: Clone, two: Clone, way: str) -> None:
    """Where a row gets another name, the lines of what refers to it say so."""
    fill(one, "a")
    two.take(one)
    synced(two)
    with one.sessions.begin() as session:
        if way == "orm":
            session.query(User).filter_by(login="a1").one().login = "new"
            session.query(User).filter_by(login="a2").one().login = "other"
        else:
            session.execute(text("UPDATE users SET login = 'new' WHERE login = 'a1'"))
            session.execute(text("UPDATE users SET login = 'other' WHERE login = 'a2'"))
    assert {"new", "other"} == one.told("users").keys()
    assert "new" == one.told("users")["other"]["host_id"]
    [room] = one.told("rooms").values()
    assert "new" == room["owner_id"]
    assert [f'["other","{room["id"]}"]'] == list(one.told("visits"))
    synced(one)
    two.take(one)
    synced(two)
    assert graph(one) == graph(two)


def test_tables_that_were_filled_before(one: Clone, two: Clone) -> None:
    """An export names what rows refer to, in whatever order the tables are exported."""
    one.store.close()
    with one.engine.begin() as connection:
        for statement in (
            "INSERT INTO users VALUES (5, 'a', NULL), (7, 'b', 5)",
            f"INSERT INTO rooms VALUES (3, '{uuid.uuid4().hex}', 7)",
            "INSERT INTO visits VALUES (5, 3)",
        ):
            connection.execute(text(statement))
    with cloned(one.folder, MIRRORS, Own) as again:
        assert [1, 1, 2] == [again.store.export(model) for model in MIRRORS]
        synced(again)
        two.take(again)
        synced(two)
        assert graph(again) == graph(two)
