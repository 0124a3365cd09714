from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, insert, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.orm import Session

from taskstore._cache.engine import functions
from taskstore._cache.engine.guard import GuardedConnection
from taskstore._cache.engine.permission import permitted
from taskstore.errors import UntrackedWriteError
from taskstore.models import DEFAULT, StoredRecord

ROW: dict[str, Any] = {
    "collection": "plans",
    "id": "a",
    "data_json": '{"id":"a"}',
    "updated_at": 0,
    "updated_at_us": 0,
}
INSERT = "INSERT INTO records VALUES ('plans', 'a', '{\"id\":\"a\"}', 0, 0)"


TABLES = DEFAULT.metadata.tables


def driver_of(connection: Connection) -> GuardedConnection:
    """The driver's connection."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, GuardedConnection)
    return driver


def _through_session(connection: Connection, work: Any) -> None:
    with Session(connection) as session:
        work(session)
        session.flush()


WRITES: dict[str, Any] = {
    "core insert": lambda c: c.execute(insert(StoredRecord).values(ROW)),
    "core insert, many": lambda c: c.execute(insert(StoredRecord), [ROW, {**ROW, "id": "b"}]),
    "core update": lambda c: c.execute(update(StoredRecord).values(updated_at=1)),
    "core delete": lambda c: c.execute(TABLES["records"].delete()),
    "upsert": lambda c: c.execute(upsert(StoredRecord).values(ROW).on_conflict_do_nothing()),
    "insert returning": lambda c: c.execute(
        insert(StoredRecord).values(ROW).returning(StoredRecord.id)
    ),
    "text": lambda c: c.execute(text(INSERT.replace(":", r"\:"))),
    "driver SQL": lambda c: c.exec_driver_sql(INSERT),
    "driver cursor": lambda c: c.connection.cursor().execute(INSERT),
    "driver cursor, many": lambda c: c.connection.cursor().executemany(
        "DELETE FROM records WHERE id = ?", [("a",), ("b",)]
    ),
    "driver cursor, script": lambda c: c.connection.cursor().executescript(INSERT),
    "driver connection": lambda c: driver_of(c).execute(INSERT),
    "driver connection, script": lambda c: driver_of(c).executescript(INSERT),
    "replace": lambda c: c.exec_driver_sql(INSERT.replace("INSERT", "REPLACE")),
    "common table expression": lambda c: c.exec_driver_sql(
        "WITH x AS (SELECT 1) DELETE FROM main.records WHERE 1 IN (SELECT * FROM x)"
    ),
    "other case and quotes": lambda c: c.exec_driver_sql('DELETE FROM "ReCoRdS"'),
    "derived tables": lambda c: c.execute(TABLES["record_indexes"].delete()),
    "tombstones": lambda c: c.execute(TABLES["tombstones"].delete()),
    "the version": lambda c: c.exec_driver_sql("DELETE FROM taskstore_version"),
    "a marked text": lambda c: c.exec_driver_sql(f"/* taskstore */ {INSERT}"),
    "unit of work": lambda c: _through_session(c, lambda s: s.add(StoredRecord(**ROW))),
    "bulk_save_objects": lambda c: _through_session(
        c, lambda s: s.bulk_save_objects([StoredRecord(**ROW)])
    ),
    "bulk_insert_mappings": lambda c: _through_session(
        c, lambda s: s.bulk_insert_mappings(StoredRecord, [ROW])
    ),
    "ORM insert": lambda c: _through_session(c, lambda s: s.execute(insert(StoredRecord), [ROW])),
    "drop table": lambda c: c.exec_driver_sql("DROP TABLE record_indexes"),
    "drop by Core": TABLES["record_indexes"].drop,
    "drop index": lambda c: c.exec_driver_sql("DROP INDEX ix_records_order"),
    "rename": lambda c: c.exec_driver_sql("ALTER TABLE records RENAME TO mine"),
    "add column": lambda c: c.exec_driver_sql("ALTER TABLE records ADD COLUMN mine TEXT"),
    "trigger": lambda c: c.exec_driver_sql(
        "CREATE TRIGGER mine AFTER INSERT ON records BEGIN SELECT 1; END"
    ),
    "schema table": lambda c: c.exec_driver_sql("PRAGMA writable_schema = ON"),
}


@pytest.mark.parametrize("path", WRITES)
def test_denies(connection: Connection, path: str) -> None:
    """A write of our tables without permission is refused, whichever way it comes."""
    with pytest.raises(UntrackedWriteError, match=r"Store\.session"):
        WRITES[path](connection)
    assert [] == connection.execute(select(StoredRecord.id)).all()


def test_denies_a_text_that_was_permitted_before(connection: Connection) -> None:
    """A statement that the driver has prepared with permission is refused without."""
    driver = driver_of(connection)
    seen: list[str] = []
    event.listen(
        connection, "after_cursor_execute", lambda c, u, statement, p, x, m: seen.append(statement)
    )
    for round in range(3):
        with permitted(driver, "records"):
            connection.exec_driver_sql(INSERT.replace("'a'", f"'{round}'"))
            connection.exec_driver_sql("DELETE FROM records")
            driver.execute("DELETE FROM records")
        marked = [f"/* taskstore */ {statement}" for statement in seen]
        for statement in [*seen, *marked, "DELETE FROM records"]:
            with pytest.raises(UntrackedWriteError):
                driver.execute(statement)


def test_leaves_other_tables_alone(connection: Connection) -> None:
    """An application's own tables on the same engine are its own affair."""
    connection.exec_driver_sql("CREATE TABLE mine (a TEXT)")
    connection.exec_driver_sql("INSERT INTO mine VALUES ('x')")
    connection.exec_driver_sql("CREATE TEMP TABLE other AS SELECT * FROM mine")
    assert [("x",)] == list(connection.exec_driver_sql("SELECT * FROM other"))
    connection.exec_driver_sql("DROP TABLE mine")


