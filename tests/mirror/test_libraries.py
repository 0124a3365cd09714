"""Models are mirrored however they are declared, and with the libraries that applications use."""

# Each case has a base of its own, which mypy cannot follow.
# mypy: disable-error-code="misc, valid-type, name-defined"

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, create_engine, select
from sqlalchemy.exc import SADeprecationWarning
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.orm import (
    Mapped,
    MappedAsDataclass,
    declarative_base,
    declared_attr,
    mapped_column,
    registry,
    relationship,
)
from sqlmodel import SQLModel

from taskstore import mirror_all
from taskstore._mirror.model.registry import registry as mirrors_of
from tests.mirror.clones import Clone, cloned
from tests.mirror.sqlmodels import Hero, Team
from tests.mirror.test_declaration import new_base


@attrs.frozen
class Case:
    """Models of an application: an author, and a book that refers to it.

    Attributes:
        base: What `mirror_all` is given.
        metadata: The tables.
        author, book: The classes. Both have a name; an author has an id, a book an author.
    """

    base: Any
    metadata: MetaData
    author: Any
    book: Any
    key: Callable[[], Any] = lambda: "ada"


class Metadata:
    """Stands in for a base, of which a clone makes the tables."""

    def __init__(self, metadata: MetaData) -> None:
        self.metadata = metadata


def test_sqlmodel(tmp_path: Path) -> None:
    """SQLModel: keys of both kinds, and relationships."""
    with (
        cloned(tmp_path / "one", mirror_all(SQLModel, ids="random"), SQLModel) as one,
        cloned(tmp_path / "two", mirror_all(SQLModel, ids="random"), SQLModel) as two,
    ):
        with one.sessions.begin() as session:
            session.add(Hero(name="b", team=Team(name="t")))
        check_taken(one, two)
        with two.sessions.begin() as session:
            hero = session.scalars(select(Hero)).one()
            assert hero.team is not None
            assert "t" == hero.team.name
            hero.name = "c"
        check_taken(two, one)


def check_taken(one: Clone, other: Clone) -> None:
    """What one clone has is in the other after a sync."""
    other.take(one)
    assert [] == other.store.sync().problems
    one.check()
    other.check()
    assert logged(one) == logged(other)
    assert any(logged(one).values())


def logged(clone: Clone) -> dict[str, Any]:
    """What the tables of a clone hold, as their mirrors read them."""
    found = {}
    with clone.engine.connect() as connection:
        for mirror in mirrors_of(clone.store._context):
            for table in {table for shape in mirror.shapes for table in shape.tables}:
                rows = connection.execute(select(table)).all()
                found[table.name] = sorted(map(repr, rows))
    return found


def flask_sqlalchemy() -> Case:
    db = SQLAlchemy()

    class Author(db.Model):
        id: Mapped[str] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Book(db.Model):
        id = db.Column(db.Integer, primary_key=True)
        name = db.Column(db.String(80), nullable=False)
        author_id = db.Column(db.ForeignKey("author.id"))
        author = db.relationship(Author)

    return Case(db.Model, db.metadata, Author, Book)


@cache
def advanced_alchemy() -> Case:
    with warnings.catch_warnings():
        # It uses what SQLAlchemy 2.1 no longer needs.
        warnings.simplefilter("ignore", SADeprecationWarning)
        from advanced_alchemy.base import BigIntBase, UUIDAuditBase, orm_registry

    class Author(UUIDAuditBase):
        name: Mapped[str]

    class Book(BigIntBase):
        name: Mapped[str]
        author_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Author.id))
        author: Mapped[Any] = relationship(Author)

    return Case(orm_registry, orm_registry.metadata, Author, Book, uuid.uuid4)


def classic() -> Case:
    base: Any = declarative_base()

    class Author(base):
        __tablename__ = "authors"
        id = Column(String, primary_key=True)
        name = Column(String)

    class Book(base):
        __tablename__ = "books"
        id = Column(Integer, primary_key=True)
        name = Column(String)
        author_id = Column(String, ForeignKey("authors.id"))
        author = relationship(Author, backref="books")

    return Case(base, base.metadata, Author, Book)


def dataclasses() -> Case:
    class Base(MappedAsDataclass, new_base()):
        __abstract__ = True

    class Author(Base):
        __tablename__ = "authors"
        id: Mapped[str] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="")

    class Book(Base):
        __tablename__ = "books"
        id: Mapped[int] = mapped_column(init=False, primary_key=True)
        name: Mapped[str] = mapped_column(default="")
        author_id: Mapped[str | None] = mapped_column(ForeignKey("authors.id"), init=False)
        author: Mapped[Any] = relationship(Author, default=None)

    return Case(Base.registry, Base.metadata, Author, Book)


def imperative() -> Case:
    mapped = registry()
    authors = Table(
        "authors",
        mapped.metadata,
        Column("id", String, primary_key=True),
        Column("full name", String, key="name"),
    )
    books = Table(
        "books",
        mapped.metadata,
        Column("id", Integer, primary_key=True),
        Column("title", String),
        Column("author_id", ForeignKey("authors.id")),
    )

    @dataclass
    class Author:
        id: str
        name: str = ""

    @dataclass
    class Book:
        id: int | None = None
        name: str = ""
        author: Author | None = None
        notes: list[str] = field(default_factory=list)

    mapped.map_imperatively(Author, authors)
    mapped.map_imperatively(
        Book, books, properties={"name": books.c.title, "author": relationship(Author)}
    )
    return Case(mapped, mapped.metadata, Author, Book)


