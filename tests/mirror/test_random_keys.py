"""Keys that a database would count are drawn at random instead, and are the same in all clones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, Sequence, String, Table, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from taskstore import InvalidDeclarationError, UntrackedWriteError, mirrored
from tests.mirror.clones import Clone, cloned


class Own(DeclarativeBase):
    """An application's base."""


@mirrored("nodes", ids="random")
class Node(Own):
    """Something below something of its kind."""

    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    above_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
    below: Mapped[list[Node]] = relationship()
    kind: Mapped[str] = mapped_column(default="node")
    updated_at: Mapped[int]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "node"}  # noqa: RUF012


class Leaf(Node):
    """In a table of its own beside that of its base."""

    __tablename__ = "leaves"
    id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    color: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "leaf"}  # noqa: RUF012


marks = Table(
    "marks",
    Own.metadata,
    Column("number", Integer, Sequence("marks_seq"), primary_key=True),
    Column("word", String),
)
mirrored("marks", ids="random", updated_at=None)(marks)

MIRRORS = [Node, marks]


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """A clone of it."""
    with cloned(tmp_path / "one", MIRRORS, Own) as found:
        yield found


def numbers(clone: Clone) -> list[int]:
    """The keys of all nodes."""
    return [row.id for row in clone.rows(Node)]


def test_clones_agree_on_numbers(clone: Clone, tmp_path: Path) -> None:
    """Rows that two clones add at the same time get different keys, and keep them everywhere."""
    with cloned(tmp_path / "two", MIRRORS, Own) as two:
        for one in (clone, two):
            with one.sessions.begin() as session:
                session.add(Node(name="top", below=[Leaf(color="green"), Node(), Leaf()]))
        assert set(numbers(clone)).isdisjoint(numbers(two))
        two.append("nodes", *clone.lines("nodes"))
        assert [] == two.store.sync().problems
        clone.take(two)
        assert [] == clone.store.sync().problems
        assert 8 == len(numbers(clone))
        assert numbers(clone) == numbers(two)
        assert all(0 < number < 2**53 for number in numbers(two))
        assert [row.above_id for row in clone.rows(Node)] == [
            row.above_id for row in two.rows(Node)
        ]
        clone.check()
        two.check()


def written(clone: Clone, how: str) -> None:
    """Add two rows without a key in one of several ways."""
    table: Any = Node.__table__
    rows = [{"name": "a", "updated_at": 1}, {"name": "b", "updated_at": 2}]
    with clone.sessions.begin() as session:
        if how == "bulk":
            session.bulk_insert_mappings(Node.__mapper__, rows)
        elif how == "returning":
            found = session.scalars(insert(Node).returning(Node.id), rows).all()
            assert set(found) == {int(id) for id in session.scalars(select(Node.id))}
        elif how == "core":
            session.connection().execute(insert(table), rows)
        elif how == "values":
            session.execute(insert(table).values(rows))
        else:
            result: Any = session.execute(insert(table).values(rows[0]))
            assert result.inserted_primary_key == (session.scalars(select(Node.id)).one(),)
            session.execute(insert(table).values(rows[1]))


@pytest.mark.parametrize("how", ["bulk", "returning", "core", "values", "single"])
def test_every_statement_draws_its_numbers(clone: Clone, how: str) -> None:
    """ORM-enabled and Core statements get random keys, and tell them."""
    written(clone, how)
    found = numbers(clone)
    assert 2 == len(set(found))
    assert min(found) > 2
    assert {str(number) for number in found} == set(clone.told("nodes"))
    clone.check()


def test_a_table_with_a_sequence(clone: Clone) -> None:
    """A table is numbered like a class, in place of its Sequence."""
    with clone.engine.begin() as connection:
        connection.execute(insert(marks), [{"word": "a"}, {"word": "b"}])
    with clone.engine.connect() as connection:
        found = {row.number for row in connection.execute(select(marks))}
    assert {str(number) for number in found} == set(clone.told("marks"))
    assert min(found) > 2


@pytest.mark.parametrize("way", ["sqlalchemy", "driver"])
def test_the_database_must_not_count(clone: Clone, way: str) -> None:
    """A row that the database would number is refused; one with a key is not."""
    with pytest.raises(Exception, match="no key|none") as caught, clone.engine.begin() as some:
        sql = "INSERT INTO marks (word) VALUES ('x')"
        if way == "driver":
            some.connection.cursor().execute(sql)
        else:
            some.execute(text(sql))
    if way == "sqlalchemy":
        assert isinstance(caught.value, UntrackedWriteError)
        assert "getrandbits" in str(caught.value)
    with clone.engine.begin() as connection:
        assert [] == connection.execute(select(marks)).all()
        connection.execute(text("INSERT INTO marks (number, word) VALUES (7, 'x')"))
    assert {"7"} == set(clone.told("marks"))


def test_numbers_that_were_there_stay(clone: Clone) -> None:
    """Rows that were counted before keep their numbers, and are changed like any other."""
    clone.store.close()
    with clone.engine.begin() as connection:
        connection.execute(text("INSERT INTO nodes VALUES (1, 'a', NULL, 'node', 1)"))
    with cloned(clone.folder, MIRRORS, Own) as again:
        assert 1 == again.store.export(Node)
        with again.sessions.begin() as session:
            session.add(Node(above_id=1))
        assert [None, 1] == [row.above_id for row in again.rows(Node)]
        assert "1" in again.told("nodes")
        again.check()


def test_only_for_keys_that_are_counted(tmp_path: Path) -> None:
    """Random numbers for a key that nothing counts, or beside key=, are refused."""

    class Base(DeclarativeBase):
        pass

    @mirrored("words", ids="random", updated_at=None)
    class Word(Base):
        __tablename__ = "words"
        id: Mapped[str] = mapped_column(primary_key=True)

    wrong: Any = "randomly"
    with pytest.raises(InvalidDeclarationError, match="already"):
        mirrored("x", key="uid", ids="random")
    with pytest.raises(InvalidDeclarationError, match="local"):
        mirrored("x", ids=wrong)
    with (
        pytest.raises(InvalidDeclarationError, match="numbers"),
        cloned(tmp_path / "one", [Word], Base),
    ):
        pass
