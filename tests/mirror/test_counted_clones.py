"""Clones of a classic application that edit, push, pull and merge by git hold the same objects."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.mirror.clones import cloned
from tests.mirror.graphs import (
    MIRRORS,
    Book,
    Graph,
    Loan,
    Person,
    Tag,
    fill,
    graph,
    numbers,
)
from tests.mirror.pairs import Pair, exchange, paired

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two clones of one repository, each with a database of its own."""
    with paired(tmp_path, lambda first: fill(first, "a"), MIRRORS, Graph) as found:
        yield found


def test_clones_converge(pair: Pair, tmp_path: Path) -> None:
    """Both create, edit and delete at the same time; a third, fresh clone holds the same."""
    one, first, two, second = pair
    assert [] == second.store.sync().problems
    assert graph(first) == graph(second)
    assert numbers(first) == numbers(second)
    with first.sessions.begin() as session:
        chief = session.query(Person).filter_by(name="a chief").one()
        session.add_all([Person(name="one new", chief=chief), Tag(word="one")])
        session.query(Book).filter_by(title="a book").one().title = "a better book"
    with second.sessions.begin() as session:
        session.execute(text("UPDATE persons SET id = 50 WHERE name = 'a chief'"))
        session.expire_all()
        new = Person(name="two new", chief=session.get(Person, 50))
        book = session.query(Book).filter_by(title="a book").one()
        book.owner = new
        book.loans.append(Loan(person=new, times=4))
        session.add(Tag(word="two"))
    exchange(one, first, two, second)
    assert graph(first) == graph(second)
    book = next(row for row in second.rows(Book) if row.title == "a better book")
    assert numbers(second)["two new"] == book.owner_id
    with first.sessions.begin() as session:
        session.execute(text("DELETE FROM loans"))
        gone = session.query(Book).filter_by(title="a better book").one()
        session.execute(text("DELETE FROM covers"))
        session.delete(gone)
        session.flush()
        session.add(Book(title="in its place"))
    with second.sessions.begin() as session:
        session.query(Person).filter_by(name="one new").one().name = "renamed"
    exchange(one, first, two, second)
    assert graph(first) == graph(second)
    assert "renamed" in numbers(first)
    with cloned(two.clone(tmp_path / "three").path, MIRRORS, Graph) as third:
        assert [] == third.store.sync().problems
        assert graph(first) == graph(third)
        third.check()


def test_branches_are_switched(pair: Pair) -> None:
    """The tables follow a checkout there and back, also where a number is used on both branches."""
    one, first, _, _ = pair
    before = graph(first)
    one.git("switch", "-qc", "feature")
    with first.sessions.begin() as session:
        session.add(Person(name="of the branch"))
    after = graph(first)
    one.commit()
    one.git("switch", "-q", "main")
    assert [] == first.store.sync().problems
    assert before == graph(first)
    with first.sessions.begin() as session:
        session.add(Person(name="of main"))
    one.commit()
    between = graph(first)
    for branch, expected in (("feature", after), ("main", between), ("feature", after)):
        one.git("switch", "-q", branch)
        assert [] == first.store.sync().problems
        assert expected == graph(first)
        first.check()
    one.git("merge", "-q", "--no-edit", "main")
    assert [] == first.store.sync().problems
    assert {"of main", "of the branch"} <= numbers(first).keys()
    first.check()
