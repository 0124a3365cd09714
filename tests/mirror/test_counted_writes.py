"""Counted rows in odd company: triggers, prefixes, rebuilt tables, writes that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from taskstore.models import build_models
from tests.mirror.clones import Clone, cloned
from tests.mirror.graphs import (
    MIRRORS,
    Book,
    Graph,
    Person,
    Tag,
    fill,
    graph,
    pull,
    synced,
)


@pytest.fixture
def application() -> tuple[list[Any], Any]:
    """The models that these tests are about."""
    return MIRRORS, Graph


def test_the_same_reference_again_appends_nothing(one: Clone) -> None:
    """A row whose reference is set to what it is keeps its line and its version."""
    fill(one, "a")
    before = one.lines("books")
    with one.sessions.begin() as session:
        book = session.query(Book).filter_by(title="a book").one()
        session.expire(book)
        book.owner_id = session.query(Person).filter_by(name="a chief").one().id
    assert before == one.lines("books")
    one.check()


def test_what_triggers_add(one: Clone, two: Clone) -> None:
    """Counted rows that a trigger adds are logged, and a sync that fires it again adds no line."""
    for clone in (one, two):
        with clone.engine.begin() as connection:
            connection.execute(
                text(
                    "CREATE TRIGGER tagging AFTER INSERT ON persons BEGIN "
                    "INSERT INTO tags (word) SELECT NEW.name WHERE NOT EXISTS "
                    "(SELECT 1 FROM tags WHERE word = NEW.name); END"
                )
            )
    with one.sessions.begin() as session:
        session.add_all([Person(name="x"), Person(name="y")])
    assert ["x", "y"] == sorted(line["word"] for line in one.told("tags").values())
    two.take(one)
    two.store.sync()
    two.check()
    assert {"x", "y"} == {row.word for row in two.rows(Tag)}


def test_tables_of_ours_with_a_prefix(tmp_path: Path) -> None:
    """Numbers are found where our tables have other names."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    models = [build_models(prefix=f"{name}_") for name in ("a", "b")]
    with (
        cloned(tmp_path / "one", MIRRORS, Graph, models=models[0]) as one,
        cloned(tmp_path / "two", MIRRORS, Graph, models=models[1]) as two,
    ):
        fill(one, "a")
        pull(two, one)


def test_a_table_that_is_rebuilt(one: Clone) -> None:
    """A table that is copied under the same numbers, as a migration does, keeps its ids."""
    fill(one, "a")
    before, lines = graph(one), one.lines("tags")
    with one.engine.begin() as connection:
        connection.execute(text("CREATE TABLE new_tags (id INTEGER PRIMARY KEY, word VARCHAR)"))
        connection.execute(text("INSERT INTO new_tags SELECT id, word FROM tags"))
        connection.execute(text("PRAGMA defer_foreign_keys = ON"))
        connection.execute(text("DELETE FROM book_tags"))
        connection.execute(text("DROP TABLE tags"))
        connection.execute(text("ALTER TABLE new_tags RENAME TO tags"))
    assert lines == one.lines("tags")
    assert before["tags"] == graph(one)["tags"]
    synced(one)
