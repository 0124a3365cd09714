"""Transactions with many rows, which are read and written in large steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text, update
from sqlalchemy.exc import IntegrityError

from taskstore._cache.rows.rows import Rows
from taskstore._mirror.capture.versions import form_at_end
from taskstore._mirror.model.registry import registry
from taskstore._mirror.tables.encoding import encoded, encoded_row, next_values, own_fields
from taskstore._mirror.tables.stored_rows import StoredRows
from tests.mirror.clones import Clone, cloned
from tests.mirror.models import MIRRORS, Base, Person, Task

MANY = 1201
"""More than are read at once, and more than are written with triggers."""


def filled(clone: Clone, count: int = MANY) -> list[str]:
    """Add tasks in an order that is not that of their ids, and return these."""
    names = [f"t{n * 7919 % count:04}" for n in range(count)]
    with clone.sessions.begin() as session:
        session.add_all([Task(id=name, title="first", labels=[]) for name in names])
    return names


def test_lines_have_the_order_of_their_rows(one: Clone) -> None:
    """Those of tombstones as well, in which order ever the rows are read."""
    names = filled(one)
    assert names == [line["id"] for line in one.lines("tasks")]
    with one.sessions.begin() as session:
        for name in names:
            target = {"name": name}
            if name < "t0600":
                session.execute(text("UPDATE tasks SET title = 'next' WHERE id = :name"), target)
            else:
                session.execute(text("DELETE FROM tasks WHERE id = :name"), target)
    assert names == [line["id"] for line in one.lines("tasks")[MANY:]]
    assert 600 == len(one.told("tasks"))
    one.check()


@pytest.mark.parametrize("fails", [False, True])
def test_triggers_are_there_after_many_rows(one: Clone, fails: bool) -> None:
    """Also if the transaction is rolled back: rows that are written then are noted."""
    filled(one)
    with one.sessions() as session:
        session.execute(update(Task).values(title="second"))
        session.execute(delete(Task).where(Task.id < "t0500"))
        connection = session.connection().connection.driver_connection
        assert connection is not None
        there = "SELECT count(*) FROM sqlite_temp_master WHERE type = 'trigger'"
        before = connection.execute(there).fetchone()
        if fails:
            # Deferred until COMMIT, after the lines were collected.
            session.execute(text("PRAGMA defer_foreign_keys = 1"))
            session.execute(text("UPDATE tasks SET owner_id = 'nobody' WHERE id = 't0900'"))
            with pytest.raises(IntegrityError):
                session.commit()
            session.rollback()
        else:
            session.commit()
        assert before == connection.execute(there).fetchone()
    assert (MANY if fails else MANY - 500) == len(one.told("tasks"))
    with one.sessions.begin() as session:
        session.execute(text("UPDATE tasks SET title = 'third' WHERE id = 't0700'"))
        session.execute(text("DELETE FROM tasks WHERE id = 't0800'"))
    assert "third" == one.told("tasks")["t0700"]["title"]
    assert "t0800" not in one.told("tasks")
    one.check()


def test_a_moved_row_keeps_unknown_keys(one: Clone) -> None:
    """Its old key and its new one are read in different steps."""
    filled(one)
    one.append("tasks", {**one.lines("tasks")[0], "id": "t0000", "extra": 1, "updated_at": 2**42})
    one.store.sync()
    with one.sessions.begin() as session:
        session.execute(text("UPDATE tasks SET title = 'second'"))
        session.execute(text("UPDATE tasks SET id = 'z' WHERE id = 't0000'"))
    assert 1 == one.told("tasks")["z"]["extra"]
    assert MANY == len(one.told("tasks"))
    one.check()


def test_one_update_stamps_all_rows(one: Clone) -> None:
    """Nobody has stamped them: each row, line and record gets the same new version."""
    filled(one)
    before = {id: line["updated_at"] for id, line in one.told("tasks").items()}
    with one.sessions.begin() as session:
        session.execute(text("UPDATE tasks SET title = 'second'"))
    after = {id: line["updated_at"] for id, line in one.told("tasks").items()}
    assert 1 == len(set(after.values()))
    assert all(before[id] < stamp for id, stamp in after.items())
    one.check()


def test_a_table_that_the_driver_made_before_the_transaction(tmp_path: Path) -> None:
    """The schema is compared at each begin, not at the checkout alone."""
    with cloned(tmp_path / "one", MIRRORS, Base) as clone:
        with clone.engine.begin() as connection:
            [(sql,)] = connection.exec_driver_sql(
                "SELECT sql FROM sqlite_master WHERE name = 'people'"
            ).all()
        with clone.engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute("PRAGMA foreign_keys = OFF")
            driver.execute("DROP TABLE people")
            driver.execute(sql)
            with clone.sessions(bind=connection) as session:
                session.add(Person(id="p", name="new"))
                session.commit()
            driver.execute("PRAGMA foreign_keys = ON")
        assert {"p"} == set(clone.told("people"))


JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "a", "é", "\U0001f600", '"', "2024-01-01T00:00:00.000Z"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "updated_at"]), inner, max_size=2)
    ),
    max_leaves=4,
)
STORED = st.none() | st.integers(-(2**63), 2**63 - 1) | st.sampled_from(["", "a", "é", "1", '"'])


@settings(max_examples=300, deadline=None)
@given(
    previous=st.dictionaries(
        st.sampled_from(["title", "labels", "state", "opened", "owner_id", "updated_at", "x"]),
        JSONS,
    ),
    values=st.tuples(STORED, STORED, STORED, STORED),
    labels=JSONS,
)
def test_the_usual_way_gives_what_the_general_one_gives(
    mirror: StoredRows, previous: dict[str, Any], values: tuple[Any, ...], labels: Any
) -> None:
    """Whatever the last line has, and whatever the columns have, where it gives anything."""
    chosen = mirror.beside("records")
    assert chosen is not None
    usual = mirror.usual_lines(chosen)
    assert usual is not None
    columns = dict(zip(["title", "state", "opened", "owner_id"], values, strict=True))
    stored = {"id": "a", "labels": json.dumps(labels), "length": 1, **columns}
    row = [stored[name] for name in chosen.shape.fields]
    line = json.dumps({"id": "a", **previous}, separators=(",", ":"), ensure_ascii=False)
    own = own_fields(line)
    found = usual.next("a", row, line)
    first = usual.new("a", row)
    if found is not None:
        assert own is not None
        general = next_values(mirror.row_of(chosen, "a", ("a",), [*row, None]), own)
        assert encoded(general) == encoded(found)
    if first is not None:
        general_row = mirror.row_of(chosen, "a", ("a",), [*row, None])
        assert encoded_row(general_row, 7) == encoded({**first, "updated_at": 7})


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> StoredRows:
    """The rows of tasks."""
    with cloned(tmp_path_factory.mktemp("mirror") / "one", MIRRORS, Base) as clone:
        [found] = [one for one in registry(clone.store._context) if one.collection == "tasks"]
        return StoredRows(found, clone.engine.dialect)


@settings(max_examples=300, deadline=None)
@given(
    fields=st.dictionaries(st.sampled_from(["id", "x", 'y,"updated_at":1', "updated_at"]), JSONS)
)
def test_the_form_at_the_end_of_a_line(fields: dict[str, Any]) -> None:
    """It is that of the version, if it is told at all."""
    line = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    form = form_at_end(line)
    assert form in (None, type(fields.get("updated_at")))
    assert form in (None, int, str)


def test_tombstones_of_several_versions(one: Clone) -> None:
    """Each has its own, also where another one was there."""
    filled(one, 300)
    context = one.store._context
    with one.sessions.begin() as session:
        session.execute(delete(Task))
    with context.engine.connect() as connection:
        cursor = connection.connection.cursor()
        dead = Rows(cursor, context.models).dead("tasks", [f"t{n:04}" for n in range(300)])
        cursor.close()
    lines = {line["id"]: line["updated_at"] for line in one.lines("tasks") if "deleted" in line}
    assert lines == {id: known.updated_at for id, known in dead.items()}
    assert 300 == len(dead)
    one.check()
