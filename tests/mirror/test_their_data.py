"""The rows of an application come first: none is lost to a log that is not theirs."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

from taskstore import MissingLogError, Store
from tests.mirror.clones import Clone, cloned, engine_of
from tests.mirror.models import MIRRORS, Base, Person, Task


def people(clone: Clone) -> list[str]:
    """The ids of the people there are."""
    return [row.id for row in clone.rows(Person)]


def fill(folder: Path) -> None:
    """An application that has rows, and knows nothing of a store."""
    folder.mkdir(exist_ok=True)
    engine = engine_of(folder / "app.db")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(
            insert(Person), [{"id": id, "name": id, "updated_at": 1000} for id in "pqr"]
        )
        session.commit()
    engine.dispose()


def test_a_populated_database(tmp_path: Path) -> None:
    """Rows that were there before stay, hinder the first flush and sync, and can be exported."""
    fill(tmp_path / "one")
    with cloned(tmp_path / "one") as one:
        with pytest.raises(MissingLogError, match=r"store\.export\(Person\)") as caught:
            one.store.sync()
        assert ("people", 3) == (caught.value.collection, caught.value.rows)
        with pytest.raises(MissingLogError), one.sessions.begin() as session:
            session.add(Person(id="s", name="s"))
        assert ["p", "q", "r"] == people(one)
        assert not one.log("people").exists()
        with one.sessions.begin() as session:
            session.add(Task(id="a", title="of another collection"))
        assert 3 == one.store.export(Person)
        assert 0 == one.store.export(Person)
        assert [1000, 1000, 1000] == [line["updated_at"] for line in one.lines("people")]
        assert [] == one.store.sync().problems
        with one.sessions.begin() as session:
            session.add(Person(id="s", name="s"))
        one.check()
        assert ["p", "q", "r", "s"] == people(one)


def test_rows_that_were_never_logged_are_kept(tmp_path: Path) -> None:
    """Beside a log that others wrote they stay, are reported by verify, and can be exported."""
    with cloned(tmp_path / "two") as two:
        with two.sessions.begin() as session:
            session.add_all([Person(id="x", name="x"), Person(id="p", name="theirs")])
        fill(tmp_path / "one")
        with cloned(tmp_path / "one") as one:
            one.take(two)
            assert ["p"] == [problem.id for problem in one.store.sync().problems]
            assert ["p", "q", "r", "x"] == people(one)
            report = one.store.verify()
            assert (True, ["p", "q", "r"]) == (report.ok, [p.id for p in report.problems])
            assert 3 == one.store.export(Person)
            one.check()
            assert () == one.store.verify().problems


@contextmanager
def adopted(folder: Path) -> Iterator[Clone]:
    """A database whose rows were there before, and a log in which they changed elsewhere."""
    fill(folder)
    with closing(sqlite3.connect(folder / "app.db")) as database:
        database.execute("INSERT INTO people (id, name, updated_at) VALUES ('s', 's', 1000)")
        database.execute("UPDATE people SET name = 'mine', updated_at = 9000 WHERE id = 'p'")
        database.commit()
    (folder / ".taskstore").mkdir()
    with (folder / ".taskstore" / "people.jsonl").open("w") as log:
        log.write('{"id":"p","name":"p","nick":null,"updated_at":2000}\n')
        log.write('{"id":"q","deleted":true,"updated_at":2000}\n')
        log.write('{"id":"r","name":"theirs","updated_at":2000}\n')
        log.write('{"id":"s","name":"s","updated_at":2000}\n')
        log.write('{"id":"t","name":"t","updated_at":2000}\n')
    with cloned(folder) as clone:
        yield clone


KEPT = {"p": ("mine", 9000), "q": ("q", 1000), "r": ("r", 1000), "s": ("s", 2000), "t": ("t", 2000)}


def named(clone: Clone) -> dict[str, tuple[str, int]]:
    """The names and versions of the people there are."""
    return {row.id: (row.name, row.updated_at) for row in clone.rows(Person)}


def test_a_second_populated_database(tmp_path: Path) -> None:
    """What was never logged here outlives an open, syncs and a repair, and is reported."""
    with adopted(tmp_path / "one") as one:
        for force in (False, True, False):
            assert KEPT == named(one)
            problems = one.store.sync(force=force).problems
            assert ["p", "q", "r"] == [problem.id for problem in problems]
            assert all("store.export(Person)" in problem.reason for problem in problems)
        one.append("people", {"id": "q", "deleted": True, "updated_at": 3000})
        one.append("people", {"id": "p", "name": "again", "updated_at": 10000})
        assert ["p", "q", "r"] == [problem.id for problem in one.store.sync().problems]
    with cloned(tmp_path / "one") as one:
        one.store.verify(repair=True)
        assert KEPT == named(one)


def test_a_second_populated_database_is_exported(tmp_path: Path) -> None:
    """An export writes over the log what was kept, and settles it."""
    with adopted(tmp_path / "one") as one:
        assert 3 == one.store.export(Person)
        assert [] == one.store.sync().problems
        assert {id: name for id, (name, _) in KEPT.items()} == {
            id: line["name"] for id, line in one.told("people").items()
        }
        one.check()
        one.append("people", {"id": "q", "deleted": True, "updated_at": 2**42})
        assert [] == one.store.sync().problems
        assert ["p", "r", "s", "t"] == people(one)


def test_a_second_populated_database_is_pruned(tmp_path: Path) -> None:
    """Asked to, a sync takes what the log says instead."""
    with adopted(tmp_path / "one") as one:
        assert [] == one.store.sync(prune=True).problems
        assert {"p": "p", "r": "theirs", "s": "s", "t": "t"} == {
            id: name for id, (name, _) in named(one).items()
        }
        one.check()


@pytest.mark.parametrize("how", ["removed", "empty", "blank", "alien", "garbage"])
def test_a_log_that_is_not_theirs(one: Clone, how: str) -> None:
    """A branch without the log, or another log in its place, touches no row and takes no line."""
    with one.sessions.begin() as session:
        session.add_all([Person(id="p", name="p"), Person(id="q", name="q")])
    log = one.log("people")
    saved = log.read_bytes()
    log.unlink()
    if how != "removed":
        log.write_text(
            {
                "empty": "",
                "blank": "\n\n",
                "alien": '{"id":"z","name":"z","updated_at":1}\n',
                "garbage": "<<<<<<< ours\n",
            }[how]
        )
    there = log.read_bytes() if log.exists() else None
    for _ in range(2):
        with pytest.raises(MissingLogError):
            one.store.sync()
        with pytest.raises(MissingLogError):
            one.store.sync(force=True)
        with pytest.raises(MissingLogError), one.sessions.begin() as session:
            session.get_one(Person, "p").name = "changed"
        with pytest.raises(MissingLogError), one.sessions.begin() as session:
            session.delete(session.get_one(Person, "p"))
    assert there == (log.read_bytes() if log.exists() else None)
    assert ["p", "q"] == people(one)
    log.write_bytes(saved)
    assert [] == one.store.sync().problems
    one.check()
    assert ["p", "q"] == people(one)


def test_reopened_beside_a_missing_log(tmp_path: Path) -> None:
    """An open never raises for it, and export writes the rows with all that their lines had."""
    with cloned(tmp_path / "one") as one:
        one.append("people", '{"id":"p","name":"p","future":1,"updated_at":5}\n')
        one.store.sync()
        with one.sessions.begin() as session:
            session.add(Person(id="q", name="q"))
        one.log("people").unlink()
    with cloned(tmp_path / "one") as one:
        assert ["p", "q"] == people(one)
        assert 2 == one.store.export(Person)
        assert 1 == one.told("people")["p"]["future"]
        assert [] == one.store.sync().problems
        one.check()


def test_a_wrong_directory(tmp_path: Path) -> None:
    """A store opened elsewhere by mistake deletes nothing, whether it is empty or filled."""
    with cloned(tmp_path / "one") as one, one.sessions.begin() as session:
        session.add_all([Person(id="p", name="p"), Person(id="q", name="q")])
    with cloned(tmp_path / "two") as two, two.sessions.begin() as session:
        session.add(Person(id="other", name="other"))
    shutil.copytree(tmp_path / "two" / ".taskstore", tmp_path / "one" / "filled")
    for directory in ("new", "filled"):
        with cloned(tmp_path / "one", directory=directory) as one:
            with pytest.raises(MissingLogError):
                one.store.sync()
            with pytest.raises(MissingLogError), one.sessions.begin() as session:
                session.add(Person(id="r", name="r"))
            assert ["p", "q"] == people(one)
    with cloned(tmp_path / "one") as one:
        assert [] == one.store.sync().problems
        one.check()
        assert ["p", "q"] == people(one)


@pytest.mark.parametrize("force", [False, True])
def test_a_wrong_directory_with_a_common_key(tmp_path: Path, force: bool) -> None:
    """Another project's log, which happens to use one of our keys, is not taken for ours."""
    with cloned(tmp_path / "one") as one, one.sessions.begin() as session:
        session.add_all([Person(id=id, name=id) for id in ("bug", "ui", "db")])
    with cloned(tmp_path / "two") as two, two.sessions.begin() as session:
        session.add_all([Person(id="bug", name="theirs"), Person(id="other", name="other")])
    shutil.copytree(tmp_path / "two" / ".taskstore", tmp_path / "one" / "filled")
    there = (tmp_path / "one" / "filled" / "people.jsonl").read_bytes()
    with cloned(tmp_path / "one", directory="filled") as one:
        with pytest.raises(MissingLogError):
            one.store.sync(force=force)
        with pytest.raises(MissingLogError), one.sessions.begin() as session:
            session.get_one(Person, "bug").name = "mine"
        assert ["bug", "db", "ui"] == sorted({row.name for row in one.rows(Person)})
        assert there == one.log("people").read_bytes()
    with cloned(tmp_path / "one") as one:
        assert [] == one.store.sync(force=force).problems
        one.check()
        assert ["bug", "db", "ui"] == people(one)


