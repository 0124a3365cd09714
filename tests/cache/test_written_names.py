"""What an SQL text is taken to write."""

from __future__ import annotations

import pytest

from taskstore._cache.written_names import written_names

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
}
READS = [
    "SELECT * FROM records JOIN other ON records.id = other.id",
    "SELECT 'DELETE FROM records', \"insert into\" -- UPDATE records",
    "INSERT INTO mine SELECT * FROM records",
    "UPDATE mine SET a = (SELECT a FROM records)",
    "DELETE FROM mine WHERE a IN (SELECT a FROM records)",
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
