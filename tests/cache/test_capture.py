"""The database notes each row that a statement changes, however it does so."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore._cache.capture.notes import Notes
from taskstore._cache.capture.triggers import REFUSAL, Capture, Touched, Tracked

SCHEMA = """
CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT UNIQUE, boss TEXT REFERENCES people (id)
  ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE tasks (number INTEGER PRIMARY KEY, uid BLOB NOT NULL UNIQUE, owner TEXT
  REFERENCES people (id) ON DELETE CASCADE ON UPDATE CASCADE, code TEXT);
CREATE UNIQUE INDEX one_code ON tasks (lower(code), owner COLLATE NOCASE DESC) WHERE code <> '';
CREATE TABLE steps (task BLOB REFERENCES tasks (uid) ON DELETE CASCADE, place NUMERIC, note,
  PRIMARY KEY (task, place)) WITHOUT ROWID;
CREATE TABLE words (word TEXT COLLATE NOCASE PRIMARY KEY, "a ""b" INT UNIQUE ON CONFLICT REPLACE);
CREATE TABLE others (id INTEGER PRIMARY KEY, person TEXT
  REFERENCES people (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TRIGGER more AFTER INSERT ON others BEGIN
  UPDATE words SET "a ""b" = NEW.id WHERE word = 'x';
END;
INSERT INTO people VALUES ('a', 'Ann', NULL), ('b', 'Bob', 'a'), ('c', NULL, 'b'),
  ('A', NULL, NULL), ('B', NULL, NULL);
INSERT INTO tasks VALUES (1, x'01', 'a', 'one'), (2, x'02', 'b', 'two'), (3, x'03', NULL, '');
INSERT INTO steps VALUES (x'01', 1, 'n'), (x'01', 1.5, 'n'), (x'02', 1, NULL);
INSERT INTO words VALUES ('x', 1), ('y', 2), ('Z', NULL);
INSERT INTO others VALUES (1, 'a'), (2, 'c');
"""
TABLES = (
    Tracked("people", ("id",)),
    Tracked("Tasks", ("uid",)),
    Tracked("steps", ("task", "place"), "main"),
    Tracked("words", ("word",)),
)
STATEMENTS = [
    "INSERT INTO people VALUES ('d', 'Dan', 'a')",
    "INSERT INTO people SELECT id || '2', NULL, id FROM people",
    "INSERT OR IGNORE INTO people VALUES ('a', 'x', NULL), ('e', 'Eve', NULL)",
    "INSERT INTO people VALUES ('a', 'x', NULL) ON CONFLICT (id) DO UPDATE SET name = 'up'",
    "REPLACE INTO people VALUES ('d', 'Bob', 'a')",
    "INSERT OR REPLACE INTO people VALUES ('a', 'Bob', NULL)",
    "UPDATE people SET name = name || '!'",
    "UPDATE people SET id = 'z' WHERE id = 'a'",
    "UPDATE people SET id = 'C' WHERE id = 'c'",
    "UPDATE OR REPLACE people SET name = 'Ann' WHERE id = 'b'",
    "UPDATE people SET name = 'from ' || id FROM tasks WHERE tasks.owner = people.id",
    "DELETE FROM people WHERE id = 'a'",
    "DELETE FROM people",
    "INSERT INTO tasks (uid) VALUES (x'09')",
    "INSERT OR REPLACE INTO tasks VALUES (1, x'09', 'b', 'new')",
    "INSERT OR REPLACE INTO tasks VALUES (9, x'09', 'A', 'ONE')",
    "UPDATE OR REPLACE tasks SET number = 2 WHERE number = 1",
    "UPDATE OR REPLACE tasks SET rowid = 2 WHERE rowid = 1",
    "UPDATE OR REPLACE tasks SET code = 'TWO', owner = 'B' WHERE number = 1",
    "UPDATE tasks SET uid = x'ff' WHERE number = 3",
    "UPDATE steps SET place = place + 1, task = x'02' WHERE note = 'n'",
    "REPLACE INTO steps VALUES (x'01', 1, 'other')",
    "DELETE FROM steps WHERE place = 1.5",
    "REPLACE INTO words VALUES ('X', 3)",
    "INSERT INTO words VALUES ('new', 1)",
    "UPDATE words SET word = 'X' WHERE word = 'x'",
    'UPDATE words SET "a ""b" = 1 WHERE word = \'z\'',
    "INSERT INTO others VALUES (7, NULL)",
    "INSERT INTO others VALUES (2, NULL) ON CONFLICT DO NOTHING",
    "UPDATE people SET name = NULL RETURNING id",
    "DELETE FROM others",
]

Rows = dict[tuple[int, tuple[Any, ...]], tuple[Any, ...]]


@pytest.fixture
def driver() -> Iterator[sqlite3.Connection]:
    """A connection to the tables."""
    with closing(connected()) as connection:
        yield connection


def connected(path: str | Path = ":memory:", schema: str = SCHEMA) -> sqlite3.Connection:
    """Connect to a database with a schema."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.executescript(schema)
    return connection


def followed(connection: sqlite3.Connection, tables: tuple[Tracked, ...] = TABLES) -> Notes:
    """Make the connection note changes."""
    notes = Notes(Capture(tables), connection)
    assert notes.renew(connection.cursor())
    return notes


def snapshot(connection: sqlite3.Connection) -> Rows:
    """All rows of the tables, by table and stored key."""
    found = {}
    for place, table in enumerate(TABLES):
        key = ", ".join(table.key)
        for row in connection.execute(f"SELECT {key}, * FROM {table.name}"):
            found[place, row[: len(table.key)]] = row
    return found


def check(notes: Notes, connection: sqlite3.Connection, before: Rows) -> None:
    """Every row that differs was noted, and what is noted first tells whether it was there."""
    noted = noted_in(notes, connection)
    after = snapshot(connection)
    differing = {key for key in before | after if before.get(key) != after.get(key)}
    touched = {(place, key) for place, found in noted.items() for key in found.keys}
    assert differing <= touched
    for place, found in noted.items():
        changed = {key for of, key in differing & before.keys() if of == place}
        # A row that takes the place of one with the same key is noted as a new one.
        assert found.existed or changed <= {key for of, key in after if of == place}


def noted_in(notes: Notes, connection: sqlite3.Connection) -> dict[int, Touched]:
    """What was noted, by the place of the table."""
    return notes.touched(connection.cursor())


def keys_in(notes: Notes, connection: sqlite3.Connection) -> set[tuple[Any, ...]]:
    """The keys that were noted, of whichever table."""
    return {key for found in noted_in(notes, connection).values() for key in found.keys}


@pytest.mark.parametrize("recursive", [False, True], ids=["usual", "recursive triggers"])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_changed_row_is_noted(
    driver: sqlite3.Connection, statement: str, *, recursive: bool
) -> None:
    """A statement's own rows, those of cascades and triggers, and those that REPLACE removes."""
    if recursive and statement.startswith("UPDATE OR REPLACE people"):
        # SQLite refuses it by itself where there is any DELETE trigger.
        pytest.skip("SQLite does not do this")
    driver.execute(f"PRAGMA recursive_triggers = {recursive:d}")
    plain = connected()
    expected = plain.execute(statement)
    expected_rows = expected.fetchall()
    notes = followed(driver)
    before = snapshot(driver)
    found = driver.execute(statement)
    assert expected_rows == found.fetchall()
    assert (expected.rowcount, expected.lastrowid) == (found.rowcount, found.lastrowid)
    assert snapshot(plain) == snapshot(driver)
    check(notes, driver, before)
    plain.close()


@given(st.lists(st.sampled_from([*STATEMENTS, "SAVEPOINT s", "ROLLBACK TO s", "RELEASE s"])))
def test_any_sequence_of_statements_is_noted(statements: list[str]) -> None:
    """In one transaction, with savepoints that are rolled back and statements that fail."""
    with closing(connected()) as driver:
        notes = followed(driver)
        before = snapshot(driver)
        driver.execute("BEGIN")
        driver.execute("SAVEPOINT s")
        for statement in statements:
            try:
                driver.execute(statement)
            except sqlite3.Error:
                if not driver.in_transaction:
                    driver.execute("BEGIN")
        check(notes, driver, before)


def test_a_changed_key_is_noted_with_the_former_one(driver: sqlite3.Connection) -> None:
    """Also where a cascade changes it, and where it differs in case alone."""
    notes = followed(driver)
    driver.execute("UPDATE people SET id = 'C' WHERE id = 'c'")
    driver.execute("UPDATE people SET id = 'd' WHERE id = 'C'")
    found = noted_in(notes, driver)[0]
    assert ({("d",): ("c",)}, True) == (found.origins, found.existed)
    assert [("c",), ("C",), ("d",)] == list(found.keys)


def test_what_is_undone_leaves_no_note(driver: sqlite3.Connection) -> None:
    """A savepoint, a transaction, and a statement that fails take their notes along."""
    notes = followed(driver)
    driver.execute("BEGIN")
    driver.execute("SAVEPOINT s")
    driver.execute("DELETE FROM words")
    driver.execute("ROLLBACK TO s")
    with pytest.raises(sqlite3.IntegrityError):
        driver.execute("INSERT INTO people VALUES ('n', 'New', NULL), ('m', 'Ann', NULL)")
    assert {("Ann",)} == set(driver.execute("SELECT name FROM people WHERE id = 'a'"))
    assert {("a",)} >= keys_in(notes, driver)
    driver.execute("INSERT INTO words VALUES ('n', 9)")
    driver.execute("ROLLBACK")
    assert not notes.any(driver.cursor())


def test_the_state_decides_what_a_write_does(driver: sqlite3.Connection) -> None:
    """It is noted, passes without a note, or is refused whatever its conflict clause says."""
    notes = followed(driver)
    notes.turn("paused")
    driver.execute("UPDATE words SET word = word WHERE word = 'x'")
    assert not notes.any(driver.cursor())
    notes.turn("refusing")
    for verb in ("INSERT", "INSERT OR IGNORE", "REPLACE"):
        with pytest.raises(sqlite3.IntegrityError, match=REFUSAL):
            driver.execute(f"{verb} INTO words VALUES ('new', 99)")
    assert "refusing" == notes.state
    notes.turn("noting")
    driver.execute("INSERT INTO words VALUES ('new', 99)")
    assert {("new",)} == keys_in(notes, driver)
    notes.clear(driver.cursor())
    assert not notes.any(driver.cursor())


def test_deleted_rows_are_noted_in_any_state_and_refused_by_a_guard(
    driver: sqlite3.Connection,
) -> None:
    """The guard refuses them in the state for that alone, and can be removed."""
    notes = followed(driver)
    cursor = driver.cursor()
    notes.turn("paused")
    driver.execute("DELETE FROM words WHERE word = 'x'")
    assert ("x",) in keys_in(notes, driver)
    notes.clear(cursor)
    notes.guard(cursor, wanted=True)
    notes.turn("refusing")
    with pytest.raises(sqlite3.IntegrityError, match=REFUSAL):
        driver.execute("DELETE FROM words WHERE word = 'Z'")
    assert not notes.any(cursor)
    notes.guard(cursor, wanted=False)
    driver.execute("DELETE FROM words WHERE word = 'Z'")
    assert ("Z",) in keys_in(notes, driver)


def test_a_table_that_was_made_anew_is_followed_again(driver: sqlite3.Connection) -> None:
    """Its triggers went with it, which can be told; with new unique keys they are other ones."""
    notes = followed(driver)
    assert not notes.renew(driver.cursor())
    driver.executescript(
        """CREATE TABLE tmp (id TEXT PRIMARY KEY, name TEXT, boss TEXT UNIQUE);
        INSERT INTO tmp SELECT * FROM people; DROP TABLE people;
        ALTER TABLE tmp RENAME TO people;"""
    )
    assert frozenset({0}) == notes.lost(driver.cursor())
    assert notes.renew(driver.cursor())
    assert frozenset() == notes.lost(driver.cursor())
    notes.clear(driver.cursor())
    driver.execute("REPLACE INTO people VALUES ('q', 'Bob', 'b')")
    assert {("q",), ("c",)} == keys_in(notes, driver)


def test_a_table_that_comes_later_is_followed(tmp_path: Path) -> None:
    """One that another connection makes, and one of a database that is attached."""
    path = tmp_path / "some.db"
    tables = (Tracked("later", ("id",)), Tracked("aux", ("id",)), Tracked("aux", ("id",), "other"))
    with closing(connected(path, "")) as one, closing(connected(path, "")) as two:
        notes = followed(one, tables)
        two.execute("CREATE TABLE later (id)")
        one.execute("ATTACH ':memory:' AS other")
        one.execute("CREATE TABLE other.aux (id)")
        assert notes.renew(one.cursor())
        one.execute("INSERT INTO later VALUES (1)")
        one.execute("INSERT INTO aux VALUES (2)")
        found = {place: set(some.keys) for place, some in noted_in(notes, one).items()}
        assert {0: {(1,)}, 1: {(2,)}, 2: {(2,)}} == found


def test_a_temporary_table_of_the_same_name_is_not_followed(driver: sqlite3.Connection) -> None:
    """It hides the other one from statements, and from no trigger."""
    driver.execute("CREATE TEMP TABLE people (id TEXT PRIMARY KEY, name TEXT)")
    notes = followed(driver)
    driver.execute("INSERT INTO people VALUES ('t', 'temp')")
    assert not notes.any(driver.cursor())
    driver.execute("REPLACE INTO main.people VALUES ('t', 'Ann', NULL)")
    assert {("a",), ("t",)} <= set(noted_in(notes, driver)[0].keys)


def test_two_captures_do_not_disturb_each_other(driver: sqlite3.Connection) -> None:
    """Each has its names, and what one takes off leaves the other."""
    one, two = followed(driver), followed(driver)
    one.remove(driver.cursor())
    driver.execute("DELETE FROM words WHERE word = 'x'")
    assert {("x",)} == keys_in(two, driver)


@pytest.mark.parametrize("work", [lambda d: None, lambda d: d.execute("DELETE FROM words")])
def test_nothing_is_left_behind(driver: sqlite3.Connection, work: Callable[[Any], Any]) -> None:
    """No trigger and no table; and none was ever in the schema of the application."""
    schema = driver.execute("SELECT * FROM sqlite_master").fetchall()
    notes = followed(driver)
    work(driver)
    assert schema == driver.execute("SELECT * FROM sqlite_master").fetchall()
    notes.remove(driver.cursor())
    assert [] == driver.execute("SELECT * FROM sqlite_temp_master").fetchall()


def test_triggers_of_others_are_told_from_ours(driver: sqlite3.Connection) -> None:
    """Those of the schema, and TEMP ones of the application."""
    notes = followed(driver)
    assert notes.has_others(driver.cursor())
    driver.execute("DROP TRIGGER more")
    assert not notes.has_others(driver.cursor())
    driver.execute("CREATE TEMP TRIGGER mine AFTER INSERT ON words BEGIN SELECT 1; END")
    assert notes.has_others(driver.cursor())