@pytest.mark.parametrize("force", [False, True])
def test_a_log_whose_older_lines_are_known(one: Clone, force: bool) -> None:
    """A log is ours that changes one record and lacks the other, if it shows a line of theirs."""
    with one.sessions.begin() as session:
        session.add(Person(id="p", name="p"))
    before = one.log("people").read_bytes()
    with one.sessions.begin() as session:
        session.add(Person(id="q", name="q"))
    one.log("people").write_bytes(before)
    one.append("people", {"id": "p", "name": "again", "updated_at": 2**42})
    assert [] == one.store.sync(force=force).problems
    assert {"p": "again"} == {row.id: row.name for row in one.rows(Person)}
    one.check()


def test_a_database_from_a_backup(tmp_path: Path) -> None:
    """An older database gets what the log has since, and keeps its rows."""
    with cloned(tmp_path / "one") as one:
        with one.sessions.begin() as session:
            session.add_all([Person(id="p", name="p"), Person(id="q", name="q")])
        with (
            closing(sqlite3.connect(tmp_path / "one" / "app.db")) as source,
            closing(sqlite3.connect(tmp_path / "backup.db")) as target,
        ):
            source.backup(target)
        with one.sessions.begin() as session:
            session.get_one(Person, "p").name = "new"
            session.delete(session.get_one(Person, "q"))
            session.add(Person(id="r", name="r"))
    shutil.copy(tmp_path / "backup.db", tmp_path / "one" / "app.db")
    with cloned(tmp_path / "one") as one:
        assert [] == one.store.sync().problems
        assert {"p": "new", "r": "r"} == {row.id: row.name for row in one.rows(Person)}
        one.check()