def test_never_affects_reading(connection: Connection) -> None:
    """SELECTs run with and without permission, and their texts may carry our mark."""
    driver = driver_of(connection)
    for statement in (
        "SELECT count(*) FROM records",
        "/* taskstore */ SELECT count(*) FROM records",
    ):
        assert (0,) == driver.execute(statement).fetchone()
        with permitted(driver, "records"):
            assert (0,) == driver.execute(statement).fetchone()


def test_a_trigger_of_another_table_is_denied_too(connection: Connection) -> None:
    """What a trigger writes into our tables is refused with the statement that fires it."""
    connection.exec_driver_sql("CREATE TABLE mine (a TEXT)")
    connection.exec_driver_sql(
        "CREATE TRIGGER t AFTER INSERT ON mine BEGIN DELETE FROM records; END"
    )
    with pytest.raises(UntrackedWriteError):
        connection.exec_driver_sql("INSERT INTO mine VALUES ('x')")


@pytest.mark.parametrize(
    "statement",
    ["COMMIT", " /* x */ commit", "END", "ROLLBACK", "SAVEPOINT mine", "RELEASE x", "BEGIN"],
)
def test_pending_changes_end_with_the_session_only(connection: Connection, statement: str) -> None:
    """While lines wait for the commit, a raw statement cannot end or nest the transaction."""
    driver = driver_of(connection)
    driver.pending = True
    with pytest.raises(UntrackedWriteError, match="session"):
        driver.execute(statement)
    with pytest.raises(UntrackedWriteError):
        driver.executescript(statement)
    assert driver.in_transaction
    with connection.begin_nested():
        connection.execute(select(StoredRecord.id))
    connection.rollback()
    assert not driver.pending


def test_other_errors_stay_what_they_are(connection: Connection) -> None:
    """A statement that fails for reasons of its own raises the driver's error."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        driver_of(connection).execute("SELECT * FROM absent")


def test_a_failed_commit_leaves_no_transaction(engine: Engine) -> None:
    """After a COMMIT that the database refused, nothing is open and nothing is kept."""
    with engine.connect() as connection:
        driver = driver_of(connection)
        connection.exec_driver_sql(
            "CREATE TABLE child (p INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"
        )
        connection.exec_driver_sql("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        connection.commit()
        connection.exec_driver_sql("INSERT INTO child VALUES (7)")
        with pytest.raises(sqlite3.IntegrityError):
            driver.commit()
        assert not driver.in_transaction
    with engine.connect() as connection:
        assert [] == connection.exec_driver_sql("SELECT * FROM child").all()


def test_a_connection_returns_without_transaction(engine: Engine) -> None:
    """What raises before COMMIT cannot leave a transaction open in the pool."""

    def refuse(connection: Connection) -> None:
        raise RuntimeError("no")

    event.listen(engine, "commit", refuse)
    with engine.connect() as connection:
        driver = driver_of(connection)
        with permitted(driver, "records"):
            connection.execute(insert(StoredRecord).values(ROW))
        with pytest.raises(RuntimeError):
            connection.commit()
    assert not driver.in_transaction


class Stop(BaseException):
    """What a signal handler raises."""


def test_an_exception_in_the_authorizer_is_raised_itself(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a signal handler raises there comes out of the statement, not "not authorized"."""
    stop = Stop()

    def interrupted(*_: object) -> int:
        raise stop

    with monkeypatch.context() as patched:
        patched.setattr(GuardedConnection, "_decide", interrupted)
        with pytest.raises(Stop) as caught:
            driver_of(connection).execute("SELECT 1, 2")
    assert stop is caught.value
    assert (3,) == driver_of(connection).execute("SELECT 1 + 2").fetchone()


@pytest.mark.parametrize("fetch", ["fetchone", "fetchmany", "fetchall"])
def test_an_exception_in_a_function_is_raised_itself(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, fetch: str
) -> None:
    """What a signal handler raises in a function of ours comes out of the query, at any row."""
    stop = Stop()
    lines = ["1", '"a"']

    def interrupted(text: str) -> Any:
        if text == lines[1]:
            raise stop
        return text

    driver: Any = engine.raw_connection().dbapi_connection
    monkeypatch.setattr(functions, "FUNCTIONS", (("taskstore_scalar", 1, interrupted),))
    functions.register_functions(driver)
    query = "SELECT taskstore_scalar(value) FROM (SELECT ? AS value UNION ALL SELECT ?)"
    cursor = driver.execute(query, lines)
    with pytest.raises(Stop) as caught:
        for _ in range(2):
            getattr(cursor, fetch)()
    assert stop is caught.value
    assert (3,) == driver.execute("SELECT 1 + 2").fetchone()
