"""Where nothing checks foreign keys, rows outlive what they refer to, alike in every clone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.mirror.clones import Clone, cloned
from tests.mirror.graphs import MIRRORS, Book, Graph, Loan, Person, graph, numbers, pull, synced


@pytest.fixture
def application() -> tuple[list[Any], Any]:
    """The models that these tests are about."""
    return MIRRORS, Graph


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Clone, Clone]]:
    """Two clones without foreign keys; a person owns a book, and has borrowed it."""
    with (
        cloned(tmp_path / "one", MIRRORS, Graph, foreign_keys=False) as one,
        cloned(tmp_path / "two", MIRRORS, Graph, foreign_keys=False) as two,
    ):
        with one.sessions.begin() as session:
            person = Person(name="first")
            book = Book(title="book", owner=person, loans=[Loan(person=person, times=2)])
            session.add_all([book, Person(name="below", chief=person)])
        pull(two, one)
        yield one, two


def in_one_go(clone: Clone) -> None:
    with clone.sessions.begin() as session:
        delete(session)
        session.add(Person(id=1, name="second"))


def one_after_the_other(clone: Clone) -> None:
    with clone.sessions.begin() as session:
        delete(session)
    with clone.sessions.begin() as session:
        session.add(Person(id=1, name="second"))


def by_moving(clone: Clone) -> None:
    with clone.sessions.begin() as session:
        session.add(Person(id=9, name="second"))
    with clone.sessions.begin() as session:
        delete(session)
        session.execute(text("UPDATE persons SET id = 1 WHERE id = 9"))


def delete(session: Session) -> None:
    session.execute(text("DELETE FROM persons WHERE id = 1"))


@pytest.mark.parametrize("reuse", [in_one_go, one_after_the_other, by_moving])
def test_a_number_that_rows_refer_to_is_used_again(
    pair: tuple[Clone, Clone], reuse: Callable[[Clone], None]
) -> None:
    """They refer to the new row, as the table says, in every clone."""
    one, two = pair
    reuse(one)
    held = graph(one)
    assert [("Book book", "Person second", 2)] == held["loans"]
    assert {"Person second"} == {owner for _, owner, *_ in held["books"]}
    one.check()
    pull(two, one)
    assert held == graph(one)


def test_a_number_that_rows_refer_to_is_not_given(pair: tuple[Clone, Clone]) -> None:
    """A pulled record does not get the number of a row that is gone while others refer to it."""
    one, two = pair
    with one.sessions.begin() as session:
        delete(session)
    dangling = graph(one)
    with two.sessions.begin() as session:
        session.execute(text("DELETE FROM persons WHERE id = 1"))
        session.execute(text("DELETE FROM loans"))
        session.execute(text("UPDATE books SET owner_id = NULL"))
        session.execute(text("UPDATE persons SET chief_id = NULL"))
    with two.sessions.begin() as session:
        session.add(Person(id=1, name="second"))
    one.append("persons", *two.lines("persons")[-1:])
    synced(one)
    assert 1 != numbers(one)["second"]
    assert dangling["loans"] == graph(one)["loans"]


def test_a_number_is_not_left_for_what_dangles(pair: tuple[Clone, Clone]) -> None:
    """A pulled row whose parent is gone here does not fall to the next row that is added."""
    one, two = pair
    with one.sessions.begin() as session:
        for table in ("loans", "books", "persons"):
            session.execute(text(f"DELETE FROM {table}"))
    with two.sessions.begin() as session:
        session.add(Book(title="late", owner_id=1))
    one.append("books", *two.lines("books")[-1:])
    synced(one)
    with one.sessions.begin() as session:
        session.add(Person(name="second"))
    assert {"second": 1} == numbers(one)
    assert [None] == [owner for _, owner, *_ in graph(one)["books"]]
    one.check()


def test_the_first_rows_of_a_table_refer_to_a_number_that_is_used_again(tmp_path: Path) -> None:
    """They are new, so the table needs no log yet."""
    with cloned(tmp_path / "one", MIRRORS, Graph, foreign_keys=False) as one:
        with one.sessions.begin() as session:
            session.add(Person(name="first"))
        with one.sessions.begin() as session:
            delete(session)
        with one.sessions.begin() as session:
            second = Person(id=1, name="second")
            session.add(Book(title="book", owner=second, loans=[Loan(person=second)]))
        assert [("Book book", "Person second", 1)] == graph(one)["loans"]
        one.check()
