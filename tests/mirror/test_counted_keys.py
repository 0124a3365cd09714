"""Keys that each database counts for itself stay local, and references to them hold everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update

from tests.mirror.clones import Clone, cloned
from tests.mirror.graphs import (
    MIRRORS,
    Book,
    Cover,
    Graph,
    Person,
    Tag,
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


def test_lines_have_ids(one: Clone) -> None:
    """A line has an id of its own, the number of its creator, and the ids of what it refers to."""
    fill(one, "a")
    people = {line["name"]: line for line in one.told("persons").values()}
    chief, below = people["a chief"], people["a below"]
    assert {"id", "name", "chief_id", "favourite_id", "_number", "updated_at"} == set(chief)
    assert [36, 36] == [len(chief["id"]), len(below["id"])]
    assert chief["id"] == below["chief_id"]
    assert {1, 2} == {chief["_number"], below["_number"]}
    books = {line["title"]: line for line in one.told("books").values()}
    assert books["a atlas"]["id"] == chief["favourite_id"]
    [loan] = one.told("loans").values()
    assert f'["{books["a book"]["id"]}","{below["id"]}"]' == loan["id"]
    [cover] = one.told("covers").values()
    assert books["a book"]["id"] == cover["id"] == cover["book_id"]
    assert books["a atlas"]["id"] == cover["atlas_id"]
    one.check()


def test_clones_agree_whatever_the_numbers(one: Clone, two: Clone, tmp_path: Path) -> None:
    """Two clones that count from 1 at the same time, and a third one, hold the same objects."""
    fill(one, "a")
    fill(two, "b")
    for collection in ("persons", "books", "tags", "loans", "covers", "book_tags"):
        two.append(collection, *one.lines(collection))
    synced(two)
    one.take(two)
    synced(one)
    assert 4 == len(one.rows(Person))
    assert graph(one) == graph(two)
    with cloned(tmp_path / "three", MIRRORS, Graph) as three:
        three.take(two)
        synced(three)
        assert graph(one) == graph(three)
        with three.sessions.begin() as session:
            session.query(Book).filter_by(title="b book").one().owner = None
            session.delete(session.query(Cover).filter_by(color="red").first())
            session.add(Person(name="c", chief=session.query(Person).first()))
        two.take(three)
        synced(two)
        assert graph(two) == graph(three)


def by_name(clone: Clone) -> dict[str, str]:
    """The ids of people by name."""
    return {line["name"]: id for id, line in clone.told("persons").items()}


def of_sql(session: Any) -> None:
    session.execute(text("DELETE FROM persons WHERE name = 'last'"))
    session.execute(text("INSERT INTO persons (name, updated_at) VALUES ('new', 0)"))


def of_orm(session: Any) -> None:
    session.delete(session.query(Person).filter_by(name="last").one())
    session.flush()
    session.add(Person(name="new"))


def of_core(session: Any) -> None:
    session.execute(delete(Person).where(Person.name == "last"))
    session.execute(insert(Person).values(name="new", updated_at=0))


@pytest.mark.parametrize("replace", [of_sql, of_orm, of_core])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_number_that_is_used_again(
    one: Clone, two: Clone, replace: Callable[[Any], None], at_once: bool
) -> None:
    """A new row with the number of a deleted one is a new record, and gets it elsewhere as well."""
    with one.sessions.begin() as session:
        session.add_all([Person(name="first"), Person(name="last")])
    pull(two, one)
    before = by_name(one)
    assert 2 == numbers(one)["last"] == numbers(two)["last"]
    if at_once:
        with one.sessions.begin() as session:
            replace(session)
    else:
        with one.sessions.begin() as session:
            session.execute(delete(Person).where(Person.name == "last"))
        with one.sessions.begin() as session:
            session.add(Person(name="new"))
    assert 2 == numbers(one)["new"]
    after = by_name(one)
    assert {"first", "new"} == after.keys()
    assert before["last"] != after["new"]
    assert before["first"] == after["first"]
    pull(two, one)
    assert numbers(one) == numbers(two)


def test_numbers_that_are_taken(one: Clone, two: Clone) -> None:
    """A record whose number is not free gets the next one, and the others keep theirs."""
    with one.sessions.begin() as session:
        session.add_all([Person(name="a1"), Person(name="a2", id=40)])
    with two.sessions.begin() as session:
        session.add_all([Person(name="b1"), Person(name="b2", id=7)])
    two.append("persons", *one.lines("persons"))
    synced(two)
    assert {"b1": 1, "b2": 7, "a2": 40, "a1": 41} == numbers(two)
    pull(one, two)
    assert {"a1": 1, "a2": 40, "b2": 7, "b1": 41} == numbers(one)


def moved_by_orm(session: Any) -> None:
    session.query(Person).filter_by(name="a chief").one().id = 90


def moved_by_sql(session: Any) -> None:
    session.execute(text("UPDATE persons SET id = 90 WHERE name = 'a chief'"))


@pytest.mark.parametrize("move", [moved_by_orm, moved_by_sql])
def test_another_number_is_the_same_record(
    one: Clone, two: Clone, move: Callable[[Any], None]
) -> None:
    """A key that is changed by hand, and what follows it, changes no line but a stamped one's."""
    fill(one, "a")
    pull(two, one)
    before = {name: len(one.lines(name)) for name in ("persons", "books", "loans")}
    ids = by_name(one)
    with one.sessions.begin() as session:
        move(session)
    assert 90 == numbers(one)["a chief"]
    assert ids == by_name(one)
    after = {name: len(one.lines(name)) for name in before}
    assert after["books"] == before["books"]
    assert after["loans"] == before["loans"]
    one.check()
    with one.sessions.begin() as session:
        session.query(Person).filter_by(name="a chief").one().name = "renamed"
    pull(two, one)
    assert 90 != numbers(two)["renamed"]


