"""Databases that are new, rebuilt or put back keep numbers where they can, and all references."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.mirror.adoption import ROWS, filled, forget, ids
from tests.mirror.clones import Clone, cloned
from tests.mirror.graphs import (
    MIRRORS,
    Book,
    Cover,
    Graph,
    Loan,
    Person,
    fill,
    graph,
    numbers,
    pull,
    synced,
)


@pytest.fixture
def application() -> tuple[list[Any], Any]:
    """The models that these tests are about."""
    return MIRRORS, Graph


def add(session: Session) -> None:
    below = Person(id=40, name="later", chief=session.query(Person).first())
    session.add_all([below, Book(title="later", owner=below, loans=[Loan(person=below)])])


def change(session: Session) -> None:
    session.query(Book).filter_by(title="a book").one().title = "changed"
    session.query(Loan).one().times = 9


def delete(session: Session) -> None:
    session.query(Cover).delete()
    session.query(Loan).delete()
    session.delete(session.query(Book).filter_by(title="a book").one())


def use_a_number_again(session: Session) -> None:
    delete(session)
    session.flush()
    session.add(Book(id=2, title="in its place", owner=session.query(Person).first()))
    last = session.query(Person).filter_by(name="a below").one()
    session.query(Book).update({Book.owner_id: 1})
    session.flush()
    session.delete(last)
    session.flush()
    session.add(Person(name="in their place", chief_id=1))


def exchange_numbers(session: Session) -> None:
    session.execute(text("PRAGMA defer_foreign_keys = ON"))
    for old, new in ((1, -1), (2, 1), (-1, 2)):
        session.execute(text(f"UPDATE tags SET id = {new} WHERE id = {old}"))
        session.execute(text(f"UPDATE book_tags SET tag_id = {new} WHERE tag_id = {old}"))
    session.execute(text("UPDATE tags SET word = word || '!'"))


WORK = [add, change, delete, use_a_number_again, exchange_numbers]


@contextmanager
def put_back(one: Clone, place: Path, work: Callable[[Session], None]) -> Iterator[Clone]:
    """Work in a clone, and open it again on a copy of its database from before."""
    one.store.close()
    one.engine.dispose()
    shutil.copy(one.folder / "app.db", place)
    with cloned(one.folder, MIRRORS, Graph) as later, later.sessions.begin() as session:
        work(session)
    for path in one.folder.glob("app.db*"):
        path.unlink()
    shutil.copy(place, one.folder / "app.db")
    with cloned(one.folder, MIRRORS, Graph, refresh=False) as restored:
        yield restored


@pytest.mark.parametrize("work", WORK)
def test_a_fresh_clone(one: Clone, two: Clone, work: Callable[[Session], None]) -> None:
    """It has the numbers of the clone in which all rows were made."""
    fill(one, "a")
    with one.sessions.begin() as session:
        work(session)
    pull(two, one)
    if work is not exchange_numbers:
        assert numbers(one) == numbers(two)
        assert books(one) == books(two)


def books(clone: Clone) -> dict[str, int]:
    """The keys of books by title."""
    return {row.title: row.id for row in clone.rows(Book)}


def test_a_fresh_clone_of_two_that_counted_alike(one: Clone, two: Clone, tmp_path: Path) -> None:
    """Of two records with one number one gets it, and the references to both hold."""
    fill(one, "a")
    fill(two, "b")
    for name in ("persons", "books", "tags", "loans", "covers", "book_tags"):
        one.append(name, *two.lines(name))
    synced(one)
    with cloned(tmp_path / "three", MIRRORS, Graph) as three:
        pull(three, one)
        assert {1, 2, 3, 4} == set(numbers(three).values())


@pytest.mark.parametrize("work", WORK)
def test_an_older_copy(one: Clone, tmp_path: Path, work: Callable[[Session], None]) -> None:
    """A database that is put back takes from the log what it has missed, under the same numbers."""
    fill(one, "a")
    with (
        put_back(one, tmp_path / "copy.db", work) as restored,
        cloned(tmp_path / "fresh", MIRRORS, Graph) as fresh,
    ):
        synced(restored)
        pull(fresh, restored)
        if work is not exchange_numbers:
            assert numbers(fresh) == numbers(restored)
            assert books(fresh) == books(restored)


@pytest.mark.parametrize("work", WORK)
def test_an_older_copy_is_written_to(
    one: Clone, tmp_path: Path, work: Callable[[Session], None]
) -> None:
    """Rows that are added before it has synced keep their numbers; what it missed gets others."""
    fill(one, "a")
    with put_back(one, tmp_path / "copy.db", work) as restored:
        with restored.sessions.begin() as session:
            chief = Person(id=40, name="mine", chief=session.query(Person).first())
            session.add_all([chief, Book(title="mine", owner=chief)])
        synced(restored)
        assert 40 == numbers(restored)["mine"]
        with cloned(tmp_path / "fresh", MIRRORS, Graph) as fresh:
            pull(fresh, restored)


@pytest.mark.parametrize("work", WORK)
def test_our_tables_are_lost(one: Clone, work: Callable[[Session], None]) -> None:
    """Where they are rebuilt, rows are recognised by what they hold."""
    fill(one, "a")
    with one.sessions.begin() as session:
        work(session)
    before, known, named = graph(one), numbers(one), ids(one)
    one.store.close()
    forget(one.engine)
    with cloned(one.folder, MIRRORS, Graph) as again:
        synced(again)
        assert (before, known, named) == (graph(again), numbers(again), ids(again))


def test_the_whole_database_is_lost(one: Clone) -> None:
    """The log rebuilds it, with the same numbers."""
    fill(one, "a")
    before, known = graph(one), numbers(one)
    one.store.close()
    one.engine.dispose()
    for path in one.folder.glob("app.db*"):
        path.unlink()
    with cloned(one.folder, MIRRORS, Graph) as again:
        synced(again)
        assert (before, known) == (graph(again), numbers(again))


def test_tables_of_the_application_are_emptied(one: Clone) -> None:
    """They are filled again, with the same numbers."""
    fill(one, "a")
    before, known = graph(one), numbers(one)
    one.store.close()
    one.engine.dispose()
    with one.engine.begin() as connection:
        connection.execute(text("UPDATE persons SET favourite_id = NULL"))
        for table in reversed(Graph.metadata.sorted_tables):
            connection.execute(text(f"DELETE FROM {table.name}"))
    with cloned(one.folder, MIRRORS, Graph) as again:
        synced(again)
        assert (before, known) == (graph(again), numbers(again))


def test_an_export_whose_commit_is_lost(tmp_path: Path) -> None:
    """Where a crash takes the ids that an export has given, the log gives them back."""
    filled(tmp_path / "one")
    shutil.copy(tmp_path / "one" / "app.db", tmp_path / "copy.db")
    with cloned(tmp_path / "one", MIRRORS, Graph) as one:
        assert ROWS == one.store.export()
        known, held, named = numbers(one), graph(one), ids(one)
    for path in (tmp_path / "one").glob("app.db*"):
        path.unlink()
    shutil.copy(tmp_path / "copy.db", tmp_path / "one" / "app.db")
    with cloned(tmp_path / "one", MIRRORS, Graph) as restored:
        synced(restored)
        assert 0 == restored.store.export()
        assert (known, held, named) == (numbers(restored), graph(restored), ids(restored))
