"""The triggers see every way to write, and every client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, insert, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from tests.postgres.clones import Clone
from tests.postgres.models import Label, Project, Task


def _added(clone: Clone) -> None:
    with clone.sessions.begin() as session:
        session.add(Task(id="new", title="added"))


def _core(clone: Clone) -> None:
    with clone.engine.begin() as connection:
        connection.execute(insert(Task), [{"id": "new", "title": "x"}, {"id": "more", "title": ""}])
        connection.execute(update(Task).where(Task.id == "a").values(title="changed"))
        connection.execute(delete(Task).where(Task.id == "b"))


def _upserted(clone: Clone) -> None:
    with clone.engine.begin() as connection:
        statement = upsert(Task).values([{"id": "a", "title": "u"}, {"id": "new", "title": "n"}])
        values = {"title": statement.excluded.title}
        connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))


def _merged(clone: Clone) -> None:
    clone.sql(
        "MERGE INTO tasks t USING (VALUES ('a', 'm'), ('new', 'n')) s (id, title) ON t.id = s.id "
        "WHEN MATCHED THEN UPDATE SET title = s.title "
        "WHEN NOT MATCHED THEN INSERT (id, title) VALUES (s.id, s.title)"
    )


def _copied(clone: Clone) -> None:
    driver: Any = clone.engine.raw_connection()
    with driver.cursor() as cursor, cursor.copy("COPY tasks (id, title) FROM STDIN") as copy:
        copy.write_row(("copied", "c"))
    driver.commit()
    driver.close()


def _truncated(clone: Clone) -> None:
    clone.sql("TRUNCATE tasks CASCADE")


def _cascaded(clone: Clone) -> None:
    clone.sql("DELETE FROM projects")


def _key_changed(clone: Clone) -> None:
    clone.sql("UPDATE tasks SET id = 'moved' WHERE id = 'a'")


def _keys_swapped(clone: Clone) -> None:
    clone.sql(
        "ALTER TABLE labelled DROP CONSTRAINT labelled_task_id_fkey",
        "ALTER TABLE tasks DROP CONSTRAINT tasks_pkey",
        "ALTER TABLE tasks ADD CONSTRAINT tasks_pkey PRIMARY KEY (id) DEFERRABLE",
        "UPDATE tasks SET id = CASE id WHEN 'a' THEN 'b' ELSE 'a' END WHERE id IN ('a', 'b')",
    )


def _rolled_back_savepoint(clone: Clone) -> None:
    with clone.sessions.begin() as session:
        session.add(Task(id="kept"))
        session.flush()
        with session.begin_nested() as savepoint:
            session.add(Task(id="undone"))
            session.flush()
            savepoint.rollback()


def _two_phases(clone: Clone) -> None:
    with clone.engine.connect() as connection:
        transaction = connection.begin_twophase("taskstore-test")
        connection.execute(insert(Task).values(id="prepared"))
        transaction.prepare()
        transaction.commit()


def _autocommit(clone: Clone) -> None:
    with clone.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("UPDATE tasks SET title = 'auto'"))


def _relations(clone: Clone) -> None:
    with clone.sessions.begin() as session:
        task = session.get_one(Task, "a")
        task.labels.append(Label(name="urgent"))
        task.project_id = None


WAYS: list[Callable[[Clone], None]] = [
    _added,
    _core,
    _upserted,
    _merged,
    _copied,
    _truncated,
    _cascaded,
    _key_changed,
    _keys_swapped,
    _rolled_back_savepoint,
    _two_phases,
    _autocommit,
    _relations,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
def test_every_way_to_write_reaches_the_log(one: Clone, way: Callable[[Clone], None]) -> None:
    """Whatever writes a row: the tables are what the log says."""
    with one.sessions.begin() as session:
        session.add(Project(id="p", name="P", tasks=[Task(id="a", title="A")]))
        session.add_all([Task(id="b", title="B", labels=[Label(name="l")]), Task(id="c")])
    before = one.told("tasks")
    way(one)
    with one.engine.connect() as connection:
        rows = connection.execute(text("SELECT id, title FROM tasks")).all()
    assert {row[0]: row[1] for row in rows} == {
        id: record["title"] for id, record in one.told("tasks").items()
    }
    assert one.told("tasks") != before
    one.check()


def test_what_triggers_of_the_application_write_comes_last(one: Clone) -> None:
    """A row that a trigger writes once more is in the log as it is in the table."""
    one.sql(
        "CREATE FUNCTION answer() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.title NOT LIKE '%!' THEN UPDATE tasks SET title = NEW.title || '!' "
        "WHERE id = NEW.id; END IF; RETURN NULL; END $$",
        "CREATE TRIGGER answer AFTER INSERT OR UPDATE ON tasks "
        "FOR EACH ROW EXECUTE FUNCTION answer()",
        "INSERT INTO tasks (id, title) VALUES ('a', 'one'), ('b', 'two')",
    )
    assert {"a": "one!", "b": "two!"} == {
        id: record["title"] for id, record in one.told("tasks").items()
    }
    one.sql("UPDATE tasks SET title = 'three' WHERE id = 'a'")
    assert "three!" == one.told("tasks")["a"]["title"]
    one.check()


def test_a_transaction_has_one_line_for_each_record(one: Clone) -> None:
    """Several changes of a row in one transaction make one line; one that cancels out none."""
    one.sql(
        "INSERT INTO tasks (id, title) VALUES ('a', 'one')",
        "UPDATE tasks SET title = 'two'",
        "INSERT INTO tasks (id, title) VALUES ('b', '')",
        "DELETE FROM tasks WHERE id = 'b'",
    )
    assert ["two"] == [line["title"] for line in one.lines("tasks")]
    one.sql("UPDATE tasks SET title = 'three'", "UPDATE tasks SET title = 'two'")
    assert 1 == len(one.lines("tasks"))


def test_every_transaction_has_its_own_line(one: Clone) -> None:
    """Transactions that one drain finds together keep their versions apart."""
    with one.engine.connect() as held:
        # The scribe waits for the table that it must lock first.
        held.execute(text(f"SELECT 1 FROM {one.work.context.outbox.scribe} FOR UPDATE"))
        for title in ("one", "two", "three"):
            one.sql(
                f"INSERT INTO tasks (id, title) VALUES ('a', '{title}') "
                f"ON CONFLICT (id) DO UPDATE SET title = '{title}'"
            )
        held.rollback()
    lines = one.lines("tasks")
    assert ["one", "two", "three"] == [line["title"] for line in lines]
    versions = [line["updated_at"] for line in lines]
    assert sorted(set(versions)) == versions


def test_the_database_stamps_versions(one: Clone) -> None:
    """A change gets a greater version, an unchanged row keeps its own, and a newer one is kept."""
    with one.sessions.begin() as session:
        project = Project(id="p", name="one")
        session.add(project)
        session.flush()
        first = project.updated_at
    one.sql("UPDATE projects SET name = name")
    assert [first] == [line["updated_at"] for line in one.lines("projects")]
    one.sql("UPDATE projects SET name = 'two'")
    one.sql("UPDATE projects SET name = 'three', updated_at = updated_at + 1000000")
    one.sql("UPDATE projects SET name = 'four', updated_at = 5")
    found = [line["updated_at"] for line in one.lines("projects")]
    assert found == sorted(set(found))
    assert found[2] == found[1] + 1_000_000
    assert found[3] == found[2] + 1
    one.check()
