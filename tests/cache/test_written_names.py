"""What an SQL text is taken to write."""

from __future__ import annotations

import pytest

from taskstore._cache.written_names import deletes, set_names, written_names

WRITES = {
    "INSERT INTO records VALUES (1)": "records",
    "insert or ignore into main.Records select 1": "records",
    "REPLACE INTO [records] VALUES (1)": "records",
    "UPDATE OR FAIL `records` SET a = 1": "records",
    'DELETE/**/FROM--x\n"records"': "records",
    "DROP TABLE IF EXISTS records": "records",
    "DROP INDEX main.ix": "ix",
    "ALTER TABLE records RENAME TO mine": "records",
    "CREATE UNIQUE INDEX i ON records (a)": "records",
    "CREATE TRIGGER t AFTER UPDATE ON records BEGIN SELECT 1; END": "records",
    "WITH x AS (SELECT 1) DELETE FROM records": "records",
    'UPDATE "odd ""name" SET a = 1': 'odd "name',
    "UPDATE 'records' SET a = 1": "records",
    "INSERT INTO 'main'.'odd ''name' VALUES (1)": "odd 'name",
}
READS = [
    "SELECT * FROM records JOIN other ON records.id = other.id",
    "SELECT 'DELETE FROM records', \"insert into\" -- UPDATE records",
    "INSERT INTO mine SELECT * FROM records",
    "UPDATE mine SET a = (SELECT a FROM records)",
    "DELETE FROM mine WHERE a IN (SELECT a FROM records)",
    "INSERT INTO mine SELECT 'update', 'delete' FROM records",
    "INSERT INTO mine VALUES (1) ON CONFLICT (a) DO UPDATE SET records = 1",
    "DELETE",
    "",
]


@pytest.mark.parametrize("sql", WRITES)
def test_a_write_is_seen(sql: str) -> None:
    """The table or index that a statement changes is found under any spelling."""
    assert WRITES[sql] in written_names(sql)


@pytest.mark.parametrize("sql", READS)
def test_reading_is_no_write(sql: str) -> None:
    """A statement that only reads a table, or only mentions it, does not write it."""
    assert "records" not in written_names(sql)


SETS = {
    "UPDATE t SET a = 1, B = f(c, d) WHERE e = 2": {"a", "b"},
    'UPDATE t SET "where" = (SELECT x, y WHERE 1), [a] = b': {"where", "a"},
    "UPDATE t SET (a, b) = (SELECT c, d), e = 'x, f = 1 where' RETURNING g, h": {"a", "b", "e"},
    "INSERT INTO t (a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET c = excluded.d, e = 1": {
        "c",
        "e",
    },
    "WITH x AS (SELECT a, b) UPDATE t SET c = 1 FROM x WHERE d, e": {"c"},
    "INSERT INTO t (a, b) SELECT a, b FROM u WHERE 'set a = 1'": set(),
    "DELETE FROM t WHERE a, b": set(),
    "UPDATE t SET 'a' = 1, b = 'c'": {"a", "b"},
}
DELETES = [
    "DELETE FROM t",
    "WITH x AS (SELECT 1) DELETE FROM t",
    "insert or /**/ replace into t values (1)",
    "REPLACE INTO t VALUES (1)",
    "UPDATE OR REPLACE t SET a = 1",
    "DROP TABLE t",
]
KEEPS = [
    "INSERT INTO t VALUES (replace('a', 'b', 'c'), 'delete from t')",
    "UPDATE t SET a = 1 WHERE b OR replace(c, 1, 2)",
]


@pytest.mark.parametrize("sql", SETS)
def test_what_is_set(sql: str) -> None:
    """The columns that get values are found, and those that are only read are not."""
    assert SETS[sql] == set_names(sql)


@pytest.mark.parametrize("sql", [*DELETES, *KEEPS])
def test_what_deletes(sql: str) -> None:
    """A statement that may delete rows is told from one that only has the words for it."""
    assert (sql in DELETES) == deletes(sql)
