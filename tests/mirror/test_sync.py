"""What changes in the logs is brought to the application's tables."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.mirror.clones import Clone, cloned
from tests.mirror.models import Circle, Figure, Note, Person, Square, Step, Tag, Task


def person(id: str, **values: Any) -> dict[str, Any]:
    """A line of a person."""
    return {"id": id, "name": id, "chief_id": None, "updated_at": 5, **values}


def task(id: str, **values: Any) -> dict[str, Any]:
    """A line of a task."""
    return {"id": id, "title": id, "labels": [], "updated_at": 5, **values}


def tombstone(id: str, updated_at: int = 9) -> dict[str, Any]:
    """A tombstone."""
    return {"id": id, "updated_at": updated_at, "deleted": True}


def test_children_may_come_before_parents(one: Clone) -> None:
    """Rows are inserted whatever the order of the lines, chains and circles among them."""
    people = [person(f"p{n:03}", chief_id=f"p{n + 1:03}") for n in range(100)]
    one.append("people", *people, person("p100", chief_id="p000", favourite_id="a"))
    one.append("tasks", task("a", owner_id="p100"))
    one.append("steps", {"id": '["a",1]', "revision": 1, "updated_at": 5})
    assert [] == one.store.sync().problems
    assert 101 == len(one.rows(Person))
    assert "p100" == one.rows(Task)[0].owner_id
    one.check()


def test_rows_are_updated_and_deleted(one: Clone) -> None:
    """Parents and children that are dead in the log go, and what refers elsewhere stays."""
    one.append("people", person("p"), person("q"))
    one.append("tasks", task("a", owner_id="p"), task("b", owner_id="p"))
    one.append("steps", {"id": '["a",1]', "revision": 1, "updated_at": 5})
    one.store.sync()
    one.append("people", tombstone("p"))
    one.append("tasks", tombstone("a"), task("b", owner_id="q", updated_at=6))
    one.append("steps", tombstone('["a",1]'))
    assert [] == one.store.sync().problems
    assert ["q"] == [row.id for row in one.rows(Person)]
    assert [("b", "q")] == [(row.id, row.owner_id) for row in one.rows(Task)]
    assert [] == one.rows(Step)
    one.check()


def test_a_circle_is_deleted_as_a_whole(one: Clone) -> None:
    """Rows that refer to each other in a circle can all go."""
    one.append("people", person("p", chief_id="q"), person("q", chief_id="p"))
    one.store.sync()
    one.append("people", tombstone("p"), tombstone("q"))
    assert [] == one.store.sync().problems
    assert [] == one.rows(Person)
    one.check()


def test_unique_values_change_places(one: Clone) -> None:
    """Two rows may exchange a unique value, and a new row take that of a dead one."""
    one.append("people", person("p", name="x"), person("q", name="y"), person("r", name="z"))
    one.store.sync()
    one.append(
        "people",
        person("p", name="y", updated_at=6),
        person("q", name="x", updated_at=6),
        tombstone("r"),
        person("s", name="z"),
    )
    assert [] == one.store.sync().problems
    assert {"p": "y", "q": "x", "s": "z"} == {row.id: row.name for row in one.rows(Person)}
    one.check()


def test_what_violates_a_constraint_is_a_problem(one: Clone) -> None:
    """It is reported and tried again by each sync; the rest is taken."""
    one.append("people", person("p"), person("q", name="p"), person("r", chief_id="nobody"))
    one.append("tasks", task("a", owner_id="r"), task("b", owner_id="p"), {"id": "c"})
    found = {(p.collection, p.id) for p in one.store.sync().problems}
    assert {
        ("people", "q"),
        ("people", "r"),
        ("tasks", "a"),
        ("tasks", "c"),
    } == found
    assert ["p"] == [row.id for row in one.rows(Person)]
    assert found == {(p.collection, p.id) for p in one.store.sync().problems}
    assert found == {(p.collection, p.id) for p in one.store.verify().problems}
    one.check()
    with one.sessions.begin() as session:
        session.add(Person(id="nobody", name="Nobody"))
    one.append("people", person("q", name="q", updated_at=7))
    assert {("tasks", "c")} == {(p.collection, p.id) for p in one.store.sync().problems}
    assert ["nobody", "p", "q", "r"] == [row.id for row in one.rows(Person)]
    one.check()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id":"a","title":7,"updated_at":5}', "'title': 7 does not fit"),
        ('{"id":"a","title":null,"labels":[],"updated_at":5}', "NOT NULL"),
        ('{"id":"a","title":"t","labels":[],"updated_at":"9999-12-31T23:59:59.9Z"}', None),
        ('{"id":"a","title":"t","labels":[],"state":3,"updated_at":5}', "'state': 3"),
        ('{"id":"a","title":"t","labels":[],"length":77,"updated_at":5}', None),
        ('{"id":"a","title":"t","labels":18446744073709551616,"updated_at":5}', "beyond 64 bits"),
    ],
)
def test_lines_that_do_not_fit_are_problems(one: Clone, line: str, reason: str | None) -> None:
    """A value that does not fit its column is a problem with its reason, and not a crash."""
    one.append("tasks", line + "\n", task("b"))
    problems = one.store.sync().problems
    assert [reason is not None] == [reason in str(p) for p in problems if reason] or not reason
    assert "b" in [row.id for row in one.rows(Task)]
    one.check()


def test_numbers_beyond_the_database_are_problems(one: Clone) -> None:
    """An integer beyond 64 bits and a wrong key are problems too."""
    one.append("tasks", task("a"))
    one.append(
        "steps",
        {"id": f'["a",{2**70}]', "revision": 1, "updated_at": 5},
        {"id": "no array", "revision": 1, "updated_at": 5},
        {"id": '["a", 1]', "revision": 1, "updated_at": 5},
        {"id": '["a",2]', "number": 3, "revision": 1, "updated_at": 5},
        {"id": '["a",4]', "revision": 2**70, "updated_at": 5},
        {"id": '["a",5]', "revision": 1, "updated_at": 5},
    )
    assert 5 == len(one.store.sync().problems)
    assert [5] == [row.number for row in one.rows(Step)]
    one.check()


def test_a_delete_that_cascades_into_a_foreign_table_is_a_problem(one: Clone) -> None:
    """The row stays for as long as rows of a table that is not mirrored would go with it."""
    one.append("tasks", task("a"))
    one.store.sync()
    with one.sessions.begin() as session:
        session.add(Note(id=1, task_id="a"))
    one.append("tasks", tombstone("a"))
    [problem] = one.store.sync().problems
    assert "'notes'" in problem.reason
    assert ["a"] == [row.id for row in one.rows(Task)]
    one.check()
    with one.sessions.begin() as session:
        session.delete(session.get_one(Note, 1))
    assert [] == one.store.sync().problems
    assert [] == one.rows(Task)
    one.check()


def test_excluded_columns_are_left_alone(one: Clone) -> None:
    """An update by the log leaves what is not in it, and absent keys get their defaults."""
    one.append("tasks", task("a"))
    one.store.sync()
    with one.sessions.begin() as session:
        session.get_one(Task, "a").opened = 9
    one.append("tasks", task("a", title="new", updated_at=6))
    one.store.sync()
    [row] = one.rows(Task)
    assert ("new", 9, "new") == (row.title, row.opened, row.state)


def test_a_forced_sync_mends_rows(one: Clone) -> None:
    """What a foreign program did to the rows is found by verify, and undone by its repair."""
    with one.sessions.begin() as session:
        session.add_all([Tag(name="x"), Tag(name="y"), Person(id="p", name="Ada")])
    with closing(sqlite3.connect(one.folder / "app.db")) as foreign:
        foreign.execute("UPDATE people SET name = 'Eve'")
        foreign.execute("DELETE FROM tags WHERE name = 'x'")
        foreign.commit()
    assert [("people", "p", "row"), ("tags", "x", "row")] == [
        (d.collection, d.id, d.kind) for d in one.store.verify().differences
    ]
    assert one.store.verify(repair=True).repaired
    one.check()
    assert ["Ada"] == [row.name for row in one.rows(Person)]


def test_sessions_see_a_sync(one: Clone, two: Clone) -> None:
    """What another clone wrote is in sessions after a sync, and can be changed there."""
    with one.sessions.begin() as session:
        session.add(Task(id="a", title="one"))
    two.take(one)
    two.store.sync()
    with two.sessions.begin() as session:
        found = session.scalars(select(Task)).one()
        found.title = "two"
    one.take(two)
    one.store.sync()
    assert ["two"] == [row.title for row in one.rows(Task)]
    assert one.dump() == two.dump()


def test_another_class(one: Clone) -> None:
    """A record that was deleted and rebuilt as another class becomes a row of that class."""
    with one.sessions.begin() as session:
        session.add_all([Circle(id="a", radius=1.0), Square(id="b", side=2)])
    one.append("shapes", {"id": "a", "kind": "square", "side": 3, "updated_at": 2**42})
    one.append("shapes", {"id": "b", "kind": "circle", "radius": 4.0, "updated_at": 2**42})
    assert [] == one.store.sync().problems
    with one.sessions() as session:
        assert 3 == session.get_one(Square, "a").side
        assert 4.0 == session.get_one(Circle, "b").radius
    with one.engine.connect() as connection:
        assert ["a"] == connection.exec_driver_sql("SELECT id FROM squares").scalars().all()
    one.check()


def test_another_class_and_what_refers_to_it(tmp_path: Path) -> None:
    """It is not rebuilt where the database would delete rows that refer to it."""
    with cloned(tmp_path / "one") as one, one.sessions.begin() as session:
        session.add(Circle(id="a", radius=1.0))
    with closing(sqlite3.connect(tmp_path / "one" / "app.db")) as database:
        for table, action in (("marks", "CASCADE"), ("signs", "NO ACTION")):
            database.execute(
                f"CREATE TABLE {table} (id REFERENCES figures (id) ON DELETE {action})"
            )
            database.execute(f"INSERT INTO {table} VALUES ('a')")
        database.commit()
    with cloned(tmp_path / "one") as one:
        one.append("shapes", {"id": "a", "kind": "square", "side": 3, "updated_at": 2**42})
        for _ in range(2):
            [problem] = one.store.sync().problems
            assert "rows of 'marks' refer to it" in problem.reason
            assert "shapes.jsonl: a: not applied to the table 'figures'" in str(problem)
            assert ["circle"] == [row.kind for row in one.rows(Figure)]
        with one.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM marks")
        assert [] == one.store.sync().problems
        assert ["square"] == [row.kind for row in one.rows(Figure)]
        one.check()
