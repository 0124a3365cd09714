"""Tables get what their logs have said before the models were as they are now."""

# The models of one table stand in two bases, which mypy cannot follow.
# mypy: disable-error-code="misc, valid-type"

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Integer, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from taskstore import InvalidDeclarationError, Store, mirrored
from tests.mirror.clones import cloned, engine_of
from tests.mirror.models import MIRRORS, Person, Tag
from tests.mirror.test_odd_schemas import model


def release(*, has_notes: bool) -> tuple[Any, Any]:
    """The base and the model of an application before and after it got a column."""

    class Base(DeclarativeBase):
        pass

    @mirrored("plans")
    class Plan(Base):
        __tablename__ = "plans"
        id: Mapped[str] = mapped_column(primary_key=True)
        title: Mapped[str]
        if has_notes:
            notes: Mapped[str | None]
        updated_at: Mapped[int]

    return Base, Plan


def execute(folder: Path, *statements: str) -> None:
    """Change the application's database behind everybody's back."""
    with closing(sqlite3.connect(folder / "app.db")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def data_version(database: sqlite3.Connection) -> int:
    """What changes when another connection commits."""
    [(version,)] = database.execute("PRAGMA data_version")
    return int(version)


@pytest.mark.parametrize("refresh", [True, False])
def test_a_rolling_upgrade(tmp_path: Path, refresh: bool) -> None:
    """A column that an older release could not hold is filled before anything is flushed."""
    old_base, old = release(has_notes=False)
    new_base, new = release(has_notes=True)
    with cloned(tmp_path / "a", [new], new_base) as a:
        with a.sessions.begin() as session:
            session.add(new(id="1", title="x", notes="written by A"))
        with cloned(tmp_path / "b", [old], old_base) as b:
            b.take(a)
            assert [] == b.store.sync().problems
        execute(tmp_path / "b", "ALTER TABLE plans ADD COLUMN notes VARCHAR")
        with cloned(tmp_path / "b", [new], new_base, refresh=refresh) as b:
            assert ["written by A"] == [row.notes for row in b.rows(new)]
            with b.sessions.begin() as session:
                session.get_one(new, "1").title = "y"
            b.check()
            a.take(b)
        assert [] == a.store.sync().problems
        assert [("y", "written by A")] == [(row.title, row.notes) for row in a.rows(new)]


def test_a_row_behind_a_deletion(tmp_path: Path) -> None:
    """A row put behind our back where one was deleted outlives a change of the model."""
    old_base, old = release(has_notes=False)
    new_base, new = release(has_notes=True)
    with cloned(tmp_path / "a", [old], old_base) as a:
        with a.sessions.begin() as session:
            session.add_all([old(id="1", title="x"), old(id="2", title="x")])
        with a.sessions.begin() as session:
            session.delete(session.get_one(old, "1"))
    execute(
        tmp_path / "a",
        "ALTER TABLE plans ADD COLUMN notes VARCHAR",
        "INSERT INTO plans (id, title, updated_at) VALUES ('1', 'again', 1)",
        f"UPDATE plans SET title = 'by hand', updated_at = {2**42} WHERE id = '2'",
    )
    with cloned(tmp_path / "a", [new], new_base) as a:
        assert ["again", "by hand"] == [row.title for row in a.rows(new)]
        assert ["2"] == [problem.id for problem in a.store.sync().problems]


def test_a_row_that_a_migration_changed(tmp_path: Path) -> None:
    """Changes by a migration to attributes that were already logged are kept and reported."""
    old_base, old = release(has_notes=False)
    new_base, new = release(has_notes=True)
    with cloned(tmp_path / "a", [old], old_base) as a, a.sessions.begin() as session:
        session.add_all([old(id="1", title="x"), old(id="2", title="x")])
    execute(
        tmp_path / "a",
        "ALTER TABLE plans ADD COLUMN notes VARCHAR DEFAULT 'none'",
        "UPDATE plans SET title = 'migrated' WHERE id = '2'",
    )
    with cloned(tmp_path / "a", [new], new_base) as a:
        assert ["x", "migrated"] == [row.title for row in a.rows(new)]
        assert ["2"] == [problem.id for problem in a.store.sync().problems]
        assert 1 == a.store.export(new)
        assert [] == a.store.sync().problems
        assert "migrated" == a.told("plans")["2"]["title"]
        a.check()


def test_states_of_an_older_version(tmp_path: Path) -> None:
    """A model that was recorded without the names of its attributes is the same model."""
    base, plan = release(has_notes=True)
    with cloned(tmp_path / "a", [plan], base) as a, a.sessions.begin() as session:
        session.add_all([plan(id="1", title="x"), plan(id="2", title="x")])
    execute(
        tmp_path / "a",
        "UPDATE mirror_states SET digest = substr(digest, 1, 32)",
        "UPDATE plans SET title = 'by hand' WHERE id = '2'",
    )
    with cloned(tmp_path / "a", [plan], base) as a:
        with a.sessions.begin() as session:
            session.get_one(plan, "1").title = "y"
        assert [] == a.store.sync().problems
    with cloned(tmp_path / "a", [plan], base) as a:
        assert ["y", "by hand"] == [row.title for row in a.rows(plan)]


def test_a_mirror_that_is_added_later(tmp_path: Path) -> None:
    """A model mirrored only now gets the rows of the records that came before."""
    with cloned(tmp_path / "a") as a:
        with a.sessions.begin() as session:
            session.add_all([Person(id="p", name="p"), Tag(name="red")])
        with cloned(tmp_path / "b", [Tag]) as b:
            b.take(a)
            assert [] == b.store.sync().problems
            assert [] == b.rows(Person)
        with cloned(tmp_path / "b") as b:
            assert ["p"] == [row.id for row in b.rows(Person)]
            b.check()


@pytest.mark.parametrize("generic", [True, False])
def test_a_store_without_mirrors(tmp_path: Path, generic: bool) -> None:
    """What a store that mirrors nothing has synced or written reaches the tables at the next open.

    But for rows that were never logged: they are kept.
    """
    with cloned(tmp_path / "a") as a, a.sessions.begin() as session:
        session.add_all([Person(id=id, name=id) for id in "pqr"])
    execute(tmp_path / "a", "INSERT INTO people (id, name, updated_at) VALUES ('own', 'own', 1)")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with cloned(tmp_path / "b") as b:
        b.append("people", {"id": "p", "name": "pulled", "updated_at": 2**42})
        b.append("people", {"id": "q", "deleted": True, "updated_at": 2**42})
        b.append("people", {"id": "s", "name": "s", "updated_at": 2**42})
        b.append("people", {"id": "own", "name": "theirs", "updated_at": 2**42})
    shutil.copy(
        tmp_path / "b" / ".taskstore" / "people.jsonl",
        tmp_path / "a" / ".taskstore" / "people.jsonl",
    )
    engine = engine_of(tmp_path / "a" / "app.db")
    with Store.open(tmp_path / "a" / ".taskstore", engine=engine) as store:
        store.sync()
        if generic:
            store.patch("people", "r", name="patched")
        else:
            store.sync(force=True)
    engine.dispose()
    with cloned(tmp_path / "a") as a:
        wanted = {"own": "own", "p": "pulled", "r": "patched" if generic else "r", "s": "s"}
        assert wanted == {row.id: row.name for row in a.rows(Person)}
        assert ["own"] == [problem.id for problem in a.store.sync().problems]
        a.check()


def test_once(tmp_path: Path) -> None:
    """An open with the models of the last one compares a digest, and writes nothing."""
    with cloned(tmp_path / "a") as a, a.sessions.begin() as session:
        session.add(Person(id="p", name="p"))
    with closing(sqlite3.connect(tmp_path / "a" / "app.db")) as database:
        before = data_version(database)
        for _ in range(2):
            with cloned(tmp_path / "a", MIRRORS, refresh=False) as a:
                assert ["p"] == [row.id for row in a.rows(Person)]
        assert before == data_version(database)


def test_a_column_that_got_another_type(tmp_path: Path) -> None:
    """Its lines do not fit; the rows stay, and are written over them when that is asked for."""
    old = model(number=mapped_column(Integer))
    new = model(number=mapped_column(String, nullable=False))
    with cloned(tmp_path / "a", [old], old) as a, a.sessions.begin() as session:
        session.add_all([old(id="1", number=5), old(id="2", number=6)])
    execute(
        tmp_path / "a",
        "CREATE TABLE new (id VARCHAR PRIMARY KEY, number VARCHAR NOT NULL, updated_at INTEGER)",
        "INSERT INTO new SELECT id, number, updated_at FROM tasks",
        "DROP TABLE tasks",
        "ALTER TABLE new RENAME TO tasks",
    )
    with (
        cloned(tmp_path / "a", [new], new) as a,
        cloned(tmp_path / "b", [new], new) as b,
    ):
        assert {"1", "2"} == {problem.id for problem in a.store.sync().mirrored}
        assert ["5", "6"] == [row.number for row in a.rows(new)]
        assert 0 == a.store.export(new)
        assert 2 == a.store.export(new, refused=True)
        told = a.told("tasks")
        assert {"1": "5", "2": "6"} == {id: row["number"] for id, row in told.items()}
        assert [] == a.store.sync().problems
        b.take(a)
        assert [] == b.store.sync().problems
        assert ["5", "6"] == [row.number for row in b.rows(new)]
        a.check()
        b.check()


def test_a_table_that_was_made_anew(tmp_path: Path) -> None:
    """A store does not open without its table, and fills one that has lost its rows."""
    base, plan = release(has_notes=True)
    with cloned(tmp_path / "a", [plan], base) as a, a.sessions.begin() as session:
        session.add_all([plan(id="1", title="x", notes="kept"), plan(id="2", title="y")])
    execute(tmp_path / "a", "DROP TABLE plans")
    engine = engine_of(tmp_path / "a" / "app.db")
    with pytest.raises(InvalidDeclarationError, match="no such table: plans"):
        Store.open(tmp_path / "a" / ".taskstore", engine=engine, mirrors=[plan])
    engine.dispose()
    with cloned(tmp_path / "a", [plan], base) as a:
        assert ["kept", None] == [row.notes for row in a.rows(plan)]
        a.check()
        execute(tmp_path / "a", "DELETE FROM plans")
        assert [] == a.store.sync().problems
        assert ["x", "y"] == [row.title for row in a.rows(plan)]
        a.check()
