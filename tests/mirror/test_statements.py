"""Whatever statements write mirrored tables, the replayed log equals them."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import ForeignKey, ForeignKeyConstraint, delete, insert, text, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from taskstore import mirrored
from tests.examples import share
from tests.mirror.clones import Clone, cloned


class Own(DeclarativeBase):
    """An application's base."""


@mirrored("teams")
class Team(Own):
    """A parent with two unique keys."""

    __tablename__ = "teams"
    id: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column(unique=True)
    seats: Mapped[int] = mapped_column(default=0, server_default="0")
    updated_at: Mapped[int] = mapped_column(default=0, server_default="0")


@mirrored("members", updated_at=None)
class Member(Own):
    """A child with a composite key, which follows its parent."""

    __tablename__ = "members"
    team: Mapped[str] = mapped_column(
        ForeignKey("teams.id", ondelete="CASCADE", onupdate="CASCADE"), primary_key=True
    )
    place: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


@mirrored("badges")
class Badge(Own):
    """A grandchild, set free where its member goes; its version is text."""

    __tablename__ = "badges"
    id: Mapped[str] = mapped_column(primary_key=True)
    team: Mapped[str | None]
    place: Mapped[int | None]
    updated_at: Mapped[str] = mapped_column(default="", server_default="")
    __table_args__ = (
        ForeignKeyConstraint(
            ["team", "place"],
            ["members.team", "members.place"],
            ondelete="SET NULL",
            onupdate="CASCADE",
        ),
    )


class Audit(Own):
    """Not mirrored: a trigger on it writes mirrored rows."""

    __tablename__ = "audits"
    id: Mapped[int] = mapped_column(primary_key=True)
    team: Mapped[str | None]


TRIGGERS = (
    """CREATE TRIGGER seated AFTER INSERT ON members BEGIN
      UPDATE teams SET seats = seats + 1 WHERE id = NEW.team; END""",
    """CREATE TRIGGER audited AFTER INSERT ON audits BEGIN
      UPDATE members SET name = 'audited' WHERE team = NEW.team;
      DELETE FROM badges WHERE team IS NULL; END""",
)
IDS = st.sampled_from(["a", "b", "c"])
PLACES = st.integers(1, 2)
NAMES = st.none() | st.sampled_from(["x", "y"])

Step = Callable[[Session], Any]


def steps() -> st.SearchStrategy[Step]:
    """A statement of any kind."""
    return st.one_of(
        st.builds(add_team, IDS, NAMES),
        st.builds(add_member, IDS, PLACES, NAMES),
        st.builds(change_team, IDS, NAMES),
        st.builds(delete_team, IDS),
        st.builds(rename_team, IDS, IDS),
        st.builds(core, st.sampled_from(CORE), IDS, PLACES, NAMES),
        st.builds(sql, st.sampled_from(SQL), IDS, PLACES, NAMES, st.booleans()),
    )


def add_team(id: str, code: str | None) -> Step:
    """Merge a team into the session."""
    return lambda session: session.merge(Team(id=id, code=code))


def add_member(team: str, place: int, name: str | None) -> Step:
    """Add a member with a badge."""

    def run(session: Session) -> None:
        session.merge(Member(team=team, place=place, name=name))
        session.flush()
        session.merge(Badge(id=f"{team}{place}", team=team, place=place))

    return run


def change_team(id: str, code: str | None) -> Step:
    """Change a loaded team."""

    def run(session: Session) -> None:
        found = session.get(Team, id, populate_existing=True)
        if found is not None:
            found.code = code

    return run


def delete_team(id: str) -> Step:
    """Delete a loaded team, with what the database deletes below."""

    def run(session: Session) -> None:
        found = session.get(Team, id, populate_existing=True)
        if found is not None:
            session.delete(found)

    return run


def rename_team(id: str, other: str) -> Step:
    """Give a loaded team another key, which its members follow."""

    def run(session: Session) -> None:
        found = session.get(Team, id, populate_existing=True)
        if found is not None:
            found.id = other

    return run


