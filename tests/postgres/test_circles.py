"""Tables that refer to each other, with constraints that cannot wait for the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, ForeignKey, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from taskstore import mirrored
from tests.postgres.clones import Clone, cloned


class Base(DeclarativeBase):
    """The application's base."""


@mirrored("nodes", updated_at=None)
class Node(Base):
    """Is referred to by leaves."""

    __tablename__ = "nodes"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "node"}  # noqa: RUF012


class Branch(Node):
    """In a table of its own, which refers to leaves and to itself."""

    __tablename__ = "branches"

    id: Mapped[int] = mapped_column(ForeignKey(Node.id, ondelete="CASCADE"), primary_key=True)
    leaf_id: Mapped[str | None] = mapped_column(ForeignKey("leaves.id", use_alter=True))
    next_id: Mapped[int | None] = mapped_column(ForeignKey("branches.id"))

    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_identity": "branch",
        "inherit_condition": id == Node.id,
    }


@mirrored("leaves", updated_at=None)
class Leaf(Base):
    """Is on a node."""

    __tablename__ = "leaves"

    id: Mapped[str] = mapped_column(primary_key=True)
    node_id: Mapped[int] = mapped_column(ForeignKey(Node.id, ondelete="CASCADE"))


@pytest.fixture
def clones(new_database: Callable[[], URL], tmp_path: Path) -> Iterator[tuple[Clone, Clone]]:
    """Two clones of the application."""
    models = [Node, Leaf]
    with (
        cloned(new_database(), tmp_path / "one", models, Base) as one,
        cloned(new_database(), tmp_path / "two", models, Base) as two,
    ):
        yield one, two


def _pull(source: Clone, target: Clone) -> None:
    source.work.drain()
    for path in source.path.glob("*.jsonl"):
        shutil.copy(path, target.path / path.name)
    assert [] == target.store.sync().problems
    target.check()


def test_a_circle_through_the_table_of_a_subclass_travels(clones: tuple[Clone, Clone]) -> None:
    """Rows come that refer to each other, are changed, and go again."""
    one, two = clones
    with one.sessions.begin() as session:
        branches = [Branch() for _ in range(3)]
        session.add_all(branches)
        session.flush()
        session.add_all(Leaf(id=str(place), node_id=one.id) for place, one in enumerate(branches))
        session.flush()
        for place, branch in enumerate(branches):
            branch.leaf_id = str(place)
            branch.next_id = branches[place - 1].id
    _pull(one, two)
    with two.sessions.begin() as session:
        found = session.scalars(select(Branch)).all()
        assert {"0", "1", "2"} == {branch.leaf_id for branch in found}
        assert {branch.id for branch in found} == {branch.next_id for branch in found}
        for branch in found:
            branch.next_id = branch.id
    _pull(two, one)
    with one.sessions.begin() as session:
        found = session.scalars(select(Branch)).all()
        assert [branch.id for branch in found] == [branch.next_id for branch in found]
        for branch in found:
            branch.leaf_id = branch.next_id = None
    with one.sessions.begin() as session:
        for branch in session.scalars(select(Branch)):
            session.delete(branch)
    _pull(one, two)
    assert {} == two.told("nodes") == two.told("leaves")
