"""Many-to-many tables, however they are keyed."""

# Each case has a base of its own, which mypy cannot follow.
# mypy: disable-error-code="misc, valid-type"

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, UniqueConstraint, select
from sqlalchemy.orm import Mapped, mapped_column, relationship

from taskstore import mirrored
from tests.mirror.clones import Clone, cloned
from tests.mirror.test_bad_rows import new_base

KEYS: dict[str, Callable[[], list[Any]]] = {
    "primary": list,
    "none": list,
    "constraint": lambda: [
        Column("id", Integer, primary_key=True),
        UniqueConstraint("task", "tag"),
    ],
    "index": lambda: [
        Column("id", Integer, primary_key=True),
        Index("task_tag", "task", "tag", unique=True),
    ],
}


def tagged(keys: str, *more: Any) -> tuple[Any, Any, Table]:
    """Tasks and tags, and a table between them."""
    base = new_base()

    @mirrored("tags")
    class Tag(base):
        __tablename__ = "tags"
        name: Mapped[str] = mapped_column(primary_key=True)
        updated_at: Mapped[int]

    is_primary = keys == "primary"
    links = Table(
        "task_tags",
        base.metadata,
        Column("task", ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=is_primary),
        Column("tag", ForeignKey("tags.name", ondelete="CASCADE"), primary_key=is_primary),
        *KEYS[keys](),
        *more,
    )

    @mirrored("tasks")
    class Task(base):
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(primary_key=True)
        updated_at: Mapped[int]
        tags: Mapped[list[Tag]] = relationship(secondary=links, passive_deletes=True)

    return Task, Tag, links


def pairs(clone: Clone, links: Table) -> list[tuple[str, str]]:
    """The pairs in the table."""
    with clone.engine.connect() as connection:
        found = connection.execute(select(links.c.task, links.c.tag)).all()
    return sorted((task, tag) for task, tag in found)


@pytest.mark.parametrize("keys", KEYS)
def test_pairs_travel(tmp_path: Path, keys: str) -> None:
    """What is tagged and untagged in one clone is so in the other, under whatever local number."""
    task, tag, links = tagged(keys)
    with (
        cloned(tmp_path / "one", [task, tag], task) as one,
        cloned(tmp_path / "two", [task, tag], task) as two,
    ):
        with two.sessions.begin() as session:
            session.add(task(id="0", tags=[tag(name="z")]))
        with two.sessions.begin() as session:
            session.delete(session.get(task, "0"))
            session.delete(session.get(tag, "z"))
        with one.sessions.begin() as session:
            tags = [tag(name=name) for name in "abc"]
            session.add_all([task(id="1", tags=tags), task(id="2", tags=tags[:1])])
        assert {'["1","a"]', '["1","b"]', '["1","c"]', '["2","a"]'} == set(one.told("task_tags"))
        for path in one.store.path.glob("*.jsonl"):
            two.append(path.stem, *path.read_text("utf-8").splitlines(keepends=True))
        assert [] == two.store.sync().problems
        assert pairs(one, links) == pairs(two, links)
        with two.sessions.begin() as session:
            first = session.get_one(task, "1")
            first.tags.remove(next(one for one in first.tags if one.name == "b"))
            session.delete(session.get_one(tag, "c"))
        assert {'["1","a"]', '["2","a"]'} == set(two.told("task_tags"))
        one.take(two)
        assert [] == one.store.sync().problems
        assert [("1", "a"), ("2", "a")] == pairs(one, links) == pairs(two, links)
        one.check()
        two.check()


def test_a_counted_key_is_not_in_the_line(tmp_path: Path) -> None:
    """The number stays with the clone; what else is said of a pair travels."""
    task, tag, links = tagged("constraint", Column("by", String))
    with cloned(tmp_path / "one", [task, tag], task) as one:
        with one.sessions.begin() as session:
            session.add_all(
                [task(id="0", tags=[tag(name="z")]), task(id="1", tags=[tag(name="a")])]
            )
        line = one.told("task_tags")['["1","a"]']
        assert {"id", "task", "tag", "by", "updated_at"} == set(line)
        with one.engine.connect() as connection:
            before = connection.execute(select(links).order_by(links.c.task)).all()
        one.append("task_tags", line | {"by": "bob", "updated_at": line["updated_at"] + 1})
        assert [] == one.store.sync().problems
        with one.engine.connect() as connection:
            after = connection.execute(select(links).order_by(links.c.task)).all()
        assert [row[:3] for row in before] == [row[:3] for row in after]
        assert [None, "bob"] == [row.by for row in after]
        one.check()


def test_pairs_that_may_stand_twice(tmp_path: Path) -> None:
    """Where only a counted key tells rows apart, each has an id of its own."""
    task, tag, links = tagged("none", Column("id", Integer, primary_key=True))
    with (
        cloned(tmp_path / "one", [task, tag], task) as one,
        cloned(tmp_path / "two", [task, tag], task) as two,
    ):
        with one.sessions.begin() as session:
            session.add_all([task(id="1"), tag(name="a")])
            session.flush()
            session.execute(links.insert(), [{"task": "1", "tag": "a"}] * 2)
        assert 2 == len(one.told("task_tags"))
        two.take(one)
        assert [] == two.store.sync().problems
        assert [("1", "a")] * 2 == pairs(two, links)
        one.check()
        two.check()