def test_without_our_tables(tmp_path: Path) -> None:
    """A database that lost our tables keeps its rows, and what was not logged among them."""
    with cloned(tmp_path / "one") as one, one.sessions.begin() as session:
        session.add_all([Person(id="p", name="p"), Person(id="q", name="q")])
    with closing(sqlite3.connect(tmp_path / "one" / "app.db")) as database:
        for table in ("record_indexes", "records", "tombstones", "sync_metadata"):
            database.execute(f"DELETE FROM {table}")
        database.execute("INSERT INTO people (id, name, updated_at) VALUES ('own', 'own', 1)")
        database.commit()
    with cloned(tmp_path / "one") as one:
        assert [] == one.store.sync().problems
        assert ["own", "p", "q"] == people(one)
        assert ["own"] == [p.id for p in one.store.verify().problems]


def test_what_another_branch_does_not_have_is_deleted(one: Clone) -> None:
    """Rows that the log held go when an existing log, with others of them, does not have them."""
    with one.sessions.begin() as session:
        session.add(Person(id="p", name="p"))
    before = one.log("people").read_bytes()
    with one.sessions.begin() as session:
        session.add(Person(id="q", name="q"))
    one.log("people").write_bytes(before)
    assert [] == one.store.sync().problems
    assert ["p"] == people(one)
    one.check()


@pytest.mark.parametrize("how", ["removed", "alien"])
def test_prune_accepts_the_log(one: Clone, how: str) -> None:
    """Asked to, a sync gives up the rows that the log does not have."""
    with one.sessions.begin() as session:
        session.add_all([Person(id="p", name="p"), Person(id="q", name="q")])
    one.log("people").unlink()
    if how == "alien":
        one.append("people", {"id": "z", "name": "z", "updated_at": 1})
    assert [] == one.store.sync(prune=True).problems
    assert ([] if how == "removed" else ["z"]) == people(one)
    with one.sessions.begin() as session:
        session.add(Person(id="r", name="r"))
    one.check()


def test_an_open_leaves_the_schema_alone(tmp_path: Path) -> None:
    """A database of the application's is not migrated unless it is said."""
    from taskstore import MigrationRequiredError

    fill(tmp_path)
    engine = engine_of(tmp_path / "app.db")
    with pytest.raises(MigrationRequiredError, match=r"taskstore\.migrations\.upgrade"):
        Store.open(tmp_path / ".taskstore", engine=engine, mirrors=MIRRORS)
    with engine.connect() as connection:
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master").scalars().all()
    assert "records" not in names
    engine.dispose()
