"""Clones of an application that edit, push, pull and merge by git end equal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.merge.repositories import Repository
from tests.mirror.clones import Clone
from tests.mirror.models import Circle, Person, Step, Tag, Task, Thing
from tests.mirror.pairs import Pair, exchange, paired
from tests.mirror.test_flush import EVERYTHING

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two clones of one repository, each with a database of its own."""
    with paired(tmp_path, fill) as found:
        yield found


def fill(first: Clone) -> None:
    """Give the first clone rows of several classes."""
    with first.sessions.begin() as session:
        ada = Person(id="ada", name="Ada")
        session.add_all([ada, Task(id="a", title="A", owner=ada, labels=["x"])])
        session.add(Task(id="b", title="B", tags=[Tag(name="t"), Tag(name="u")]))
        session.add_all([Circle(id="c", radius=1.0), Thing(**EVERYTHING)])


def test_clones_converge(pair: tuple[Repository, Clone, Repository, Clone]) -> None:
    """Edits of the same row, other rows, links, keys and deletions are in both databases."""
    one, first, two, second = pair
    second.store.sync()
    assert first.dump() == second.dump()
    with first.sessions.begin() as session:
        session.get_one(Task, "a").title = "Better"
        session.get_one(Circle, "c").radius = 2.5
        session.add(Step(task_id="a", number=1, text="first"))
        task = session.get_one(Task, "b")
        task.tags = [tag for tag in task.tags if tag.name == "u"]
    with second.sessions.begin() as session:
        task = session.get_one(Task, "a")
        task.state, task.owner = "done", Person(id="bob", name="Bob")
        session.get_one(Person, "ada").id = "countess"
        session.add(Step(task_id="a", number=2, text="second"))
        other = session.get_one(Task, "b")
        other.tags.append(Tag(name="v"))
    exchange(one, first, two, second)
    assert first.dump() == second.dump()
    [task, _] = first.rows(Task)
    assert ("Better", "done", "bob") == (task.title, task.state, task.owner_id)
    assert ['["b","u"]', '["b","v"]'] == sorted(first.told("task_tags"))
    assert {"bob", "countess"} == {row.id for row in first.rows(Person)}
    with first.sessions.begin() as session:
        session.delete(session.get_one(Task, "a"))
    with second.sessions.begin() as session:
        session.get_one(Task, "b").title = "stays"
    exchange(one, first, two, second)
    assert first.dump() == second.dump()
    assert [("b", "stays")] == [(row.id, row.title) for row in second.rows(Task)]
    assert "" == one.git("status", "--porcelain").stdout


def test_branches_are_switched(pair: tuple[Repository, Clone, Repository, Clone]) -> None:
    """The tables follow a checkout there and back, and a branch without a log takes no row."""
    one, first, _, _ = pair
    before = first.dump()
    one.git("switch", "-qc", "feature")
    with first.sessions.begin() as session:
        session.add(Task(id="new", title="New"))
        session.delete(session.get_one(Task, "b"))
    after = first.dump()
    one.commit()
    for branch, expected in (("main", before), ("feature", after), ("main", before)):
        one.git("switch", "-q", branch)
        assert [] == first.store.sync().problems
        assert expected == first.dump()
        first.check()
