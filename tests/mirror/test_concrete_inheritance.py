"""With concrete inheritance each class has a table, and a collection, of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import ForeignKey, String, select, update
from sqlalchemy.ext.declarative import AbstractConcreteBase, ConcreteBase
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from taskstore import mirror_all, mirrored
from tests.mirror.clones import cloned


class Base(DeclarativeBase):
    """The application's base."""


class Worker(ConcreteBase, Base):
    """Has rows of its own, and is read with the classes below it."""

    __tablename__ = "workers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    __mapper_args__: Any = {"polymorphic_identity": "worker", "concrete": True}  # noqa: RUF012


class Manager(Worker):
    """All its columns are in a table of its own."""

    __tablename__ = "managers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    car: Mapped[str | None]
    __mapper_args__: Any = {"polymorphic_identity": "manager", "concrete": True}  # noqa: RUF012


class Document(AbstractConcreteBase, Base):
    """Has no rows: it is the union of the classes below it."""

    strict_attrs = True
    title = mapped_column(String)


class Memo(Document):
    """A document that refers to a concrete class."""

    __tablename__ = "memos"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("managers.id"))
    __mapper_args__: Any = {"polymorphic_identity": "memo", "concrete": True}  # noqa: RUF012


class Letter(Document):
    """Another one."""

    __tablename__ = "letters"
    id: Mapped[int] = mapped_column(primary_key=True)
    __mapper_args__: Any = {"polymorphic_identity": "letter", "concrete": True}  # noqa: RUF012


def test_each_class_has_a_collection(tmp_path: Path) -> None:
    """Rows of all classes are written, changed and deleted, and another clone has the same."""
    with (
        cloned(tmp_path / "one", mirror_all(Base), Base) as one,
        cloned(tmp_path / "two", mirror_all(Base), Base) as two,
    ):
        with one.sessions.begin() as session:
            session.add_all([Worker(name="a"), Manager(name="b", car="c"), Manager(name="d")])
            session.flush()
            session.add_all([Memo(title="m", author_id=1), Letter(title="l")])
        with one.sessions.begin() as session:
            for worker in session.scalars(select(Worker)):
                worker.name += "!"
            session.execute(update(Letter).values(title="new"))
            session.delete(session.get_one(Manager, 2))
        names = {name: one.told(name) for name in ("workers", "managers", "memos", "letters")}
        assert ["a!"] == [row["name"] for row in names["workers"].values()]
        assert ["b!"] == [row["name"] for row in names["managers"].values()]
        assert [*names["managers"]] == [row["author_id"] for row in names["memos"].values()]
        assert ["new"] == [row["title"] for row in names["letters"].values()]
        assert ["b!"] == [row["name"] for row in one.store.list("managers")]
        assert 2 == len(one.store.history(Manager, next(iter(names["managers"]))))
        one.check()
        two.take(one)
        assert [] == two.store.sync().problems
        with two.sessions() as session:
            assert {"a!", "b!"} == {worker.name for worker in session.scalars(select(Worker))}
            assert {"m", "new"} == {one.title for one in session.scalars(select(Document))}
        two.check()


def test_a_declaration_is_not_inherited() -> None:
    """A concrete class below a declared one has a collection of its own, too."""

    class Own(DeclarativeBase):
        pass

    @mirrored("top", updated_at=None)
    class Top(Own):
        __tablename__ = "tops"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Below(Top):
        __tablename__ = "belows"
        id: Mapped[int] = mapped_column(primary_key=True)
        __mapper_args__: Any = {"concrete": True}  # noqa: RUF012

    found = {one.target: one.declaration.collection for one in mirror_all(Own)}
    assert {Top: "top", Below: "belows"} == found
