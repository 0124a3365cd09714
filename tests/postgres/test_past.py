"""The past of records on PostgreSQL, from the logs and git."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select, text

from taskstore import Store, record
from taskstore.errors import RecordNotFoundError, UnsupportedError
from taskstore.models import RecordVersion, StoredRecord
from tests.postgres.clones import Clone
from tests.postgres.models import MIRRORS
from tests.time.histories import run


@record("notes")
class Note:
    """A record of the store."""

    id: str
    body: str = ""
    updated_at: int = 0


@pytest.fixture
def versions(one: Clone) -> Iterator[list[Note]]:
    """Two versions of a note: the first is tagged in git as v1, and the second is committed."""
    run(one.path.parent, "init", "-q")
    first = one.store.create(Note("a", "one"))
    one.store.create(Note("b"))
    one.sql("INSERT INTO tasks (id, title) VALUES ('t', 'task')")
    _commit(one, "first")
    run(one.path.parent, "tag", "v1")
    second = one.store.patch(Note, "a", body="two")
    one.store.delete(Note, "b")
    _commit(one, "second")
    yield [first, second]
    one.check()


def test_a_store_as_it_was(one: Clone, versions: list[Note]) -> None:
    """A store at a revision or a time has everything that was committed until then."""
    first, second = versions
    with one.store.as_of("v1", types=[Note]) as past:
        assert [first, Note("b", updated_at=past.get_one(Note, "b").updated_at)] == past.list(
            Note, order_by="id"
        )
        assert ["task"] == [row["title"] for row in past.list("tasks")]
    third = one.store.patch(Note, "a", body="three")
    for expected in (first, second, third):
        with one.store.as_of(expected.updated_at, types=[Note]) as past:
            assert type(past) is Store
            assert expected == past.get_one(Note, "a")
    with pytest.raises(UnsupportedError, match="mirrors="):
        one.store.as_of("v1", mirrors=MIRRORS)


def test_blame_restore_and_revert(one: Clone, versions: list[Note]) -> None:
    """They read what is committed, in git or only in the database, and write as other calls do."""
    assert ["second"] == [
        found.subject for found in one.store.blame(Note, "a") if found.field == "body"
    ]
    with pytest.raises(RecordNotFoundError):
        one.store.blame(Note, "c")
    one.store.create(Note("c", "gone"))
    one.store.delete(Note, "c")
    assert "gone" == one.store.restore(Note, "c").body
    assert "one" == one.store.restore(Note, "a", at="v1").body
    one.store.save(Note("a", "two"))
    assert [("notes", "a"), ("notes", "b")] == sorted(one.store.revert("HEAD"))
    assert {"a": "one", "b": "", "c": "gone"} == {
        id: line["body"] for id, line in one.told("notes").items()
    }


def test_sessions_that_see_the_past(one: Clone, versions: list[Note]) -> None:
    """They are on SQLite, and have the records of the store and of models."""
    one.store.create(Note("c"))
    with one.store.history_session(Note) as session:
        found = session.scalars(select(RecordVersion.id).where(RecordVersion.collection == "notes"))
        assert ["a", "a", "b", "b", "c"] == sorted(found)
    with one.store.revisions({"old": "v1"}) as both:
        assert ["a", "c", "t"] == sorted(both.scalars(select(StoredRecord.id)))
        assert ["a", "b", "t"] == sorted(both.scalars(text("SELECT id FROM old.records")))


def _commit(clone: Clone, subject: str) -> None:
    clone.work.drain()
    run(clone.path.parent, "add", "-A")
    run(clone.path.parent, "commit", "-qm", subject)