def test_numbers_change_places(one: Clone, two: Clone) -> None:
    """Rows that exchange their numbers keep their ids."""
    with one.sessions.begin() as session:
        session.add_all([Tag(word="x"), Tag(word="y")])
    words = {line["word"]: id for id, line in one.told("tags").items()}
    with one.sessions.begin() as session:
        for old, new in ((1, -1), (2, 1), (-1, 2)):
            session.execute(text(f"UPDATE tags SET id = {new} WHERE id = {old}"))
    assert words == {line["word"]: id for id, line in one.told("tags").items()}
    assert 2 == len(one.lines("tags"))
    with one.sessions.begin() as session:
        session.execute(update(Tag).where(Tag.id == 1).values(word="yy"))
    assert "yy" == one.told("tags")[words["y"]]["word"]
    one.check()


def test_what_replaces_a_row(one: Clone) -> None:
    """REPLACE under the same number, and an upsert, change the record that is there."""
    with one.sessions.begin() as session:
        session.add(Tag(word="x"))
    [id] = one.told("tags")
    with one.engine.begin() as connection:
        connection.execute(text("REPLACE INTO tags (id, word) VALUES (1, 'y')"))
    assert {id: "y"} == {id: line["word"] for id, line in one.told("tags").items()}
    with one.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO tags (id, word) VALUES (1, 'z') ON CONFLICT DO UPDATE SET word = 'z'")
        )
    assert {id: "z"} == {id: line["word"] for id, line in one.told("tags").items()}
    one.check()


def test_unique_values_that_are_replaced(one: Clone) -> None:
    """A row that makes way for another one with its name is deleted from the log."""
    with one.sessions.begin() as session:
        session.add_all([Person(name="x"), Person(name="y")])
    before = by_name(one)
    with one.engine.begin() as connection:
        connection.execute(text("REPLACE INTO persons (name, updated_at) VALUES ('x', 1)"))
    after = by_name(one)
    assert before["y"] == after["y"]
    assert before["x"] != after["x"]
    assert {"x": 3, "y": 2} == numbers(one)
    one.check()


def test_nothing_is_left_of_what_is_undone(one: Clone) -> None:
    """Rows that come and go in one transaction, or are rolled back, leave neither line nor id."""
    with one.sessions.begin() as session:
        row = Person(name="x")
        session.add(row)
        session.flush()
        session.delete(row)
    with one.sessions() as session:
        session.add(Person(name="y"))
        session.flush()
        session.rollback()
    with one.sessions.begin() as session:
        session.add(Person(name="z"))
        with session.begin_nested() as nested:
            session.add(Person(name="w"))
            session.flush()
            nested.rollback()
    assert ["z"] == [line["name"] for line in one.lines("persons")]
    with one.engine.connect() as connection:
        assert 1 == len(connection.execute(text("SELECT * FROM mirror_keys")).all())
    one.check()


def test_instances_know_their_versions(one: Clone) -> None:
    """With expire_on_commit=False an instance that other statements changed is not stale."""
    with one.sessions(expire_on_commit=False) as session:
        chief = Person(name="x")
        session.add_all([chief, Person(name="y", chief=chief)])
        session.commit()
        session.execute(text("UPDATE persons SET name = name || '!' WHERE id = 1"))
        session.commit()
        assert "x!" == chief.name
        chief.name = "z"
        session.commit()
    assert {"y", "z"} == by_name(one).keys()
    one.check()


def populated(folder: Path, statements: list[str]) -> None:
    """Fill a database before its tables are mirrored."""
    with cloned(folder, MIRRORS, Graph) as clone:
        clone.store.close()
        with clone.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))