CORE: list[Callable[[str, int, str | None], Any]] = [
    lambda id, place, name: insert(Team).values(id=id, code=name),
    lambda id, place, name: (
        upsert(Team).values(id=id).on_conflict_do_update(index_elements=["id"], set_={"code": name})
    ),
    lambda id, place, name: update(Team).where(Team.id == id).values(seats=Team.seats + place),
    lambda id, place, name: update(Member).where(Member.team == id).values(place=Member.place + 1),
    lambda id, place, name: delete(Member).where(Member.place == place),
    lambda id, place, name: delete(Team).where(Team.code == name),
    lambda id, place, name: insert(Audit).values(team=id),
]
SQL = [
    "INSERT OR REPLACE INTO teams (id, code) VALUES (:id, :name)",
    "UPDATE OR REPLACE teams SET code = :name WHERE id = :id",
    "REPLACE INTO members (team, place, name) VALUES (:id, :place, :name)",
    "UPDATE teams SET id = :id || :place WHERE id = :id",
    "UPDATE members SET name = code FROM teams WHERE teams.id = members.team",
    "INSERT INTO badges (id, team, place) SELECT team || place || :id, team, place FROM members",
    "DELETE FROM badges WHERE place = :place",
    "INSERT OR IGNORE INTO audits (id, team) VALUES (:place, :id)",
]


def core(make: Callable[[str, int, str | None], Any], id: str, place: int, name: Any) -> Step:
    """Execute a statement of Core."""
    return lambda session: session.execute(make(id, place, name))


def sql(statement: str, id: str, place: int, name: Any, on_cursor: bool) -> Step:
    """Execute a text, or send it to a cursor of the driver."""
    values = {"id": id, "place": place, "name": name}

    def run(session: Session) -> None:
        if not on_cursor:
            session.execute(text(statement), values)
            return
        cursor = session.connection().connection.cursor()
        cursor.execute(statement, values)
        cursor.close()

    return run


TRANSACTIONS = st.lists(
    st.tuples(st.lists(st.tuples(steps(), st.booleans()), min_size=1, max_size=5), st.booleans()),
    min_size=1,
    max_size=4,
)


@contextmanager
def application() -> Iterator[Clone]:
    """A clone with the triggers."""
    with (
        tempfile.TemporaryDirectory() as folder,
        cloned(Path(folder) / "app", [Team, Member, Badge], Own) as clone,
    ):
        with clone.engine.begin() as connection:
            for trigger in TRIGGERS:
                connection.exec_driver_sql(trigger)
        yield clone


def tables(clone: Clone) -> dict[str, set[str]]:
    """What the tables hold, by collection, in the form of lines without versions."""
    found: dict[str, set[str]] = {}
    with clone.engine.connect() as connection:
        for name in ("teams", "members", "badges"):
            rows = connection.exec_driver_sql(f"SELECT * FROM {name}").mappings()
            found[name] = {shown(dict(row)) for row in rows}
    return found


def logs(clone: Clone) -> dict[str, set[str]]:
    """The same of what the logs say."""
    found = {}
    for name in ("teams", "members", "badges"):
        rows = clone.told(name).values()
        found[name] = {shown(row if name != "members" else without_id(row)) for row in rows}
    return found


def without_id(row: dict[str, Any]) -> dict[str, Any]:
    """A line without the id that is made of a composite key."""
    return {key: value for key, value in row.items() if key != "id"}


def shown(row: dict[str, Any]) -> str:
    """A row as text, without its version."""
    return json.dumps({k: v for k, v in sorted(row.items()) if k != "updated_at"})


@share(0.6, suppress_health_check=[HealthCheck.too_slow])
@given(TRANSACTIONS)
def test_any_statements_are_mirrored(transactions: list[Any]) -> None:
    """Random statements in random savepoints, some rolled back: the logs equal the tables."""
    with application() as clone:
        for work, is_kept in transactions:
            with clone.sessions() as session:
                for step, is_released in work:
                    taken(session, step, is_released=is_released)
                if is_kept:
                    session.commit()
            assert tables(clone) == logs(clone)
            clone.check()


def taken(session: Session, step: Step, *, is_released: bool) -> None:
    """Take a step in a savepoint; what the database refuses is undone."""
    savepoint = session.begin_nested()
    try:
        step(session)
        session.flush()
    except (IntegrityError, sqlite3.IntegrityError):
        savepoint.rollback()
        return
    savepoint.commit() if is_released else savepoint.rollback()


@pytest.mark.parametrize("statement", SQL)
def test_each_text_is_mirrored(statement: str) -> None:
    """Each of the texts by itself, over rows that it meets."""
    with application() as clone:
        with clone.sessions.begin() as session:
            for step in (add_team("a", "x"), add_team("b", "y"), add_member("a", 1, "x")):
                step(session)
                session.flush()
        with clone.sessions.begin() as session:
            sql(statement, "b", 1, "x", on_cursor=True)(session)
        assert tables(clone) == logs(clone)
        clone.check()
