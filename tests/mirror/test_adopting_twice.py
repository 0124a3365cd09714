"""Copies of one filled database that are adopted on their own end with one id for each row."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.merge.repositories import Repository
from tests.mirror.adoption import ROWS, execute, filled, forget, ids
from tests.mirror.clones import Clone, cloned, engine_of
from tests.mirror.graphs import MIRRORS, Book, Graph, Person, Tag, graph, numbers, synced

CHANGE = "UPDATE books SET owner_id = 3 WHERE id = 9"

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Clone]:
    """A copy of the database, adopted by an export."""
    with cloned(filled(tmp_path / "one"), MIRRORS, Graph) as clone:
        assert ROWS == clone.store.export()
        yield clone


def test_copies_give_the_same_ids(tmp_path: Path, one: Clone) -> None:
    """Ids follow from the rows: two exports that know nothing of each other agree."""
    with cloned(filled(tmp_path / "two"), MIRRORS, Graph) as two:
        assert ROWS == two.store.export()
        assert ids(one) == ids(two)
        for collection in ("persons", "books", "tags", "loans", "covers", "book_tags"):
            two.append(collection, *one.lines(collection))
        synced(two)
        assert graph(one) == graph(two)
        assert numbers(one) == numbers(two)


def test_ids_of_adopted_rows_sort_by_their_numbers(one: Clone) -> None:
    """They are UUIDs, and come before those of rows that are added later."""
    with one.sessions.begin() as session:
        session.add(Tag(word="later"))
    words = [line["word"] for _, line in sorted(one.told("tags").items())]
    assert ["same", "same", "other", "later"] == words
    assert {"7"} == {id[14] for id in one.told("tags")}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tags SET word = 'changed' WHERE id = 7",
        "UPDATE tags SET id = 8 WHERE id = 7",
    ],
)
def test_other_rows_have_other_ids(tmp_path: Path, one: Clone, change: str) -> None:
    """A value counts, and so does the number."""
    changes = ["DELETE FROM book_tags", change]
    with cloned(filled(tmp_path / "two", *changes), MIRRORS, Graph) as two:
        two.store.export(Tag)
        assert 2 == len(ids(one) & {(name, id) for name, id in ids(two) if name == "tags"})


def test_an_id_is_given_once(one: Clone) -> None:
    """A row that another program adds as one was that has another number now gets its own id."""
    before = one.told("tags")
    with one.sessions.begin() as session:
        session.execute(text("DELETE FROM book_tags"))
    with one.sessions.begin() as session:
        session.execute(text("UPDATE tags SET id = 70 WHERE id = 7"))
    one.store.close()
    execute(one.engine, "INSERT INTO tags VALUES (7, 'other')")
    with cloned(one.folder, MIRRORS, Graph) as again:
        assert 1 == again.store.export(Tag)
        assert before.items() < again.told("tags").items()
        synced(again)
        with again.sessions.begin() as session:
            session.get_one(Tag, 70).word = "changed"
        changed = {id: line["word"] for id, line in again.told("tags").items() if id in before}
        assert ["changed", "same", "same"] == sorted(changed.values())


def test_a_row_that_changed_before_its_first_sync(tmp_path: Path, one: Clone) -> None:
    """It is taken for the record with its number and its title, is kept, and an export decides."""
    with cloned(filled(tmp_path / "two", CHANGE), MIRRORS, Graph) as two:
        two.take(one)
        [problem] = two.store.sync().problems
        [id] = [id for id, line in one.told("books").items() if line["title"] == "atlas"]
        assert id == problem.id
        assert "store.export(Book) writes it" in problem.reason
        assert 1 == two.store.export(Book)
        assert ids(one) == ids(two)
        one.take(two)
        synced(one)
        assert graph(one) == graph(two)
        assert {3} == {row.owner_id for row in one.rows(Book)}


def test_a_row_that_changed_is_given_up(tmp_path: Path, one: Clone) -> None:
    """Pruning takes what the log says of it."""
    with cloned(filled(tmp_path / "two", CHANGE), MIRRORS, Graph) as two:
        two.take(one)
        assert [] != two.store.sync().problems
        assert [] == two.store.sync(prune=True).problems
        assert graph(one) == graph(two)


def test_another_row_with_the_same_number(tmp_path: Path, one: Clone) -> None:
    """Rows that share a number, and no name, are two records."""
    changes = ["INSERT INTO persons VALUES (6, 'mine', NULL, NULL, 1)"]
    with one.sessions.begin() as session:
        session.add(Person(name="theirs"))
    with cloned(filled(tmp_path / "two", *changes), MIRRORS, Graph) as two:
        two.take(one)
        assert [] == two.store.sync().problems
        assert {"chief": 3, "below": 5, "mine": 6, "theirs": 7} == numbers(two)
        assert 1 == two.store.export(Person)
        one.take(two)
        synced(one)
        assert {"chief": 3, "below": 5, "theirs": 6, "mine": 7} == numbers(one)


@pytest.fixture
def repositories(tmp_path: Path) -> tuple[Repository, Repository]:
    """Two clones, each with its own copy of the database, in one of which a book has changed."""
    here = Repository(filled(tmp_path / "here"))
    here.git("init", "-q", "-b", "main")
    here.write("*.jsonl merge=union text eol=lf\n", ".gitattributes")
    here.write("app.db*\n", ".gitignore")
    here.commit("an application")
    here.use_driver()
    there = here.clone(tmp_path / "there")
    filled(there.path, CHANGE)
    for repository in (here, there):
        with cloned(repository.path, MIRRORS, Graph) as clone:
            assert ROWS == clone.store.export()
            repository.commit("adopt")
    return here, there


def merge(here: Repository, there: Repository) -> tuple[Any, set[tuple[str, str]]]:
    """Merge both clones, and return what both hold then, and the ids."""
    there.git("pull", "-q", "--no-rebase", "--no-edit")
    here.git("pull", "-q", "--no-rebase", "--no-edit", str(there.path), "main")
    with (
        cloned(here.path, MIRRORS, Graph) as one,
        cloned(there.path, MIRRORS, Graph) as two,
    ):
        synced(one)
        synced(two)
        assert graph(one) == graph(two)
        assert ids(one) == ids(two)
        return graph(one), ids(one)


@needs_git
def test_two_exports_are_merged(repositories: tuple[Repository, Repository]) -> None:
    """Only the row that differs, and what its id is part of, is there twice."""
    held, known = merge(*repositories)
    assert ["Atlas atlas", "Atlas atlas", "Book book"] == [title for title, *_ in held["books"]]
    assert {"books": 3, "persons": 2, "tags": 3} == {
        name: sum(name == collection for collection, _ in known)
        for name in ("books", "persons", "tags")
    }


@needs_git
def test_one_steps_back_and_takes_the_ids_of_the_other(
    repositories: tuple[Repository, Repository],
) -> None:
    """Without the store's tables its rows are adopted again, by the log of the other."""
    here, there = repositories
    there.git("fetch", "-q")
    there.git("checkout", "-q", "origin/main", "--", ".taskstore")
    engine = engine_of(there.path / "app.db")
    forget(engine)
    engine.dispose()
    with cloned(there.path, MIRRORS, Graph) as two:
        assert ["books"] == [problem.collection for problem in two.store.sync().problems]
        assert 1 == two.store.export()
        synced(two)
    there.commit("adopt again")
    held, known = merge(here, there)
    assert ROWS == len(known)
    assert {"Person chief"} == {owner for _, owner, *_ in held["books"]}