FILLED = [
    "INSERT INTO persons VALUES (3, 'chief', NULL, NULL, 1), (5, 'below', 3, NULL, 1)",
    "INSERT INTO books VALUES (9, 'atlas', 'atlas', 5, 1), (10, 'book', 'book', 3, 1)",
    "INSERT INTO atlases VALUES (9, 4)",
    "INSERT INTO loans VALUES (10, 5, 2), (9, 3, 1)",
    "INSERT INTO covers VALUES (10, 'red', 9)",
    "UPDATE persons SET favourite_id = 10 WHERE id = 3",
]


def test_a_table_that_was_filled_before(tmp_path: Path, two: Clone) -> None:
    """An export gives each row its id, once; what was not exported yet is reported."""
    populated(tmp_path / "one", FILLED)
    with cloned(tmp_path / "one", MIRRORS, Graph) as one:
        problems = " ".join(problem.reason for problem in one.store.verify().problems)
        assert "store.export(Person) writes it" in problems
        assert 7 == one.store.export()
        assert 0 == one.store.export()
        assert {3, 5} == {line["_number"] for line in one.lines("persons")}
        assert () == one.store.verify().problems
        pull(two, one)
        assert numbers(one) == numbers(two) == {"chief": 3, "below": 5}


def test_a_row_is_written_before_the_others_are_exported(tmp_path: Path) -> None:
    """What a new row refers to gets the id that its own export gives it."""
    populated(tmp_path / "one", FILLED)
    with cloned(tmp_path / "one", MIRRORS, Graph) as one:
        with one.sessions.begin() as session:
            session.add(Tag(word="new"))
        assert 7 == one.store.export()
        synced(one)


def test_two_databases_that_were_filled_alike(tmp_path: Path) -> None:
    """The second takes the ids that the first has given, also for rows that look alike."""
    alike = [*FILLED, "INSERT INTO tags VALUES (1, 'same'), (2, 'same'), (3, 'other')"]
    populated(tmp_path / "one", alike)
    populated(tmp_path / "two", alike)
    with (
        cloned(tmp_path / "one", MIRRORS, Graph) as one,
        cloned(tmp_path / "two", MIRRORS, Graph) as two,
    ):
        assert 10 == one.store.export()
        pull(two, one)
        assert 0 == two.store.export()
        assert numbers(one) == numbers(two)
        with two.sessions.begin() as session:
            session.query(Person).filter_by(name="below").one().name = "changed"
        pull(one, two)


def test_circles_are_deleted(one: Clone, two: Clone) -> None:
    """Rows that refer to each other go together, and their numbers are free again."""
    fill(one, "a")
    pull(two, one)
    with one.sessions.begin() as session:
        session.execute(text("PRAGMA defer_foreign_keys = ON"))
        for name in ("book_tags", "loans", "covers", "atlases", "books", "persons"):
            session.execute(text(f"DELETE FROM {name}"))
    assert {} == one.told("persons") | one.told("books") | one.told("loans")
    pull(two, one)
    fill(two, "b")
    pull(one, two)
    assert numbers(one) == numbers(two)


def test_what_is_not_there_is_a_problem(one: Clone, two: Clone) -> None:
    """A row whose parent has not come waits for it, and takes its own number then."""
    fill(one, "a")
    people = one.log("persons").read_bytes()
    two.take(one)
    two.log("persons").unlink()
    assert [] != two.store.sync().problems
    assert [] == two.rows(Book)
    two.log("persons").write_bytes(people)
    synced(two)
    assert graph(one) == graph(two)
    assert numbers(one) == numbers(two)


def test_references_that_nothing_checks(tmp_path: Path) -> None:
    """Without foreign keys a row may refer to what is gone; so it does in other clones."""
    with (
        cloned(tmp_path / "one", MIRRORS, Graph, foreign_keys=False) as one,
        cloned(tmp_path / "two", MIRRORS, Graph, foreign_keys=False) as two,
    ):
        with one.sessions.begin() as session:
            session.add(Book(title="early", owner_id=7))
        fill(one, "a")
        with one.sessions.begin() as session:
            session.execute(text("DELETE FROM persons WHERE name = 'a below'"))
        one.check()
        two.take(one)
        synced(two)
        with one.sessions.begin() as session:
            session.add(Person(id=7, name="late"))
        pull(two, one)
        with two.sessions() as session:
            book = session.scalars(select(Book).where(Book.title == "early")).one()
            assert book.owner is not None
            assert "late" == book.owner.name


def test_pruned(tmp_path: Path, two: Clone) -> None:
    """Pruning removes the rows that no log has."""
    populated(tmp_path / "one", FILLED)
    fill(two, "b")
    with cloned(tmp_path / "one", MIRRORS, Graph) as one:
        one.take(two)
        one.store.sync()
        one.store.sync(prune=True)
        synced(one)
        assert graph(one) == graph(two)