def existing(tables: str) -> Any:
    """A database with tables that nobody has declared in Python."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        connection.connection.executescript(tables)
    return engine


TABLES = """
CREATE TABLE author (id TEXT PRIMARY KEY NOT NULL, name VARCHAR(80), seen DATETIME);
CREATE TABLE book (id INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL DEFAULT '', author_id TEXT
  REFERENCES author (id) ON DELETE CASCADE);
"""


def automap() -> Case:
    base: Any = automap_base()
    base.prepare(existing(TABLES))
    return Case(base, base.metadata, base.classes.author, base.classes.book)


def reflected() -> Case:
    base: Any = new_base()
    engine = existing(TABLES)

    class Author(base):
        __table__ = Table("author", base.metadata, autoload_with=engine)

    class Book(base):
        __table__ = Table("book", base.metadata, autoload_with=engine)
        author = relationship(Author)

    return Case(base, base.metadata, Author, Book)


def abstract() -> Case:
    class Named:
        name: Mapped[str] = mapped_column(default="")

        @declared_attr.directive
        def __tablename__(cls: Any) -> str:
            return f"{cls.__name__.lower()}s"

    class Base(new_base()):
        __abstract__ = True

    class Author(Named, Base):
        id: Mapped[str] = mapped_column(primary_key=True)

    class Owned(Base):
        __abstract__ = True

        @declared_attr
        def author_id(cls) -> Mapped[str]:
            return mapped_column(ForeignKey(Author.id))

        @declared_attr
        def author(cls) -> Mapped[Any]:
            return relationship(Author)

    class Book(Named, Owned):
        id: Mapped[int] = mapped_column(primary_key=True)

    return Case(Base.registry, Base.metadata, Author, Book)


def single_table() -> Case:
    base = new_base()

    class Person(base):
        __tablename__ = "people"
        id: Mapped[str] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "p"}  # noqa: RUF012

    class Author(Person):
        name: Mapped[str | None]
        __mapper_args__ = {"polymorphic_identity": "a"}  # noqa: RUF012

    class Book(base):
        __tablename__ = "books"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        author_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
        author: Mapped[Any] = relationship(Author)

    return Case(base, base.metadata, Author, Book)


def joined() -> Case:
    base = new_base()

    class Person(base):
        __tablename__ = "people"
        id: Mapped[str] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "p"}  # noqa: RUF012

    class Author(Person):
        __tablename__ = "authors"
        # Another name than the base's.
        person_id: Mapped[str] = mapped_column(ForeignKey("people.id"), primary_key=True)
        name: Mapped[str]
        __mapper_args__ = {"polymorphic_identity": "a"}  # noqa: RUF012

    class Book(base):
        __tablename__ = "books"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        author_id: Mapped[str] = mapped_column(ForeignKey(Author.person_id))
        author: Mapped[Any] = relationship(Author)

    return Case(base, base.metadata, Author, Book)


@pytest.mark.parametrize(
    "declare",
    [
        flask_sqlalchemy,
        advanced_alchemy,
        classic,
        dataclasses,
        imperative,
        automap,
        reflected,
        abstract,
        single_table,
        joined,
    ],
)
@pytest.mark.parametrize("ids", ["local", "random"])
def test_models_are_mirrored_as_they_are(
    tmp_path: Path, declare: Callable[[], Case], ids: Literal["local", "random"]
) -> None:
    """Rows are added in one clone, read, changed and deleted in the other, and come back."""
    case = declare()
    base = Metadata(case.metadata)
    with (
        cloned(tmp_path / "one", mirror_all(case.base, ids=ids), base) as one,
        cloned(tmp_path / "two", mirror_all(case.base, ids=ids), base) as two,
    ):
        with one.sessions.begin() as session:
            author = case.author(id=case.key(), name="Ada")
            session.add(case.book(name="b", author=author))
            session.add(case.book(name="c", author=author))
        check_taken(one, two)
        with two.sessions.begin() as session:
            book, other = session.scalars(select(case.book).order_by(case.book.name))
            assert "Ada" == book.author.name
            book.name, book.author.name = "x", "Bea"
            session.delete(other)
        check_taken(two, one)
        assert ["x"] == [book.name for book in one.rows(case.book)]


def test_uuids_that_are_stored_as_bytes_are_text_in_lines(tmp_path: Path) -> None:
    """The GUID of advanced-alchemy is binary in SQLite, and readable in the log."""
    case = advanced_alchemy()
    with cloned(tmp_path / "one", mirror_all(case.base), Metadata(case.metadata)) as one:
        with one.sessions.begin() as session:
            author = case.author(name="Ada")
            session.add(case.book(name="b", author=author))
            session.flush()
            id = author.id
        [line] = one.lines(case.author.__tablename__)
        [book] = one.lines(case.book.__tablename__)
        assert (str(id), str(id)) == (line["id"], book["author_id"])


def test_the_session_of_flask_sqlalchemy(tmp_path: Path) -> None:
    """Its scoped session writes the log when a request commits."""
    from taskstore import Store

    db = SQLAlchemy()

    class Page(db.Model):
        id: Mapped[str] = mapped_column(primary_key=True)

    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'app.db'}"
    db.init_app(app)
    with app.app_context():
        db.create_all()
        with Store.open(
            tmp_path / ".taskstore", engine=db.engine, mirrors=mirror_all(db.Model), migrate=True
        ) as store:
            store.attach(db.session)
            db.session.add(Page(id="p"))
            db.session.commit()
            assert ["p"] == [each["id"] for each in store.list("page")]
        db.session.remove()
        db.engine.dispose()
